"""One run of several processes: how they find each other, who writes, and how all of them stop at the same step.

All compute together; of what the disk holds, the first process writes and the others read. A launcher (launch/) sets the environment.
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

from grasp_jax.errors import UserError
from grasp_jax.parallel.mesh import shared_out
from grasp_jax.preemption import PREEMPTED, PREEMPTION

__all__ = [
    "GO_ON",
    "PREEMPTED",
    "PREEMPTION",
    "SAVE",
    "STOP",
    "highest_wish",
    "is_main_process",
    "join",
    "main_process_first",
    "meet",
]

ADDRESS, COUNT, PLACE = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
GO_ON, SAVE, STOP = (
    0,
    1,
    2,
)  # what a process wishes for after a dispatch; the highest of all is done


def join() -> None:
    """Meets the other processes, where a launcher has named them in the environment.

    Raises:
      UserError: it names them in part.
    """
    if ADDRESS not in os.environ:
        return
    missing = [name for name in (COUNT, PLACE) if not os.environ.get(name, "").isdigit()]
    if missing:
        given = os.environ.get(missing[0])
        raise UserError(
            f"{missing[0]}: {given!r}, while {ADDRESS} is set; expected a whole number, as launch/local.py sets it"
        )
    address, count, place = os.environ[ADDRESS], int(os.environ[COUNT]), int(os.environ[PLACE])
    jax.distributed.initialize(
        address, count, place, cluster_detection_method="deactivate"
    )  # the launcher has said all there is to know
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  what the first process says, it says for all


def is_main_process() -> bool:
    """Whether this process writes; true of the only one."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def main_process_first(name: str) -> Iterator[None]:
    """The first process does what is within, and then the others, who find what it left on disk."""
    if not is_main_process():
        meet(name)
    yield
    if is_main_process():
        meet(name)


def highest_wish(mesh: Mesh, own: int) -> Any:
    """The highest wish of all processes, to be read by `on_host` once the devices have come so far."""
    if jax.process_count() == 1:
        return np.int32(own)
    return _highest(
        shared_out(mesh, np.full(jax.local_device_count(), own, np.int32), axis=0, in_parts=True)
    )


_highest = jax.jit(lambda wishes: wishes.max())
