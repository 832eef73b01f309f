"""Times of several ways to do the same, taken in turn, so that a machine that slows down slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def interleaved(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each of `rounds`, after a first of each that compiles and warms up; waits for what a call returns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            jax.block_until_ready(run())
            if round_:
                times[name].append(time.perf_counter() - started)
    return times


def spread(seconds: list[float], steps: int) -> dict[str, Any]:
    """Milliseconds of a step: median, p10, p90, and of each round, from seconds of `steps` steps."""
    each = [1e3 * own / steps for own in seconds]
    return {
        "median_ms": statistics.median(each),
        "p10_ms": float(np.percentile(each, 10)),
        "p90_ms": float(np.percentile(each, 90)),
        "ms": each,
    }
