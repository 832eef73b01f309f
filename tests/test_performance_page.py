"""The pages of performance: their tables and sentences are those of the records."""

import dataclasses
import json
import pathlib

import pytest

from benchmarks import project, report
from benchmarks.implementations import FORMS
from benchmarks.limits import Limits
from benchmarks.sections import aims, kernel_meaning, meaning
from grasp_jax.report.formats import markdown
from tests.refusal import assert_names, refusal


def test_page_takes_one_table_or_several(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record with several tables would break the page, or show the first alone."""
    table = report.ReportTable("t", "One title", ["a"], [["1"]])
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(
        report,
        "SECTIONS",
        {"cpu": {"x-cpu": lambda record: [table, table]}, "gpu": {"y-gpu": lambda record: table}},
    )
    for name in ("x-cpu", "y-gpu"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert report.page().count(markdown(table)) == 3


def test_records_that_cannot_be_read_are_named(tmp_path: pathlib.Path) -> None:
    """A traceback would not say which of thirty files is at fault; pages without figures would replace those with some."""
    for name in ("nothing", "json", "list", "old", "form"):
        (tmp_path / name).mkdir()
    old = json.loads((report.RESULTS / "step-cpu-256.json").read_text())
    del old["steps"]
    for folder, text in (("json", "x{"), ("list", "[]"), ("old", json.dumps(old))):
        (tmp_path / folder / "step-cpu-256.json").write_text(text)
    (tmp_path / "form" / "memory-cpu.json").write_text('{"machine": "a text"}')
    for folder, parts in (
        ("nothing", ("holds no record", "python -m benchmarks.run --out=")),
        ("json", ("step-cpu-256.json", "no JSON", "run this benchmark again")),
        ("list", ("step-cpu-256.json", "no record of a benchmark")),
        (
            "old",
            ("step-cpu-256.json", "'steps'", "is not as this version writes it", "remove the file"),
        ),
        ("form", ("memory-cpu.json", "is not as this version writes it")),
    ):
        assert_names(refusal(report.main, [f"--results={tmp_path / folder}"]), parts)
        assert not list((tmp_path / folder).glob("*.md"))


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


def test_aims_on_a_gpu_are_compared_with_what_was_measured() -> None:
    """A form would be compared with another run, a change have the wrong sign, or an aim count as reached that is not."""
    seconds = {
        "grasp_jax (packed, factorised)": 5e-4,
        "grasp_jax (kernels=backbone)": 2e-4,
        "grasp_jax (bfloat16)": 4.8e-4,
        "grasp_jax (16 models at once)": 9e-4,
        "packed PyTorch (torch.compile)": 6e-4,
        "packed PyTorch (torch.compile, CUDA graphs)": 3e-4,
        "plain JAX (padded, jitted)": 1e-5,
    }
    rows = [{"name": name, "seconds_per_step": own} for name, own in seconds.items()]
    machine = {"device": "an H100", "commit": "abcdef0" + 33 * "1" + "-dirty"}
    shown = aims.aims({"step-gpu-256": {"steps": rows, "machine": machine}})
    assert shown is not None and "an H100 (commit abcdef0-dirty)" in shown.note
    assert "2 are reached, 3 are not, and 10 are not measured" in shown.note
    beauty = {row[0].removeprefix("Beauty: "): row[2:] for row in shown.rows if "Beauty" in row[0]}
    assert beauty == {
        "a step, our fastest form": ["0.200 ms", "no"],
        "products in bfloat16": ["-20 us", "no"],
        "fused layers, `kernels=backbone`": ["-300 us", "yes"],
        "independent kernels side by side": ["-", "not measured"],
        "16 models at once, over one": ["1.8", "yes"],
        "the fastest packed PyTorch, over our fastest form": ["1.5", "no"],
        "a step of SASRec without text": ["-", "not measured"],
    }
    assert all(row[3] == "not measured" for row in shown.rows if "Beauty" not in row[0])
    assert aims.aims({}) is None


def test_aims_are_of_forms_that_are_timed() -> None:
    """A form with a new name would stay unmeasured on the page for ever."""
    rows = [{"name": f"grasp_jax ({form})", "seconds_per_step": 1.0} for form in FORMS]
    record = {"steps": [{"name": "grasp_jax", "seconds_per_step": 1.0}, *rows]}
    for aim in aims.AIMS:
        if aim.record in aims.STEPS.values() and aim.measure is not aims.packed_pytorch_over_ours:
            assert aim.measure(record) is not None, aim.what
    assert set(aims.NEEDED) <= {name for own in report.SECTIONS.values() for name in own}


def test_page_says_why_an_aim_of_the_step_is_missed() -> None:
    """A reader would take a tie with a good rival for the best that can be, or the reason would stand there after the aim is reached."""
    step, profile = (
        json.loads((report.RESULTS / f"{name}.json").read_text())
        for name in ("step-cpu-256", "profile-cpu")
    )
    found = report.overview.step(step)
    said = report.overview.why_not_twice(found, profile)
    least = project.least_seconds(
        profile["models"][0]["project"], Limits(**profile["limits"]), "float32"
    )
    share = least / profile["models"][0]["seconds_per_step"]
    assert (
        f"{100 * share:.0f} % of our step" in said
        and f"only {found.ratio / share:.2g} times" in said
    )
    assert report.overview.why_not_twice(dataclasses.replace(found, ratio=2.0), profile) == ""
    profile["models"][0]["seconds_per_step"] *= 10  # then nothing speaks against the aim
    assert report.overview.why_not_twice(found, profile) == ""
