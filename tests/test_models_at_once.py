"""Many models at once: what is timed is the same models, the curve stops where memory ends, and the figures agree with each other."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks import models_at_once, report
from benchmarks.factorised import ONE, FactorisedStep
from benchmarks.models_at_once import members_of
from benchmarks.sections import training
from grasp_jax.errors import UserError
from grasp_jax.training.members import Member


class Quick(NamedTuple):
    """The record of a quick run, and the steps that it compiled, by the number of models."""

    record: dict[str, Any]
    steps: dict[int, FactorisedStep]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Quick:
    """Of a GRU, which compiles fast."""
    out, steps = tmp_path_factory.mktemp("models") / "models.json", {}

    def remembered(*arguments: Any) -> FactorisedStep:
        return steps.setdefault(len(arguments[-1]), FactorisedStep(*arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models_at_once, "FactorisedStep", remembered)
        models_at_once.main(["--quick", "--models=plain-gru4rec", f"--out={out}"])
    return Quick(json.loads(out.read_text()), steps)


def test_models_are_all_different() -> None:
    """The same model would be trained twice, or three seeds be one; the first must be the one that the rivals are."""
    members = members_of(64)
    assert len(set(members)) == 64 and members[0] == ONE[0] and members[:3] == members_of(3)
    assert len({member.seed for member in members[:3]}) == 3 and len({member.learning_rate for member in members[:4]}) == 4


def test_quick_run_agrees_with_itself(quick: Quick) -> None:
    """The ratios would be of other seconds than those beside them, or the losses not have been compared."""
    (outcome,) = quick.record["models"]
    assert [point["count"] for point in outcome["points"]] == list(models_at_once.QUICK_COUNTS) and outcome["stopped"] is None
    for point in outcome["points"]:
        count, seconds = point["count"], point["seconds_per_step"]
        assert seconds == np.median(point["rounds"]["together"]) and point["seconds_alone"] == np.median(point["rounds"]["alone"])
        assert point["seconds_per_model"] == pytest.approx(seconds / count)
        assert point["over_one"] == pytest.approx(seconds / point["seconds_alone"])
        assert point["over_one_after_another"] == pytest.approx(point["over_one"] / count)
        assert 0 <= point["largest_difference"] < models_at_once.PARITY_LIMIT / 10 * point["difference_of_another_model"]
    memory = [point["memory_bytes"] for point in outcome["points"]]
    assert memory[1] > 1.5 * memory[0] and outcome["points"][1]["needed_bytes"] > 0


def test_other_models_are_not_timed(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of models that learn otherwise than alone would be compared."""
    alone, member = quick.steps[1], members_of(3)[-1]
    right = models_at_once.losses_alone
    for wrong in (Member(member.seed + 1, member.dropout, member.learning_rate), Member(member.seed, member.dropout, 0.1)):
        taken = {member: wrong}
        monkeypatch.setattr(models_at_once, "losses_alone", lambda alone, asked, taken=taken: right(alone, taken.get(asked, asked)))
        del quick.steps[3].state  # from the start again
        quick.steps[3].begin = 0
        with pytest.raises(UserError, match=r"the last of 3 models has losses .* times cannot be compared"):
            models_at_once.measure(alone, quick.steps[3])


def test_curve_stops_where_memory_ends(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark would be killed for memory, and the points before be lost."""
    few, many = (models_at_once.needed_bytes(quick.steps[count].compiled) for count in (1, 3))
    assert 0 < few < many
    monkeypatch.setattr(models_at_once, "measure", lambda alone, together: {"count": len(together.members), "seconds_per_step": 1.0})

    def build(members: Sequence[Member]) -> FactorisedStep:
        return quick.steps[len(members)]

    monkeypatch.setattr(models_at_once, "device_memory", lambda: many)
    points, stopped = models_at_once.curve(build, (1, 3))
    assert [point["count"] for point in points] == [1] and stopped == {"count": 3, "needed_bytes": many, "device_bytes": many}
    monkeypatch.setattr(models_at_once, "device_memory", lambda: few)
    with pytest.raises(UserError, match=r"one model needs .* larger device"):
        models_at_once.curve(build, (1, 3))


def test_where_the_device_fills() -> None:
    """A point of the curve's falling part, or its last one, would be named."""
    points = [{"count": count, "seconds_per_model": own} for count, own in ((1, 4.0), (2, 2.5), (4, 2.1), (8, 2.0), (16, 2.05))]
    assert models_at_once.fills_at(points) == 4
    assert models_at_once.fills_at(points[:1]) is None and models_at_once.fills_at(points[:2]) is None, "it has not filled yet"


def test_record_becomes_a_table_and_a_figure(quick: Quick, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page would lack the curve, show a figure that is not there, or not say where it stopped."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    results, page = tmp_path / "results", tmp_path / "docs" / "performance.md"
    results.mkdir()
    record = json.loads(json.dumps(quick.record))
    record["models"].append({**record["models"][0], "model": "grasp-gru4rec"})
    record["models"][0]["stopped"] = {"count": 64, "needed_bytes": 9e9, "device_bytes": 8e9}
    (results / "models-cpu.json").write_text(json.dumps(record))
    monkeypatch.setattr(report, "RESULTS", results)
    monkeypatch.setattr(report, "PAGE", page)
    report.write()
    text, figure = page.read_text(), page.parent / "figures" / "models-cpu.svg"
    assert "![models-cpu](figures/models-cpu.svg)" in text and "64 of plain-gru4rec need 9.0 GB of 8.0 and were not run" in text
    assert figure.read_text().startswith("<svg") and all(name in figure.read_text() for name in ("plain-gru4rec", "grasp-gru4rec"))
    table = training.models(record)
    assert len(table.rows) == 4 and all(len(row) == len(table.header) for row in table.rows)
    assert models_at_once.show(record["models"][0]).count("plain-gru4rec") == 1
