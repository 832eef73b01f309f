"""One of the package's methods to find neighbours, in a separate process.

    python -m benchmarks.retrieval_ways {exact,clusters,scann,limits} FOLDER

FOLDER holds items.npy; the neighbours go to FOLDER/found.npy, the figures to stdout as one line of JSON.
"""

import argparse
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np

from benchmarks.apart import device_peak_bytes
from benchmarks.limits import limits
from benchmarks.peak_memory import peak_bytes
from benchmarks.queries import sample_rows
from grasp_jax.core.timing import compile_seconds
from grasp_jax.knowledge.neighbours import search_clusters, search_scann
from grasp_jax.knowledge.neighbours.retrieve import recall_target
from grasp_jax.knowledge.neighbours.search_exact import search_exact
from grasp_jax.knowledge.neighbours.search_state import SearchState

TARGET = recall_target(0.95)  # as for a bank that may miss one neighbour in twenty


def exact(unit: np.ndarray, k: int, rows: np.ndarray | None) -> tuple[np.ndarray, float, float]:
    """[queries, K] neighbours of all rows, or of `rows`; seconds of building (compilation) and of searching."""
    labels, compiled, started = (
        np.arange(len(unit), dtype=np.int32),
        compile_seconds(),
        time.perf_counter(),
    )
    found = search_exact(unit, k, labels, rows=rows)
    seconds, compiled = time.perf_counter() - started, compile_seconds() - compiled
    return found, compiled, seconds - compiled


def clusters(unit: np.ndarray, k: int, state: pathlib.Path) -> tuple[np.ndarray, float, float]:
    """As `exact` for all rows, by clusters; building includes the clusters and the choice of how many are searched.

    The search saves its state in a folder, as that of a bank does, and resumes one that was killed.
    """
    labels, started = np.arange(len(unit), dtype=np.int32), time.perf_counter()
    saved = SearchState(state, unit, (k, TARGET), labels)  # that of `search_clusters`
    saved.stage("clusters", lambda: search_clusters.choose(unit, k, labels, TARGET))
    built = time.perf_counter()
    found = search_clusters.search_clusters(unit, k, labels, TARGET, folder=state)
    return found, built - started, time.perf_counter() - built


def scann(unit: np.ndarray, k: int) -> tuple[np.ndarray, float, float]:
    """As `exact` for all rows, by the index of a bank."""
    labels, started = np.arange(len(unit), dtype=np.int32), time.perf_counter()
    searcher = search_scann.build(unit, k + 1 + search_scann.SPARE)
    leaves = search_scann.choose_leaves(searcher, unit, k, labels, TARGET)
    built = time.perf_counter()
    found = search_scann.search_built(searcher, unit, k, labels, None, leaves)
    return found, built - started, time.perf_counter() - built


def main() -> None:
    """Searches, saves and prints; for "limits" prints the highest rates of the device."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("way", choices=("exact", "clusters", "scann", "limits"))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--neighbours", type=int, default=0)
    parser.add_argument(
        "--queries", type=int, default=0, help="exact: rows to search for, drawn at random"
    )
    parser.add_argument("--quick", action="store_true", help="limits: at sizes that say nothing")
    given = parser.parse_args()
    figures: dict[str, Any]
    if given.way == "limits":
        figures = {"backend": jax.default_backend(), "limits": limits(given.quick)._asdict()}
    else:
        unit = np.load(given.folder / "items.npy", mmap_mode="r")
        jax.devices()  # starts the backend before the measurement
        at_start, rows, before = peak_bytes(), None, time.process_time()
        # if all rows are queries, the package scores each pair only once
        if 0 < given.queries < len(unit):
            rows = sample_rows(len(unit), given.queries)
        ways = {
            "exact": lambda: exact(unit, given.neighbours, rows),
            "clusters": lambda: clusters(unit, given.neighbours, given.folder / "search"),
            "scann": lambda: scann(unit, given.neighbours),
        }
        found, build, search = ways[given.way]()
        np.save(given.folder / "found.npy", found)
        figures = {
            "build_seconds": build,
            "search_seconds": search,
            "processor_seconds": time.process_time() - before,
            "start_bytes": at_start,
            "peak_bytes": peak_bytes(),
        }
        if given.way == "exact":
            figures["device_peak_bytes"] = device_peak_bytes()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
