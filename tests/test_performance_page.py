"""The pages of performance: their tables and sentences are those of the records."""

import json
import pathlib

import pytest

from benchmarks import report
from benchmarks.sections import kernel_meaning, meaning
from grasp_jax.report.formats import markdown


def test_page_takes_one_table_or_several(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record with several tables would break the page, or show the first alone."""
    table = report.Table("t", "One title", ["a"], [["1"]])
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(
        report,
        "SECTIONS",
        {"cpu": {"x-cpu": lambda record: [table, table]}, "gpu": {"y-gpu": lambda record: table}},
    )
    for name in ("x-cpu", "y-gpu"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert report.page().count(markdown(table)) == 3


def test_committed_performance_pages_are_those_of_the_records() -> None:
    """A figure would stand on a page that no record has, or a sentence contradict its table."""
    for path, text in ((report.FIRST_SCREEN, report.first_screen()), (report.PAGE, report.page())):
        assert path.read_text(encoding="utf-8") == text, "run python -m benchmarks.report"


def test_every_table_has_a_conclusion() -> None:
    """A reader would have to work out from hundreds of figures what a benchmark shows."""
    for sections in report.SECTIONS.values():
        for name, own in report.kept(sections).items():
            assert meaning.meaning(name, own).endswith("."), name


def test_a_conclusion_changes_with_its_record() -> None:
    """A sentence would be repeated after a new measurement that contradicts it."""
    record = json.loads((report.RESULTS / "step-cpu-256.json").read_text())
    assert "give nearly the whole gain" in meaning.step(record)
    record["steps"] = [row for row in record["steps"] if not row["name"].startswith("packed")]
    assert "does not say how much of the gain" in meaning.step(record)
    record = json.loads((report.RESULTS / "retrieval-cpu.json").read_text())
    assert "exact search is the default" in meaning.retrieval(record)
    for row in record["ways"]:
        row["search_seconds"] *= 5 if row["way"] == "exact" else 1
    assert "exact search is the default" not in meaning.retrieval(record)
    record = json.loads((report.RESULTS / "profile-cpu.json").read_text())
    assert "a smaller hidden layer, or bfloat16" in meaning.profile(record)
    for row in (row for model in record["models"] for row in model["stages"]):
        row["share"] = 0.9 if row["stage"] == "backbone" else 0.0
    assert "narrower text vectors hardly help" in meaning.profile(record)
    record = json.loads((report.RESULTS / "gru-gpu.json").read_text())
    record["cases"] = {"training": {"scan": {"median_ms": 1.0}, "kernel": {"median_ms": 2.0}}}
    assert kernel_meaning.gru(record) == "In training no form is faster than the plain scan."


def test_ratio_of_the_first_screen_is_rival_over_ours() -> None:
    """A ratio the wrong way up would show a loss as a lead, or a form of ours stand as a rival."""
    record = json.loads((report.RESULTS / "step-cpu-256.json").read_text())
    names = [row["name"] for row in record["steps"]]
    ours, *rivals = (row["seconds_per_step"] for row in record["steps"])
    shown = report.overview.step(record)
    assert shown.ratio == pytest.approx(min(rivals) / ours)
    assert names[0].startswith("grasp_jax") and shown.ours.startswith(f"{1e3 * ours:.3g}")
    record["steps"].insert(1, {**record["steps"][0], "seconds_per_step": 1e-9})
    assert report.overview.step(record).ratio == shown.ratio
