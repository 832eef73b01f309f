"""The benchmark of evaluation: its figures agree with each other, and it compares what computes the same."""

import json
from typing import Any

import jax.numpy as jnp
import pytest

from benchmarks import evaluation
from benchmarks.factorised import FactorisedStep
from benchmarks.lengths import log_to_time
from benchmarks.sections import search
from benchmarks.workload import QUICK
from grasp_jax.core.errors import UserError
from grasp_jax.data.split import leave_one_out


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], FactorisedStep]:
    """The record of a quick run, and the model that it was of."""
    out, steps = tmp_path_factory.mktemp("evaluation") / "evaluation.json", []

    def remembered(*arguments: Any) -> FactorisedStep:
        steps.append(FactorisedStep(*arguments))
        return steps[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "FactorisedStep", remembered)
        evaluation.main(
            [
                "--quick",
                "--models=grasp-gru4rec",
                "--full-users=96",
                "--plain-users=2",
                f"--out={out}",
            ]
        )
    return json.loads(out.read_text()), steps[0]


def test_quick_evaluation_figures_agree(evaluated: tuple[dict[str, Any], FactorisedStep]) -> None:
    """The extrapolation would be to other users, or the speed-up not that of the seconds."""
    record = evaluated[0]
    (sampled,), full = record["sampled"], record["full"]
    assert sampled["share_of_epoch"] == pytest.approx(
        sampled["evaluation_seconds"] / sampled["epoch_seconds"]
    )
    assert (
        sampled["users"] == full["users"]
        and sampled["candidates"] == 101
        and sampled["temporary_bytes"] > 0
    )
    ours, plain = full["factorised"], full["as_written"]
    assert (ours["sampled_users"], plain["sampled_users"]) == (96, 2) and 0 <= full[
        "largest_difference"
    ] <= evaluation.PARITY_LIMIT
    assert plain["extrapolated_seconds"] == pytest.approx(full["users"] * plain["seconds_per_user"])
    assert ours["extrapolated_seconds"] == pytest.approx(
        ours["seconds_once"] + full["users"] * ours["seconds_per_user"]
    )
    assert full["speed_up"] == pytest.approx(
        plain["extrapolated_seconds"] / ours["extrapolated_seconds"]
    )
    assert ours["extra_bytes"] > 0 and plain["extra_bytes"] > 0
    assert all(
        len(row) == len(table.header) for table in search.evaluation(record) for row in table.rows
    )


def test_unequal_scores_are_not_timed(
    evaluated: tuple[dict[str, Any], FactorisedStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ways of scoring would be compared that do not compute the same."""
    monkeypatch.setattr(
        evaluation, "holistic_attention", lambda u, v, i, j: jnp.concatenate([i, j, i, j], axis=-1)
    )  # gates of one
    evaluation.plain_scores.clear_cache()
    with pytest.raises(UserError, match="cannot be compared"):
        evaluation.time_full(
            evaluated[1], leave_one_out(log_to_time(quick=True), QUICK.max_length), QUICK, 64, 2
        )
    evaluation.plain_scores.clear_cache()
