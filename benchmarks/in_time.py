"""Runs a program for some seconds at most, and ends it with all processes that it has started: a rival that still trained would slow
the programs that are timed after it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

PATIENCE = 5.0  # seconds that a process has to end by itself
_running: set[subprocess.Popen[Any]] = set()
_told_to_stop = threading.Event()


class Clock:
    """Counts from its construction; `seconds` is the limit, 0 means none."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.begun = seconds, time.perf_counter()

    def passed(self) -> float:
        """Seconds since the construction."""
        return time.perf_counter() - self.begun

    def left(self) -> float | None:
        """Seconds until the limit, below 0 after it; None if there is no limit."""
        return self.seconds - self.passed() if self.seconds else None


def status_of(
    command: Sequence[str],
    seconds: float | None,
    environment: Mapping[str, str] | None = None,
    output: Any = None,
) -> int | None:
    """The exit status of a program; None if it was ended because it ran for so many seconds (None: no limit), or not started because this
    process was told to stop.

    Args:
      environment: variables that are added to ours.
      output: where its stdout and stderr go, as for `subprocess`.
    """
    if _told_to_stop.is_set():
        return None
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=output,
        stderr=output,
        process_group=0,
    )
    _running.add(process)
    try:
        # With a limit, `wait` polls. Without one it holds a lock that `end_group` needs when a signal interrupts it.
        return process.wait(threading.TIMEOUT_MAX if seconds is None else seconds)
    except subprocess.TimeoutExpired:
        end_group(process)
        return None
    finally:
        _running.discard(process)


def end_with_this_process() -> None:
    """From now on, SIGTERM and SIGINT (Ctrl-C) end what `status_of` has started, in any thread, and then this process."""

    def end(number: int, _: Any) -> None:
        _told_to_stop.set()
        for process in tuple(_running):
            end_group(process)
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def end_group(process: subprocess.Popen[Any]) -> None:
    """Ends a process that leads its group, and the others of the group: by SIGTERM, and what is left by SIGKILL."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:  # no process of the group is left
            break
    process.wait()
