"""Writes a knowledge bank of a large company's size and searches it, exactly and with an index, in bounded memory.

    python -m benchmarks.bank [--rows=1000000] [--width=1024] [--sample=10000] [--quick] [--out=JSON]

Vectors are synthetic: clusters within clusters, like products in departments. Each stage runs as in `--mode=prepare`. Exact neighbours are
searched for a sample of rows, and the index's recall is measured on the same sample.
"""

import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.peak_memory import peak_bytes
from benchmarks.record import Contention, keep, table
from grasp_jax.core.progress import progress_bar
from grasp_jax.knowledge.bank import new_table
from grasp_jax.knowledge.encoders.geometry import Geometry, mean_direction, to_rows
from grasp_jax.knowledge.encoders.vector_files import RowVectors
from grasp_jax.knowledge.neighbours import search_scann
from grasp_jax.knowledge.neighbours.search_exact import search_exact
from grasp_jax.knowledge.shards import fill_shards, read_shards

K = 10
# shares of the leaves that are searched; for a large table `search_scann.build` uses the last
LEAVES = (64, 32, 16, 8)
DIRECTIONS = 64  # a few directions hold most of the variance of text embeddings


def made_up(rows: int, width: int) -> RowVectors:
    """Vectors of rows: the sum of a department's, a shelf's and the product's vector, each smaller than the one before."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((DIRECTIONS, width)).astype(np.float32) / np.sqrt(width)
    departments = rng.standard_normal((50, DIRECTIONS), np.float32)
    shelves = 0.7 * rng.standard_normal((max(rows // 50, 1), DIRECTIONS), np.float32)

    def vectors_of(wanted: np.ndarray) -> np.ndarray:
        own = np.random.default_rng([1, int(wanted[0])])
        shelf = own.integers(0, len(shelves), len(wanted))
        leading = (
            departments[shelf % 50]
            + shelves[shelf]
            + 0.5 * own.standard_normal((len(wanted), DIRECTIONS), np.float32)
        )
        return (
            leading @ basis
            + 0.1 / np.sqrt(width) * own.standard_normal((len(wanted), width), np.float32)
            + 0.05
        )

    return vectors_of


def write(folder: pathlib.Path, rows: int, width: int) -> np.ndarray:
    """[rows, width] the table, written in shards and centred, like that of a bank."""
    shards = folder / "shards"
    with progress_bar(rows, "encode", "text") as bar:
        fill_shards(shards, "items", np.arange(rows), made_up(rows, width), bar.update)
    geometry = Geometry(mean_direction(lambda: read_shards(shards, "items"), width))
    unit, begin = new_table(folder, "items", (rows, width), "float32"), 0
    for block in read_shards(shards, "items"):
        unit[begin : begin + len(block)] = to_rows(block, geometry)
        begin += len(block)
    shutil.rmtree(shards)
    return unit


def build(unit: np.ndarray, folder: pathlib.Path) -> None:
    """Writes an index into `folder`."""
    search_scann.save_index(search_scann.build(unit, K + 1 + search_scann.SPARE), folder)


def answers(searcher: Any, unit: np.ndarray, sample: np.ndarray, leaves: int) -> np.ndarray:
    """[n, K] neighbours of sampled rows by the index, for a number of searched leaves."""
    labels, found = np.arange(len(unit), dtype=np.int32), []
    for start in range(0, len(sample), search_scann.QUERY_BLOCK):
        own = sample[start : start + search_scann.QUERY_BLOCK]
        ids, distances = searcher.search_batched_parallel(
            np.asarray(unit[own], np.float32), leaves_to_search=leaves
        )
        found.append(search_scann.drop_same(ids.astype(np.int64), distances, labels, own, K))
    return np.concatenate(found)


def share(true: np.ndarray, found: np.ndarray) -> float:
    """Share of the true neighbours [n, K] that were found."""
    return float((true[:, :, None] == found[:, None, :]).any(axis=2).mean())


def found_of(recall: dict[str, float], stages: list[dict[str, Any]]) -> str:
    """The benchmark's last line, for the largest number of searched leaves."""
    seconds, most = {stage["name"]: stage["seconds"] for stage in stages}, max(recall, key=int)
    ratio = seconds["searched exactly"] / seconds[f"index searched, {most} leaves"]
    return f"with {most} leaves the index is {ratio:.1f}x as fast as exact search, at recall {recall[most]:.3f}"


def main() -> None:
    """Prints a line for each stage and writes them as JSON."""
    parser = parser_of("bank", __doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    parser.add_argument("--width", type=int, default=1024, help="width of a vector, E")
    parser.add_argument(
        "--sample", type=int, default=10_000, help="rows whose neighbours are searched"
    )
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        default=None,
        help="where the table is written; by default a temporary folder",
    )
    given = parser.parse_args()
    if given.quick:
        given.rows, given.width, given.sample = 5_000, 32, 50
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bank-", dir=given.folder))
    contention, stages, lines = Contention(), [], []

    def timed(name: str, rows: int, stage: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        outcome = stage()
        seconds, memory = time.perf_counter() - started, peak_bytes()
        stages.append({"name": name, "rows": rows, "seconds": seconds, "peak_memory_bytes": memory})
        lines.append([name, f"{seconds:,.0f}", f"{rows / seconds:,.0f}", f"{memory / 2**30:.1f}"])
        print(f"{name}: {seconds:,.0f} s, peak memory so far {memory / 2**30:.1f} GiB", flush=True)
        return outcome

    try:
        unit = timed("table written", given.rows, lambda: write(folder, given.rows, given.width))
        sample = np.sort(
            np.random.default_rng(0).choice(
                given.rows, min(given.sample, given.rows), replace=False
            )
        )
        timed("index built and saved", given.rows, lambda: build(unit, folder / "index"))
        searcher = timed(
            "index opened", given.rows, lambda: search_scann.open_index(folder / "index")
        )
        searched = [max(1, int(np.sqrt(given.rows)) // part) for part in LEAVES]
        found = [
            timed(
                f"index searched, {leaves} leaves",
                len(sample),
                partial(answers, searcher, unit, sample, leaves),
            )
            for leaves in searched
        ]
        labels = np.arange(given.rows, dtype=np.int32)
        with progress_bar(len(sample), "exact", "row") as bar:
            true = timed(
                "searched exactly",
                len(sample),
                lambda: search_exact(unit, K, labels, bar.update, sample),
            )
        recall = {
            str(leaves): share(true, own) for leaves, own in zip(searched, found, strict=True)
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sizes = {"rows": given.rows, "width": given.width, "sample": len(sample), "neighbours": K}
    print(f"{table(['stage', 's', 'rows/s', 'peak GiB'], lines)}\n\nrecall@{K} by leaves: {recall}")
    keep(
        "bank",
        {"sizes": sizes, "recall": recall, "stages": stages},
        contention,
        given,
        found_of(recall, stages),
    )


if __name__ == "__main__":
    main()
