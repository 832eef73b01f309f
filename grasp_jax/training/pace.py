"""How many steps the devices are given at a time, by the clock: a signal is answered when the steps that they were given are done.

While two dispatches are with the devices, a process that is told to stop waits for what is left of both and for one step more; of several
processes, which must give their devices the same steps, for three dispatches.
"""

import time

from grasp_jax.timing import compile_seconds

GROWTH = 4  # largest factor between two dispatches, because one short measurement may mislead


class Pace:
    """Chooses the number of steps for a dispatch of so many seconds; begins with one step, because its duration is not known yet.

    Attributes:
      limit: largest number of steps.
      seconds: wanted duration of a dispatch.
      wish: number of steps that follows from the last measurement of this process.
      steps: number of steps on which all processes have agreed.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self.wish = self.steps = 1
        self._since = 0.0

    def begin(self) -> None:
        """Starts the measurement of time."""
        self._since = _working()

    def done(self, steps: int) -> None:
        """Records that so many steps were done since `begin` or the last call."""
        seconds, self._since = _working() - self._since, _working()
        fits = int(self.seconds * steps / max(seconds, 1e-9))
        self.wish = max(1, min(fits, GROWTH * steps, self.limit))

    def agree(self, steps: int) -> None:
        """Sets the number of steps to the smallest wish of all processes."""
        self.steps = steps


def _working() -> float:
    """Seconds of this process without those of compilation; only differences have a meaning."""
    return time.perf_counter() - compile_seconds()
