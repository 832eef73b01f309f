"""Runs a stage in a separate process, so that its memory peak is not that of another stage."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from grasp_jax.core.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
SLICE = 0.05  # seconds between two checks of a process that will be killed


def run_apart(command: Sequence[str]) -> Any:
    """Runs a stage in the repository's folder and returns its last line, parsed as JSON; its stderr is shown.

    Raises:
      UserError: it failed.
    """
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"{' '.join(command)}: ended with status {done.returncode}; expected 0 (-9: out of memory, take smaller sizes)"
        )
    return json.loads(done.stdout.splitlines()[-1])


def kill_apart(command: Sequence[str], seconds: float) -> dict[str, float]:
    """Runs a stage as `run_apart` does, and kills it by SIGKILL after some seconds; returns what the killed process cost.

    Raises:
      UserError: it ended before.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, process_group=0)
    killed, _, used = wait_or_kill(process.pid, started + seconds)
    wall = time.perf_counter() - started
    if not killed:
        raise UserError(
            f"{' '.join(command)}: ended after {wall:.1f} s; expected it to run for {seconds:g} s, when it is to be killed"
        )
    return {
        "seconds": wall,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": peak_of(used),
    }


def wait_or_kill(pid: int, kill_at: float | None) -> tuple[bool, int, Any]:
    """Waits for the end of a process that leads its process group, and kills the group at a time of `time.perf_counter`, if one is given.

    Returns:
      Whether it was killed, its status, and its use of resources, a `resource.struct_rusage`.
    """
    while kill_at is not None:
        if time.perf_counter() >= kill_at:
            os.killpg(pid, signal.SIGKILL)
            _, status, used = os.wait4(pid, 0)
            return True, status, used
        found, status, used = os.wait4(pid, os.WNOHANG)
        if found:
            return False, status, used
        time.sleep(SLICE)
    _, status, used = os.wait4(pid, 0)
    return False, status, used


def peak_of(used: Any) -> int:
    """The largest memory in bytes of a process that has ended, from its `resource.struct_rusage`."""
    return int(used.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def device_peak_bytes() -> int | None:
    """Peak bytes of this process on the accelerator; None on a CPU, where device memory is the memory of the process."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
