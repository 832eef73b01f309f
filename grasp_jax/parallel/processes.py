"""A run of several processes: how they connect, which process writes files, and how all of them stop at the same step.

All processes compute. Only the first one writes files, and the others read them. A launcher (launch/) sets the environment variables.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from grasp_jax.core.errors import UserError
from grasp_jax.core.preemption import PREEMPTED, PREEMPTION
from grasp_jax.parallel.mesh import shard

__all__ = [
    "CONTINUE",
    "PREEMPTED",
    "PREEMPTION",
    "SAVE",
    "STOP",
    "barrier",
    "is_main_process",
    "join",
    "lost_process",
    "main_process_first",
    "max_over_processes",
]

ADDRESS, COUNT, PROCESS_ID = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
# of messages about a process that is gone, in small letters: the library that reports it, and what it says
LOST_WORDS = {
    "gloo": ("connection reset", "connection closed", "broken pipe", "timed out", "timeout"),
    "nccl": ("remote process", "remote error", "connection", "socket", "unhandled system error"),
    "coordination": (
        "heartbeat",
        "unavailable",
        "disconnect",
        "shut",
        "error from another",
        "barrier",
    ),
    "barrier": ("timed out", "timeout", "deadline", "heartbeat", "unhealthy"),
}
# actions that a process may request after a dispatch; all processes do the highest one that any of them requests
CONTINUE, SAVE, STOP = range(3)


def join() -> None:
    """Connects to the other processes, if a launcher has set the environment variables.

    Raises:
      UserError: only some of the variables are set.
    """
    if ADDRESS not in os.environ:
        return
    missing = [name for name in (COUNT, PROCESS_ID) if not os.environ.get(name, "").isdigit()]
    if missing:
        given = os.environ.get(missing[0])
        raise UserError(
            f"{missing[0]}: {given!r}, while {ADDRESS} is set; expected a whole number, as launch/local.py sets it"
        )
    count, process_id = int(os.environ[COUNT]), int(os.environ[PROCESS_ID])
    # the launcher has set everything, so there is nothing to detect
    jax.distributed.initialize(
        os.environ[ADDRESS], count, process_id, cluster_detection_method="deactivate"
    )
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  only the first process prints


def is_main_process() -> bool:
    """Whether this process writes files; true for a single process."""
    return jax.process_index() == 0


def lost_process(error: BaseException) -> bool:
    """Whether an error of a computation means that another process of the run has ended, or cannot be reached any more."""
    if type(error).__name__ not in ("JaxRuntimeError", "XlaRuntimeError"):
        return False
    message = str(error).lower()
    return jax.process_count() > 1 and any(
        library in message and any(word in message for word in words)
        for library, words in LOST_WORDS.items()
    )


def barrier(name: str) -> None:
    """Waits until all processes have reached this call."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def main_process_first(name: str) -> Iterator[None]:
    """Context that the first process runs before the others, so that they can read the files that it has written."""
    if not is_main_process():
        barrier(name)
    yield
    if is_main_process():
        barrier(name)


def max_over_processes(mesh: Mesh, value: int) -> Any:
    """The maximum of the processes' values, computed on the devices after the steps that they were given before; read it by `on_host`."""
    if jax.process_count() == 1:
        return np.int32(value)
    return _max(
        shard(mesh, np.full(jax.local_device_count(), value, np.int32), axis=0, process_local=True)
    )


_max = jax.jit(lambda values: values.max())
