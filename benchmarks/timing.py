"""Times several implementations in turn, so that a slower machine slows all of them."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

COMPILE = "GRASP_JAX_BENCHMARK_COMPILE"  # set where a benchmark only fills the caches of compiled programs


def only_compiles() -> bool:
    """Whether this process is one of those that `benchmarks.run --at-once` starts side by side to compile; what they time means nothing."""
    return COMPILE in os.environ


def interleaved(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each of `rounds`, after one call of each that compiles and warms up; waits for the results."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        jax.block_until_ready(run())
    for _ in range(1 if only_compiles() else rounds):
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
