"""Compile time, separated from run time: JAX's own monitoring counts every compilation in the process."""

import time
from typing import Self

import jax.monitoring

_COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
_total = [0.0]


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event in _COMPILE_EVENTS:
        _total[0] += duration_secs


jax.monitoring.register_event_duration_secs_listener(_listen)


def compile_seconds() -> float:
    """Seconds that this process has spent lowering and compiling so far."""
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
