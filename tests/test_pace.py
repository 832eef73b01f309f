"""Dispatches sized by the clock: results do not depend on it, and a run reacts to a signal in time."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from grasp_jax.config import Config
from grasp_jax.parallel.mesh import replicate
from grasp_jax.training import pace as pace_module
from grasp_jax.training import run_epoch
from grasp_jax.training.epochs import chunks, make_epoch
from grasp_jax.training.loop import train
from grasp_jax.training.pace import GROWTH, Pace
from grasp_jax.training.records import Records
from grasp_jax.training.snapshot import Snapshot, copied, initial_snapshot
from grasp_jax.training.step_bounds import StepBounds
from grasp_jax.trials.run import Prepared, open_run, prepare
from grasp_jax.trials.trial import Trial, make_trial
from tests.command_line import write_dataset
from tests.random_params import random_snapshot

BATCH = 5  # of 60 users: twelve steps an epoch
EPOCHS = 2
SECONDS = 2.5


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("pace")
    config = Config().with_fields(
        {
            "data.path": str(write_dataset(folder / "data")),
            "data.max_length": 12,
            "model.method": "plain,grasp,grasp_plus",
            "model.backbone": "gru4rec",
            "model.features": 8,
            "model.mlp": (8,),
            "model.num_layers": 1,
            "model.dropout": (0.2,),
            "knowledge.encoder": "file",
            "knowledge.num_neighbours": 3,
            "knowledge.item_file": "items.npy",
            "knowledge.user_file": "users.npy",
            "train.seeds": (1,),
            "train.batch_size": BATCH,
            "train.max_epochs": EPOCHS,
            "train.dispatch_seconds": SECONDS,
            "train.shared_negatives": 16,
            "eval.num_negatives": 10,
        }
    )
    return prepare(open_run(config, folder / "run"))


def assert_same_bits(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# With an ID table, and with gates; grasp_plus has both.
@pytest.mark.parametrize(
    "method", ["plain", "grasp", pytest.param("grasp_plus", marks=pytest.mark.slow)]
)
def test_parts_compute_what_the_whole_does(prepared: Prepared, method: str) -> None:
    """A run would depend on how fast the machine was, or on when it was stopped."""
    trial = make_trial(prepared, method, "gru4rec")
    data, put = trial.data, functools.partial(replicate, trial.data.mesh)
    start = random_snapshot(trial.model, trial.replicas, data)
    steps = run_epoch.compile_steps(trial.job, start.state.params)
    chunk = next(chunks(data, make_epoch(data, trial.replicas, 0), 0, 6, equal_sizes=True))
    chunk_step = put(np.int32(0))
    assert steps.draw_inputs is not None
    inputs = steps.draw_inputs(
        data.device, data.tables, chunk.slots, steps.per_replica.keys, chunk_step
    )

    def after(*cuts: int) -> tuple[Any, np.ndarray]:
        state = copied(start.state)  # which is donated
        losses = np.zeros((6, 1), np.float32)
        for first, end in zip((0, *cuts), (*cuts, 6), strict=True):
            bounds = StepBounds(put(np.int32(first)), put(np.int32(end)), inputs)
            given = (
                data.device,
                data.tables,
                chunk.slots,
                steps.per_replica,
                chunk_step,
                None,
                bounds,
            )
            state, found = steps.train_steps(state, *given)
            losses += np.asarray(found)
        return state, losses

    whole, apart = after(), after(1, 4)
    assert (whole[1] > 0).all()
    assert_same_bits(whole, apart)


def trained(trial: Trial, folder: pathlib.Path) -> Snapshot:
    job = dataclasses.replace(trial.job, folder=folder, records=Records(folder / "metrics.jsonl"))
    return train(job, initial_snapshot(trial.model, trial.replicas, trial.data))


class Told(BaseException):
    """In place of the end of the process."""


def test_a_signal_is_answered_in_time_and_changes_nothing(
    prepared: Prepared, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With steps of a second, a scheduler would kill a process that it told to stop; or the run end as another after it.

    The clock is made up: it goes on by a second for each step whose losses are read.
    """
    trial = make_trial(prepared, "plain", "gru4rec")
    undisturbed = trained(trial, tmp_path / "whole")
    read, clock, told_at, real = [], [0.0], [0], Pace.done

    def done(self: Pace, steps: int) -> None:
        clock[0] += steps
        read.append(steps)
        real(self, steps)
        if sum(read) >= 7 and not told_at[0]:
            told_at[0] = sum(read)
            run_epoch.PREEMPTION.requested = True

    def stop(saved: str) -> None:
        raise Told(saved)

    monkeypatch.setattr(pace_module, "_clock", lambda: clock[0])
    monkeypatch.setattr(Pace, "done", done)
    monkeypatch.setattr(run_epoch.PREEMPTION, "stop", stop)
    monkeypatch.setattr(run_epoch.PREEMPTION, "requested", False)
    with pytest.raises(Told, match="after 0 epochs and") as ended:
        trained(trial, tmp_path / "told")
    assert max(read) <= SECONDS
    assert 0 < sum(read) - told_at[0] <= 10
    assert f"and {sum(read)} steps" in str(ended.value)
    monkeypatch.undo()
    assert_same_bits(undisturbed, trained(trial, tmp_path / "told"))
    losses = [
        [line["loss"] for line in Records(tmp_path / name / "metrics.jsonl").read()]
        for name in ("whole", "told")
    ]
    assert len(losses[0]) == EPOCHS and losses[0] == losses[1]


def test_pace_follows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dispatches would stay short where steps are fast, grow by one lucky measurement, or stay long where a machine becomes slow."""
    clock = [0.0]
    monkeypatch.setattr(pace_module, "_clock", lambda: clock[0])
    pace = Pace(512, SECONDS)
    pace.begin()

    def proposed(steps: int, seconds: float) -> int:
        clock[0] += seconds
        pace.done(steps)
        return pace.proposed

    assert pace.steps == 1
    assert proposed(1, 0.01) == GROWTH and proposed(4, 0.04) == GROWTH**2
    assert proposed(256, 2.56) == 250
    assert proposed(250, 0.0) == 512
    assert proposed(512, 51.2) == 25
    assert proposed(25, 100.0) == 1
