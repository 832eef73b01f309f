"""What a training says that has diverged, without a training: the reason is named, and a full disk does not hide it."""

import errno
import pathlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.core.errors import TrainingDiverged
from grasp_jax.training import divergence
from grasp_jax.training.replicas import Replica
from tests.trained import SMALL, small_shop


def diverged(
    folder: pathlib.Path, loss: float, finite: bool, method: str = "plain"
) -> TrainingDiverged:
    """The error after one step of one model."""
    job: Any = SimpleNamespace(
        name=f"{method}-sasrec",
        method=method,
        backbone="sasrec",
        data=SimpleNamespace(device=None, shape=None),
        folder=folder,
        steps_per_epoch=4,
    )
    last: Any = SimpleNamespace(newest=lambda: None)
    with pytest.raises(TrainingDiverged) as caught:
        divergence.check_finite(
            job, [Replica(42, 0.1, 1e-3)], np.array([[loss]]), np.array([finite]), 12, last
        )
    return caught.value


def said(folder: pathlib.Path, loss: float, finite: bool) -> str:
    """Its message."""
    return str(diverged(folder, loss, finite))


def test_a_parameter_that_is_not_finite_is_the_reason(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message would show a healthy loss, and no reason why the training was ended."""
    monkeypatch.setattr(divergence, "_store_batch", lambda *_: "stored")
    healthy = said(tmp_path, 0.69, finite=False)
    assert "a parameter that is not finite at step 12" in healthy and "0.69" not in healthy
    assert "loss nan at step 12" in said(tmp_path, np.nan, finite=True)


def test_a_full_disk_does_not_hide_the_divergence(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run would end with "the disk is full", and nobody learn that the learning rate is too high."""
    ids = np.zeros((2, 3), np.int32)
    batch = SimpleNamespace(items=ids, segments=ids, positions=ids, masked=ids)
    places = SimpleNamespace(places=np.arange, exist=np.arange)
    targets = SimpleNamespace(places=places, negatives=SimpleNamespace(items=ids))
    slots = np.zeros((1, 4, 2), np.int32)
    monkeypatch.setattr(divergence, "make_epoch", lambda *_: SimpleNamespace(slots=slots))
    monkeypatch.setattr(divergence, "gather_batch", lambda *_: batch)
    monkeypatch.setattr(divergence, "draw_targets", lambda *_: (batch, targets))
    path = tmp_path / "diverged_step12.npz"
    assert f"its batch is in {path}" in said(tmp_path, np.nan, finite=True)
    with np.load(path, allow_pickle=False) as stored:
        assert stored["items"].shape == (2, 3)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("grasp_jax.core.files.os.fsync", full)
    message = said(tmp_path, np.nan, finite=True)
    assert "could not be stored (No space left on device)" in message and "loss nan" in message


def test_a_method_of_ones_own_is_the_first_suspect(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its author would try learning rates and look at embeddings, where the method divides by zero."""
    monkeypatch.setattr(divergence, "_store_batch", lambda *_: "stored")
    assert "look in your own 'mine' for" in str(diverged(tmp_path, np.nan, True, "mine"))
    assert "your own" not in said(tmp_path, np.nan, True)


def test_no_file_is_named_that_is_gone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a workdir, the folder of the training is deleted with the error, and the message named a batch in it."""
    monkeypatch.setattr(divergence, "_store_batch", lambda *_: f"its batch is in {tmp_path}")
    error = diverged(tmp_path, np.nan, True)

    def fit(*_: object) -> None:
        raise error

    monkeypatch.setattr("grasp_jax.fitting.fit", fit)
    shop = small_shop()
    with pytest.raises(TrainingDiverged) as caught:
        gj.Recommender(method="plain").fit(shop)
    message = str(caught.value)
    assert "loss nan at step 12" in message and "learning_rate" in message
    assert str(tmp_path) not in message and "fit(dataset, workdir=...) keeps the batch" in message
    with pytest.raises(TrainingDiverged, match="its batch is in"):
        gj.Recommender(method="plain").fit(shop, tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr("grasp_jax.fitting.train_refit", fit)
    with pytest.raises(TrainingDiverged) as caught:
        gj.Recommender(method="popularity", **SMALL).fit(shop, refit=True)
    assert str(tmp_path) not in str(caught.value)
