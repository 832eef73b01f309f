"""SIGTERM and Ctrl-C: both end a run with one line and an exit status; while a model trains, it is saved first.

Light on purpose: `grasp_jax.main` listens before it imports JAX, which takes seconds in which a run may be stopped too.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

PREEMPTED = 75  # exit status of a run that saved when it had to stop: run the same command again (EX_TEMPFAIL of sysexits.h)
INTERRUPTED = 130  # of one that Ctrl-C has ended: 128 + SIGINT, as shells have it


class Preemption:
    """A signal ends the run at once; within `saving` it is only a request to the training loop, unless Ctrl-C comes twice.

    Attributes:
      requested: whether a signal came.
      status: the exit status.
      remedy: what the user may do then.
    """

    def __init__(self) -> None:
        self.requested = False
        self.status = PREEMPTED
        self.remedy = "run the same command again to continue"
        self._deferred = False

    def listen(self) -> None:
        """Installs the signal handlers; only the main thread may."""
        signal.signal(signal.SIGTERM, self._on_signal)
        # a shell ignores it in background jobs, on purpose
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._on_signal)

    def finish(self) -> None:
        """Ignores signals once a run has reported how it ended.

        While Python exits it removes signal handlers, and a signal would end the process with another status.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        again = self.requested and number == signal.SIGINT
        self.requested = True
        if number == signal.SIGINT:
            self.status = INTERRUPTED
        if again or not self._deferred:
            self.stop(" at once, without saving" if again and self._deferred else "")

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Defers signals: the code within checks `requested`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.requested:
            self.stop("")

    def stop(self, saved: str) -> NoReturn:
        """Prints the reason and ends the process. Processes that `saved` together wait for each other first."""
        how = "interrupted" if self.status == INTERRUPTED else "preempted"
        _print_error(f"{how}{saved}: {self.remedy}")
        if saved.startswith(" after") and (
            processes := sys.modules.get("grasp_jax.parallel.processes")
        ):
            processes.barrier("preempted")
        if files := sys.modules.get("grasp_jax.core.files"):
            files.remove_partial_writes()
        if locks := sys.modules.get("grasp_jax.core.locks"):
            locks.release_all()
        # no clean-up, in which processes wait for each other and threads find their pools closed
        os._exit(self.status)


def _print_error(line: str) -> None:
    """Prints a line to standard error, after flushing; during a print, Python's own streams refuse a signal handler's output."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    try:
        print(line, file=sys.stderr, flush=True)
    except Exception:
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode("ascii", "backslashreplace"))


PREEMPTION = Preemption()
