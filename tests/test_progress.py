"""The display of a training, and when checkpoints are saved."""

import io
import time

import numpy as np
import pytest
from rich.console import Console

from grasp_jax.core import board as boards
from grasp_jax.core import progress as progress_module
from grasp_jax.core.board import Board, EpochState
from grasp_jax.core.log import logger
from grasp_jax.core.progress import EpochProgress, NoBar, progress_bar
from grasp_jax.parallel import processes
from grasp_jax.training import saving
from grasp_jax.training.early_stopping import Progress, why_stopped
from grasp_jax.training.saving import SavePolicy


def state(epoch: int) -> EpochState:
    return EpochState(loss=float(epoch), validation=0.11, best=0.12, rate=5000.4, training=2)


def test_first_last_and_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log would have a line for each of a thousand epochs, none for an hour, not the last, or not say how long the rest takes."""
    clock = [100.0]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: clock[0])
    shown = EpochProgress("a-b", 9, 0)
    for epoch in range(1, 7):
        clock[0] += 8.0
        shown.epoch_done(epoch, state(epoch), 8.0)
    shown.end("stopped after epoch 6: because")
    said = capsys.readouterr().out.splitlines()
    epochs = [
        f"a-b: epoch {epoch} of at most 9: {state(epoch)}{left}"
        for epoch, left in ((1, ""), (4, ", at most 0:40 left"), (6, ", at most 0:24 left"))
    ]
    assert said == [*epochs, "a-b: stopped after epoch 6: because"]


def test_a_long_compilation_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of a large model would stand still for minutes without a word; or each run say it, however fast it compiles."""
    for slow, said in (
        (0.01, ["a-b: compiling the training step, which can take minutes"]),
        (60.0, []),
    ):
        monkeypatch.setattr(progress_module, "SLOW", slow)
        send = EpochProgress("a-b", 9, 0).first_call(lambda seconds: time.sleep(seconds))
        send(0.5)
        send(0.05)
        assert capsys.readouterr().out.splitlines() == said


def test_the_table_says_training_after_a_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table would show "compiling" for the hour of the first epoch."""
    monkeypatch.setattr(progress_module, "SLOW", 0.01)
    shown = Board(["a-b"], Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setattr(boards, "_boards", [shown])
    said: list[str] = []
    monkeypatch.setattr(shown, "say", lambda name, state: said.append(state))
    send = EpochProgress("a-b", 9, 0).first_call(lambda seconds: time.sleep(seconds))
    send(0.3)
    send(0.1)
    assert said == ["training", "compiling", "training"]
    shown.close()


def test_counts_are_grammatical() -> None:
    """A log would say "1 epochs"."""
    assert saving.done_so_far(1, 0) == "1 epoch and 0 steps"
    assert saving.done_so_far(2, 1) == "2 epochs and 1 step" and saving.done_so_far(1) == "1 epoch"


def test_the_last_epoch_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A training of one epoch would say it twice; one that had ended before, an epoch of nobody."""
    shown = EpochProgress("a-b", 1, 0)
    shown.epoch_done(1, state(1), 1.0)
    shown.end("done")
    EpochProgress("a-b", 1, 1).end("done")
    assert capsys.readouterr().out.splitlines() == [
        "a-b: epoch 1 of at most 1: loss 1.0000, 5,000 tokens/s, best validation NDCG@10 12.00 %, 2 models in training",
        "a-b: done",
        "a-b: done",
    ]


def test_no_bar_where_progress_is_not_shown() -> None:
    """A service that trains would find a bar on its standard error."""
    level = logger.level
    try:
        logger.setLevel("WARNING")
        assert isinstance(progress_bar(3, "train", "epoch"), NoBar)
    finally:
        logger.setLevel(level)


def test_why_training_stopped() -> None:
    """A run would end without a reason, or with another's."""
    start = Progress.start(2)
    seen = start._replace(
        epoch=np.int32(37),
        best=np.array([0.3, 0.3341], np.float32),
        best_epoch=np.array([30, 17], np.int32),
    )
    best = "(best validation NDCG@10 33.41 % at epoch 17)"
    patience = f"stopped after epoch 37: no better validation NDCG@10 for 20 epochs {best}"
    assert why_stopped(seen._replace(stopped=np.ones(2, bool)), 20) == patience
    assert why_stopped(seen._replace(stopped=np.ones(2, bool)), 20, stop_requested=True) == patience
    assert why_stopped(seen, 20) == f"stopped after epoch 37: reached train.max_epochs {best}"
    asked = f"stopped after epoch 37: a callback asked to stop {best}"
    assert why_stopped(seen, 20, stop_requested=True) == asked
    assert why_stopped(start, 20) == "stopped after epoch 0: reached train.max_epochs"
    continued = seen._replace(best_epoch=np.array([30, 0], np.int32))
    said = why_stopped(continued, 20)
    assert "no epoch was better than the model from which this training started" in said
    assert "33.41 %" in said and "at epoch 0" not in said
    untrained = start.starting_from(np.array([0.1, 0.1])).with_nothing_to_train()
    assert why_stopped(untrained, 20) == "nothing to train (validation NDCG@10 10.00 %)"


def test_saves_are_cheap_and_not_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short epochs would be saved each, at ten times the cost of training; or an hour be lost."""
    clock = [1000.0]
    monkeypatch.setattr(saving.time, "perf_counter", lambda: clock[0])
    policy = SavePolicy(interval=300.0, last_save=clock[0])
    clock[0] += 0.1
    assert policy.action(epoch_ends=True) == processes.SAVE, (
        "the first epoch: its cost is not known"
    )
    assert policy.action(epoch_ends=False) == processes.CONTINUE
    started, clock[0] = clock[0], clock[0] + 2.0
    policy.saved(started)
    clock[0] += 19.0
    assert policy.action(epoch_ends=True) == processes.CONTINUE, "a save of 2 s every 20 s at most"
    clock[0] += 2.0
    assert policy.action(epoch_ends=True) == processes.SAVE
    assert policy.action(epoch_ends=False) == processes.CONTINUE
    clock[0] += 300.0
    assert policy.action(epoch_ends=False) == processes.SAVE
    monkeypatch.setattr(saving.PREEMPTION, "requested", True)
    assert policy.action(epoch_ends=False) == processes.STOP
