"""Times of several ways to do the same, taken in turn, so that a machine that slows down slows all of them; and one benchmark at a time."""

import contextlib
import fcntl
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

LOCK = "GRASP_JAX_BENCHMARK_LOCK"  # names the file that benchmarks running side by side wait for


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """What is timed inside waits until no other benchmark of `benchmarks.run --at-once` times anything; they compile meanwhile."""
    if LOCK not in os.environ:
        yield
        return
    with open(os.environ[LOCK], "w", encoding="ascii") as file:
        fcntl.flock(
            file, fcntl.LOCK_EX
        )  # given back when the file is closed, also by a process that dies
        yield


def interleaved(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each of `rounds`, after a first of each that compiles and warms up; waits for what a call returns."""
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
    """Of `rounds` calls after a first, which compiles."""
    return statistics.median(interleaved({"": run}, rounds)[""])


def spread(seconds: list[float], steps: int) -> dict[str, Any]:
    """Milliseconds of a step: median, p10, p90, and of each round, from seconds of `steps` steps."""
    each = [1e3 * own / steps for own in seconds]
    return {
        "median_ms": statistics.median(each),
        "p10_ms": float(np.percentile(each, 10)),
        "p90_ms": float(np.percentile(each, 90)),
        "ms": each,
    }
