"""How many steps a dispatch has, so that it takes a wanted time: a process answers a signal only after the steps that it has dispatched.

Two dispatches are on the devices at a time. A single process that receives a signal waits for the rest of both and for one more step.
Several processes must dispatch the same steps, so they wait for three dispatches.
"""

import time

from grasp_jax.core.timing import compile_seconds

GROWTH = 4  # largest factor between two dispatches, because one short measurement may mislead


class Pace:
    """Chooses the number of steps for a dispatch of so many seconds; begins with one step, because its duration is not known yet.

    Attributes:
      limit: largest number of steps.
      seconds: wanted duration of a dispatch.
      proposed: number of steps that follows from the last measurement of this process.
      steps: number of steps on which all processes have agreed.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self.proposed = self.steps = 1
        self._since = 0.0

    def begin(self) -> None:
        """Starts the measurement of time."""
        self._since = _clock()

    def done(self, steps: int) -> None:
        """Records that so many steps were done since `begin` or the last call."""
        now = _clock()
        seconds, self._since = now - self._since, now
        fitting = int(self.seconds * steps / max(seconds, 1e-9))
        self.proposed = max(1, min(fitting, GROWTH * steps, self.limit))

    def agree(self, steps: int) -> None:
        """Sets the number of steps to the smallest proposal of all processes."""
        self.steps = steps


def _clock() -> float:
    """Seconds without those of compilation; only differences have a meaning."""
    return time.perf_counter() - compile_seconds()
