"""Compile time, separated from run time: JAX's own monitoring counts every compilation in the process."""

import collections
import threading
import time
from typing import Self

import jax.monitoring

_COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
KEPT = 4096  # newest events of a thread among which those within a longer one are looked for
_total = [0.0]
_of_thread = threading.local()


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    """Adds an event that has just ended. One within it, such as the tracing of an inner function, was added before and counts once."""
    if event not in _COMPILE_EVENTS:
        return
    if not hasattr(_of_thread, "ended"):
        _of_thread.ended = collections.deque(maxlen=KEPT)
    ended: collections.deque[tuple[float, float]] = _of_thread.ended  # (middle, seconds)
    begun, inner = _now() - duration_secs, 0.0
    while ended and ended[-1][0] > begun:
        inner += ended.pop()[1]
    ended.append((begun + duration_secs / 2, duration_secs))
    _total[0] += max(duration_secs - inner, 0.0)


def _now() -> float:
    return time.perf_counter()


jax.monitoring.register_event_duration_secs_listener(_listen)


def compile_seconds() -> float:
    """Seconds that this process has spent tracing, lowering and compiling so far."""
    return _total[0]


class Stopwatch:
    """A context that measures what is within: seconds of work, and apart from them those of compilation."""

    seconds = compile_seconds = 0.0

    def __enter__(self) -> Self:
        self._started, self._compiled = time.perf_counter(), compile_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.compile_seconds = compile_seconds() - self._compiled
        self.seconds = time.perf_counter() - self._started - self.compile_seconds
