"""`python -m grasp_jax.main` that waits, once it has written the records of an epoch of two models, for the signal that stops it."""

import time

from grasp_jax.core.preemption import PREEMPTION
from grasp_jax.main import run
from grasp_jax.training.records import Records

SECONDS = 240.0  # for the signal to come
append = Records.append


def wait(records: Records, record: dict[str, object]) -> None:
    """Only the process that writes the file waits here; the others wait for it at the next step."""
    append(records, record)
    until = time.monotonic() + SECONDS
    while records.writes and len(records.read()) == 2 and time.monotonic() < until:
        if PREEMPTION.requested:
            return
        time.sleep(0.01)


Records.append = wait  # type: ignore[method-assign]
run()
