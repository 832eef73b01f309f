"""How many steps the devices are given at a time, by the clock: a signal is answered when the steps that they were given are done.

While two dispatches are with the devices, a process that is told to stop waits for what is left of both and for one step more; of several
processes, which must give their devices the same steps, for three dispatches.
"""

import time

from grasp_jax.timing import compile_seconds

GROWTH = 4  # times as many as were measured, at most: one short measurement may mislead


class Pace:
    """Counts steps that take so many seconds; begins with one, for nobody knows yet how long it takes.

    Attributes:
      limit: steps, at most.
      seconds: of a dispatch.
      wish: what this process measured last.
      steps: what all processes have agreed on.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self.wish = self.steps = 1
        self._since = 0.0

    def begin(self) -> None:
        """Time counts from now on."""
        self._since = _working()

    def done(self, steps: int) -> None:
        """So many steps were done since `begin` or the last call."""
        seconds, self._since = _working() - self._since, _working()
        fits = int(self.seconds * steps / max(seconds, 1e-9))
        self.wish = max(1, min(fits, GROWTH * steps, self.limit))

    def agree(self, steps: int) -> None:
        """The fewest steps that a process wishes for."""
        self.steps = steps


def _working() -> float:
    """Seconds of this process without those of compilation; of meaning as a difference."""
    return time.perf_counter() - compile_seconds()
