"""Searches neighbours in large tables of synthetic texts: in clusters, and exactly for a sample: python -m benchmarks.neighbours [--quick]

    python -m benchmarks.neighbours [--rows=100000,1000000] [--width=1024] [--kill-after=SECONDS] [--folder=FOLDER] [--out=JSON]

It finds the ten nearest rows by cosine for each row of `benchmarks.made_up_texts`, a memory-mapped float16 file in --folder. Every method
runs in a separate process. Recall is measured on a sample of rows against products in float64. Processor seconds are summed over all cores.
With --kill-after the search in clusters of the largest table is killed once by SIGKILL and started again; its cost has both processes.
"""

import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.apart import kill_apart, run_apart
from benchmarks.arguments import parser_of
from benchmarks.bank import K
from benchmarks.made_up_texts import write_texts
from benchmarks.record import Contention, keep, run, table
from benchmarks.retrieval import measure
from grasp_jax.core.errors import UserError

QUERIES = 2048  # rows whose neighbours are searched exactly
QUICK_ROWS, QUICK_WIDTH, QUICK_QUERIES = "20000", 32, 50  # fewer rows are searched exactly
FEWEST = 1000  # rows


def of_size(
    folder: pathlib.Path, rows: int, width: int, limit: float, queries: int, kill_after: float = 0
) -> list[dict[str, Any]]:
    """Makes a table of a given size and returns the cost of each method on it; kills the search in clusters once if a time is given."""
    started = time.perf_counter()
    unit = write_texts(folder / "items.npy", rows, width)
    print(f"{rows:,} rows written in {time.perf_counter() - started:,.1f} s", flush=True)
    package = [sys.executable, "-m", "benchmarks.retrieval_ways"]
    by_clusters = [*package, "clusters"]
    killed = None
    if kill_after:
        killed = kill_apart([*by_clusters, str(folder), f"--neighbours={K}"], kill_after)
        print(f"the search in clusters was killed after {killed['seconds']:,.1f} s", flush=True)
    (found,) = measure(folder, unit, {"clusters": by_clusters}, limit)
    if killed:
        found = with_killed(found, killed)
    return [found, *measure(folder, unit, {"exact": [*package, "exact"]}, limit, queries)]


def with_killed(found: dict[str, Any], killed: dict[str, float]) -> dict[str, Any]:
    """The figures of a search with those of the process that was killed before it; its seconds count as those of building."""
    more_bytes = max(0, int(killed["peak_bytes"]) - found["peak_bytes"])
    return found | {
        "build_seconds": found["build_seconds"] + killed["seconds"],
        "processor_seconds": found["processor_seconds"] + killed["processor_seconds"],
        "peak_bytes": found["peak_bytes"] + more_bytes,
        "beside_vectors_bytes": found["beside_vectors_bytes"] + more_bytes,
        "killed": killed,
    }


def sizes_of(rows: str) -> list[int]:
    """The numbers of rows in a flag.

    Raises:
      UserError: one is not a number, or too small.
    """
    try:
        sizes = [int(own) for own in rows.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < FEWEST:
        raise UserError(f"--rows={rows}: expected numbers of rows from {FEWEST:,}, with commas")
    return sizes


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures each size, prints, and writes JSON."""
    parser = parser_of("neighbours", __doc__)
    parser.add_argument(
        "--rows", default="100000,1000000", help="rows of the tables, comma separated"
    )
    parser.add_argument("--width", type=int, default=1024, help="width of a vector, E")
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        default=None,
        help="where the tables are written; by default a temporary folder",
    )
    parser.add_argument(
        "--kill-after",
        type=float,
        default=0,
        help="seconds after which the search of the largest table is killed, and started again; 0: never",
    )
    given = parser.parse_args(arguments)
    sizes, width, queries = sizes_of(given.rows), given.width, QUERIES
    if given.quick:
        sizes, width, queries = sizes_of(QUICK_ROWS), QUICK_WIDTH, QUICK_QUERIES
    contention = Contention()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="neighbours-", dir=given.folder))
    package = [sys.executable, "-m", "benchmarks.retrieval_ways"]
    try:
        device = run_apart([*package, "limits", str(folder), *(["--quick"] if given.quick else [])])
        limit = device["limits"]["flops"]["float32"]
        measured: list[dict[str, Any]] = []
        for rows in sizes:
            kill_after = given.kill_after if rows == max(sizes) else 0
            measured += of_size(folder, rows, width, limit, queries, kill_after)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    body = [
        [
            row["way"],
            f"{row['rows']:,}",
            f"{row['queries']:,}",
            f"{row['build_seconds'] + row['extrapolated_seconds']:,.0f}",
            f"{row['processor_seconds']:,.0f}",
            f"{row['recall']:.3f}",
            f"{row['beside_vectors_bytes'] / 2**20:,.0f}",
        ]
        for row in measured
    ]
    header = ["way", "rows", "queries", "s of all", "processor s", f"recall@{K}", "extra MiB"]
    print(table(header, body))
    keep(
        "neighbours",
        {"sizes": {"width": width, "neighbours": K}, "limits": device["limits"], "ways": measured},
        contention,
        given,
        found_of(measured),
    )


def found_of(measured: Sequence[dict[str, Any]]) -> str:
    """The benchmark's last line: the ratio of clusters to exact search for each size."""
    of = {(row["way"], row["rows"]): row for row in measured}

    def seconds(way: str, rows: int) -> float:
        row = of[way, rows]
        return float(row["build_seconds"] + row["extrapolated_seconds"])

    parts = [
        f"{rows:,} rows {seconds('exact', rows) / seconds('clusters', rows):.1f}x at recall "
        f"{of['clusters', rows]['recall']:.3f}"
        for way, rows in of
        if way == "clusters"
    ]
    return f"by clusters, over exact search: {', '.join(parts)}"


if __name__ == "__main__":
    run(main)
