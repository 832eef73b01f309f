"""Two processes with two devices each, started by the launcher: they compute the same as one process, and stop and continue together."""

import json
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from grasp_jax.core.errors import UserError
from grasp_jax.parallel.processes import PREEMPTED, join
from tests.command_line import ROOT, arguments, run, write_dataset
from tests.trained import by_command_line

EPOCHS = 3  # of `arguments`
FLAGS = (
    "--config.eval.full=False",
    "--config.train.steps_per_dispatch=1",
    "--config.eval.user_block=20",
    "--config.model.num_layers=1",
    "--config.eval.item_block=16",
)
PIPES: dict[str, Any] = {
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
    "text": True,
    "cwd": ROOT,
}
SHARED = ("--config.mesh.data=2", "--config.mesh.table=2", "--config.tables.users=sharded")


def launched(
    data: pathlib.Path, workdir: pathlib.Path, length: str, *of_launcher: str
) -> list[str]:
    own = arguments(data, workdir, *FLAGS, length, *SHARED)
    launcher = [own[0], str(ROOT / "launch" / "local.py"), "--processes=2", "--devices=2"]
    return [*launcher, *of_launcher, "--", *own[3:]]


def epochs(workdir: pathlib.Path) -> list[dict]:
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def when_trained(process: subprocess.Popen, workdir: pathlib.Path, count: int) -> None:
    """Waits until so many epochs of both models are in the records."""
    deadline = time.monotonic() + 900
    while len(epochs(workdir)) < 2 * count:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)


def children(process: subprocess.Popen) -> list[int]:
    return [
        int(pid)
        for pid in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        .read_text()
        .split()
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the launcher's children in /proc")
@pytest.mark.parametrize(
    ("num_epochs", "killed"),
    # Without a kill: test_launch.py sees a launcher end all processes when one dies, test_faults.py a killed run go on.
    [(EPOCHS, False), pytest.param(8, True, marks=pytest.mark.slow)],
    ids=("told", "told and killed"),
)
def test_two_processes_that_are_stopped_end_as_one(
    num_epochs: int,
    killed: bool,
    tmp_path: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Processes would train on other data, write over each other, hang when one dies, or lose what the other had saved."""
    data, workdir = write_dataset(tmp_path / "data"), tmp_path / "shared"
    length, alone = f"--config.train.max_epochs={num_epochs}", tmp_path / "alone"
    if num_epochs == EPOCHS:
        alone = by_command_line(tmp_path_factory) / "run"
    else:
        done = run(arguments(data, alone, length))
        assert done.returncode == 0, done.stderr
    # The first epoch waits for the signal, for the training may else be over before it comes.
    waiting = ("--module=tests.told_to_stop", "--grace=240")
    stop_by_signal(launched(data, workdir, length, *waiting), workdir)
    if killed:
        kill_one(launched(data, workdir, length, "--grace=15"), workdir)

    command = launched(data, workdir, length)
    ended = run(command)
    assert ended.returncode == 0, ended.stderr
    assert "resumed after" in ended.stdout and "[1] grasp" not in ended.stdout
    expected, found = epochs(alone), epochs(workdir)
    every = np.repeat(np.arange(1, num_epochs + 1), 2)
    assert [epoch["epoch"] for epoch in found] == every.tolist()
    for name in ("loss", "valid_ndcg@10"):
        np.testing.assert_allclose(
            [epoch[name] for epoch in found],
            [epoch[name] for epoch in expected],
            rtol=1e-5,
            atol=1e-5,
        )
    rows = [
        json.loads((folder / "results.json").read_text())["rows"] for folder in (alone, workdir)
    ]
    rows[0] = [row for row in rows[0] if row["protocol"] == "sampled100"]  # of FLAGS
    for one, two in zip(*rows, strict=True):
        assert (one["group"], one["protocol"], one["n"]) == (
            two["group"],
            two["protocol"],
            two["n"],
        )
        np.testing.assert_allclose(two["NDCG@10"], one["NDCG@10"], rtol=1e-5, atol=1e-5)


def stop_by_signal(command: list[str], workdir: pathlib.Path) -> None:
    """Starts the command and tells it to stop after an epoch: both processes save the same step."""
    told = subprocess.Popen(command, **PIPES)
    when_trained(told, workdir, 1)
    told.send_signal(signal.SIGTERM)
    _, errors = told.communicate(timeout=300)
    assert told.returncode == PREEMPTED and "preempted after" in errors, errors


def kill_one(command: list[str], workdir: pathlib.Path) -> None:
    """Starts the command again and kills one of its processes after the fourth epoch: the other ends too."""
    killed = subprocess.Popen(command, **PIPES)
    when_trained(killed, workdir, 4)
    both = children(killed)
    began = time.monotonic()
    subprocess.run(["kill", "-9", str(both[1])], check=True)
    output, errors = killed.communicate(timeout=300)
    assert killed.returncode == 128 + signal.SIGKILL and time.monotonic() - began < 30, errors
    assert "resumed after" in output
    assert not [pid for pid in both if pathlib.Path(f"/proc/{pid}").exists()]


def test_half_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose launcher sets too few variables would wait for ever, or train alone."""
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
    with pytest.raises(
        UserError,
        match=r"JAX_NUM_PROCESSES: None, while JAX_COORDINATOR_ADDRESS is set; expected a whole number",
    ):
        join()
