"""Runs a stage in a separate process, so that its memory peak is not that of another stage."""

import json
import pathlib
import subprocess
from collections.abc import Sequence
from typing import Any

import jax

from grasp_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent


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


def device_peak_bytes() -> int | None:
    """Peak bytes of this process on the accelerator; None on a CPU, where device memory is the memory of the process."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
