"""Times several implementations in turn, so that a slower machine slows all of them; and lets only one benchmark be timed at a time."""

import contextlib
import fcntl
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

LOCK = "GRASP_JAX_BENCHMARK_LOCK"  # names the file that benchmarks lock while they are timed


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A context that waits until no other benchmark of `benchmarks.run --at-once` is timed; others may compile at the same time."""
    if LOCK not in os.environ:
        yield
        return
    with open(os.environ[LOCK], "w", encoding="ascii") as file:
        fcntl.flock(
            file, fcntl.LOCK_EX
        )  # the lock ends when the file is closed, also if the process dies
        yield


def interleaved(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each of `rounds`, after one call of each that compiles and warms up; waits for the results."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        jax.block_until_ready(run())
    with alone():
        for _ in range(rounds):
            for name, run in ways.items():
                started = time.perf_counter()
                jax.block_until_ready(run())
                times[name].append(time.perf_counter() - started)
    return times


def median_seconds(run: Callable[[], Any], rounds: int) -> float:
    """The median seconds of `rounds` calls after a first one, which compiles."""
    return statistics.median(interleaved({"": run}, rounds)[""])


def spread(seconds: list[float], steps: int) -> dict[str, Any]:
    """Milliseconds of a step (median, p10, p90, and those of each round), from seconds of `steps` steps."""
    each = [1e3 * own / steps for own in seconds]
    return {
        "median_ms": statistics.median(each),
        "p10_ms": float(np.percentile(each, 10)),
        "p90_ms": float(np.percentile(each, 90)),
        "ms": each,
    }
