"""After a kill, a truncated file or a full disk, a run continues with the same results."""

import json
import pathlib
import random
import shutil
import signal
import subprocess

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from grasp_jax.core import files
from grasp_jax.core.errors import UserError
from grasp_jax.training.checkpoint import Checkpoints
from tests.command_line import ROOT, arguments, run, write_dataset

LONG = ("--config.train.max_epochs=60", "--config.train.patience=25", "--config.eval.full=False")


def newest_checkpoint(workdir: pathlib.Path, cell: str = "grasp-gru4rec") -> pathlib.Path:
    folder = workdir / "checkpoints" / cell / "last"
    return max(folder.glob("[0-9]*"), key=lambda path: int(path.name))


def final_checkpoint(workdir: pathlib.Path) -> dict:
    newest = newest_checkpoint(workdir)
    return ocp.StandardCheckpointer().restore(newest.absolute() / "default")


def epochs(workdir: pathlib.Path) -> list[tuple]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(line["epoch"], line["seed"], line["loss"], line["valid_ndcg@10"]) for line in lines]


def assert_same_run(first: pathlib.Path, second: pathlib.Path) -> None:
    one, two = final_checkpoint(first), final_checkpoint(second)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert epochs(first) == epochs(second)
    rows = [
        json.loads((workdir / "results.json").read_text())["rows"] for workdir in (first, second)
    ]
    assert rows[0] == rows[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of the dataset, within a folder that has room for workdirs."""
    return write_dataset(tmp_path_factory.mktemp("resume") / "data")


@pytest.mark.slow
def test_killed_ten_times_ends_bit_equal(data: pathlib.Path) -> None:
    """Would break if anything that decides the result were missing from a checkpoint, or a half-written one were trusted."""
    uninterrupted, workdir = data.parent / "whole", data.parent / "killed"
    assert run(arguments(data, uninterrupted, *LONG)).returncode == 0
    moments, killed = random.Random(0), 0
    for _ in range(10):
        process = subprocess.Popen(
            arguments(data, workdir, *LONG),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=moments.uniform(2.0, 6.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed >= 3, "the run is too short for this test to mean anything"
    result = run(arguments(data, workdir, *LONG))
    assert result.returncode == 0, result.stderr
    assert_same_run(uninterrupted, workdir)


def test_truncated_checkpoint_falls_back(data: pathlib.Path) -> None:
    """Would break if a damaged newest checkpoint stopped the run, or were read as if it were whole."""
    workdir, whole_run = data.parent / "truncated", data.parent / "short"
    short = (
        *LONG[1:],
        "--config.train.max_epochs=2",
        "--config.train.checkpoint_seconds=0.0",
    )  # each epoch is saved
    assert run(arguments(data, workdir, *short)).returncode == 0
    shutil.copytree(workdir, whole_run)
    newest = newest_checkpoint(workdir)
    for path in newest.rglob("*"):
        if path.is_file() and "/d/" in str(path):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = run(arguments(data, workdir, *short))
    assert result.returncode == 0, result.stderr
    assert (
        f"{newest.parent.name}/{newest.name}/" in result.stdout
        and "differs from what was written" in result.stdout
    ), result.stdout
    assert "continuing from step" in result.stdout
    assert "resumed after 1 epoch" in result.stdout
    assert_same_run(whole_run, workdir)


def test_resumes_within_an_epoch(data: pathlib.Path) -> None:
    """Would break if a run that was killed within an epoch continued with other losses, or with states that are computed again."""
    workdir = data.parent / "within"
    flags = (
        "--config.model.method=llm_esr",
        "--config.train.max_epochs=2",
        "--config.train.batch_size=32",  # two steps an epoch
        "--config.train.checkpoint_seconds=0.0",
        "--config.train.steps_per_dispatch=1",
        "--config.eval.full=False",
    )
    command = arguments(data, workdir, *flags)
    assert run(command).returncode == 0
    newest = newest_checkpoint(workdir, "llm_esr-gru4rec")
    expected = [
        np.asarray(leaf)
        for leaf in jax.tree.leaves(
            ocp.StandardCheckpointer().restore(newest.absolute() / "default")
        )
    ]
    rows = json.loads((workdir / "results.json").read_text())["rows"]
    shutil.rmtree(newest)
    shutil.rmtree(workdir / "trials")
    result = run(command)
    assert "resumed after 1 epoch and" in result.stdout and "and 0 steps" not in result.stdout, (
        result.stdout
    )
    again = jax.tree.leaves(ocp.StandardCheckpointer().restore(newest.absolute() / "default"))
    for a, b in zip(expected, again, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b))
    assert json.loads((workdir / "results.json").read_text())["rows"] == rows


def test_full_disk_keeps_the_earlier_checkpoint(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a save without space raised a traceback or destroyed what was saved before."""
    checkpoints = Checkpoints(tmp_path / "last")
    tree = {"weights": np.arange(3.0)}
    checkpoints.save(1, tree)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(UserError, match=r"disk is full, step 2 was not saved.*resumes from step 1"):
        checkpoints.save(2, {"weights": np.zeros(3)})
    step, restored = Checkpoints(tmp_path / "last").restore(tree)
    assert step == 1
    np.testing.assert_array_equal(restored["weights"], tree["weights"])


def test_full_disk_keeps_the_earlier_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if results.json were opened for writing in place."""
    path = tmp_path / "results.json"
    files.write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]
    assert path.read_text() == "old"
