"""Recommendations from Ray workers are those of a local run, even if a worker or the program is killed."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests import command_line
from tests.command_line import ROOT, one_line_error, run, write_dataset
from tests.refusal import assert_names
from tests.test_ray import workers_of

USERS = 400
PROGRAM = "launch/ray_recommend.py"
FEW = "--config.eval.user_block=8"  # users of a block


def on_ray(workdir: pathlib.Path, *more: str) -> list[str]:
    return [sys.executable, PROGRAM, f"--workdir={workdir}", FEW, "--users-per-task=20", *more]


@pytest.mark.slow
def test_same_recommendations_whoever_is_killed(tmp_path: pathlib.Path) -> None:
    """A cluster would answer for other users or with another model than one machine, or a worker that dies take its users with it."""
    pytest.importorskip("ray", reason="ray is not installed")
    workdir, local, spread = (tmp_path / name for name in ("run", "local.csv", "spread.csv"))
    given = command_line.arguments(write_dataset(tmp_path / "data", USERS), workdir)
    trained = run([*given, "--mode=train"])
    assert trained.returncode == 0, trained.stderr
    done = run([*given, "--mode=recommend", FEW, f"--out={local}"])
    assert done.returncode == 0, done.stderr
    marked = os.environ | {"DRIVER_OF_THIS_TEST": str(os.getpid()), "PYTHONPATH": str(ROOT)}
    parts, arguments = tmp_path / ".spread.csv.parts", on_ray(workdir, f"--out={spread}")
    with open(tmp_path / "log", "w") as log:
        driver = subprocess.Popen(
            arguments, cwd=ROOT, env=marked, stdout=log, stderr=log, start_new_session=True
        )
        deadline, victims = time.monotonic() + 240, list[int]()
        while not victims and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.02)
            victims = workers_of(os.getpid()) if list(parts.glob("part-*")) else []
        assert victims, (tmp_path / "log").read_text()
        os.kill(victims[0], signal.SIGKILL)
        driver.wait(timeout=240)
    assert driver.returncode == 0, (tmp_path / "log").read_text()
    assert spread.read_bytes() == local.read_bytes()
    assert not parts.exists()


def test_other_modes_are_refused(tmp_path: pathlib.Path) -> None:
    """Training would start on one machine, while a cluster is paid for."""
    data = write_dataset(tmp_path / "data")
    given = command_line.arguments(data, tmp_path / "run", "--mode=train")
    message = one_line_error(run([sys.executable, PROGRAM, *given[3:]], PYTHONPATH=str(ROOT)))
    assert_names(message, ("--mode=train", "python -m grasp_jax.main"))
