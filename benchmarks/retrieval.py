"""Times neighbours of all rows: exact in JAX, by ScaNN, and by faiss if installed: python -m benchmarks.retrieval [--quick] [--out=JSON]

    make rival-faiss
    python -m benchmarks.retrieval [--rows=57289] [--width=1536]

It finds the ten nearest rows by cosine for each row of a synthetic table, without the row itself; each method runs in a separate process on
the same file and cores. faiss reads inverted lists one query at a time, so it gets only a sample of the rows. Recall is measured on a
sample of rows against products in float64. On a GPU only exact search runs, because the other methods do not use it; it also runs on a
table of `LARGE_ROWS` rows, for a sample of queries.
"""

import importlib.util
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.apart import ROOT, run_apart
from benchmarks.arguments import parser_of
from benchmarks.bank import K, write
from benchmarks.queries import sample_rows
from benchmarks.record import Contention, keep, run, table
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.neighbours.search_scann import leaves_of

FAISS = ROOT / ".rivals" / "faiss" / "bin" / "python"
LARGE_ROWS, LARGE_QUERIES = 1_205_282, 262_144
SAMPLED = {"faiss ivf": 4096}  # queries of a method, if not all rows are queries
SAMPLE, QUICK_ROWS, QUICK_WIDTH = 1000, 5000, 32
TIE = 1e-6  # a neighbour counts as true if its cosine is at most this much below that of the last true one
BLOCK = 8192  # rows that are converted to float64 together
SIGNS = np.array([-1, 1], np.float32)


def write_random(folder: pathlib.Path, rows: int, width: int) -> np.ndarray:
    """Replaces the table in `folder` by [rows, width] random unit rows; rows with a spectrum like that of texts would take minutes."""
    rng, path = np.random.default_rng(0), folder / "items.npy"
    unit = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    block = rng.standard_normal((min(BLOCK, rows), width), np.float32)
    for start in range(0, rows, BLOCK):
        # other rows of the same numbers: a cosine of two blocks' is any
        own = block[: rows - start] * rng.choice(SIGNS, width)
        unit[start : start + BLOCK] = own / np.linalg.norm(own, axis=1, keepdims=True)
    return unit


def nth_cosines(unit: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """[n] the K-th highest cosine, in float64, between each of `rows` [n] and the other rows of [V, E]."""
    queries, best = unit[rows].astype(np.float64), np.full((len(rows), k), -np.inf)
    for start in range(0, len(unit), BLOCK):
        block = unit[start : start + BLOCK].astype(np.float64)
        scores = queries @ block.T
        scores[rows[:, None] == np.arange(start, start + len(block))] = -np.inf
        best = np.partition(np.concatenate([best, scores], axis=1), -k, axis=1)[:, -k:]
    return best.min(axis=1)


def recall(unit: np.ndarray, rows: np.ndarray, found: np.ndarray, least: np.ndarray) -> float:
    """Share of the found [n, K] that are distinct, differ from `rows` [n] themselves, and have a cosine of at least `least` [n]."""
    ordered = np.sort(found, axis=1)
    own = ordered == rows[:, None]
    twice = np.pad(ordered[:, 1:] == ordered[:, :-1], ((0, 0), (1, 0)))
    cosines = np.stack(
        [
            unit[ids].astype(np.float64) @ unit[row].astype(np.float64)
            for row, ids in zip(rows, ordered, strict=True)
        ]
    )
    return float(((ordered >= 0) & ~own & ~twice & (cosines >= least[:, None] - TIE)).mean())


def ways_of(backend: str, quick: bool) -> dict[str, list[str]]:
    """Name -> the command of each method, without its folder; `quick` leaves out and names what is not installed.

    Raises:
      UserError: ScaNN or faiss is not installed, and the run would be recorded.
    """
    package = [sys.executable, "-m", "benchmarks.retrieval_ways"]
    ways = {"exact": [*package, "exact"]}
    if backend == "gpu":
        return ways
    ways["clusters"] = [*package, "clusters"]
    missing = []
    if importlib.util.find_spec("scann"):
        ways["scann"] = [*package, "scann"]
    else:
        missing.append("scann: not installed; expected ScaNN, which `pip install scann` installs")
    if FAISS.exists():
        for kind in ("flat", "ivf"):
            ways[f"faiss {kind}"] = [str(FAISS), "-m", "benchmarks.rivals.faiss_search", kind]
    else:
        place = FAISS.relative_to(ROOT)
        missing.append(f"{place}: not there; expected faiss, which `make rival-faiss` installs")
    for problem in missing:
        if not quick:
            raise UserError(problem)
        print(f"left out, {problem}", flush=True)
    return ways


def measure(
    folder: pathlib.Path,
    unit: np.ndarray,
    commands: dict[str, list[str]],
    limit: float,
    queries: int = 0,
) -> list[dict[str, Any]]:
    """Lets each method search the table in `folder`, for all rows or a number of `queries`; `limit` is operations per second."""
    rows, width = unit.shape
    leaves, searched = leaves_of(rows)
    measured: list[dict[str, Any]] = []
    least: dict[int, np.ndarray] = {}  # by the number of queries
    for name, command in commands.items():
        count = min(rows, SAMPLED.get(name, queries)) or rows
        asked = sample_rows(rows, count)
        places = np.sort(np.random.default_rng(1).choice(count, min(SAMPLE, count), replace=False))
        least[count] = least[count] if count in least else nth_cosines(unit, asked[places], K)
        sizes = [f"--leaves={leaves}", f"--searched={searched}"] if name.startswith("faiss") else []
        figures = run_apart(
            [*command, str(folder), f"--neighbours={K}", f"--queries={count}", *sizes]
        )
        found = np.load(folder / "found.npy")
        seconds = figures["search_seconds"]
        measured.append(
            {
                "way": name,
                "rows": rows,
                "queries": len(asked),
                **figures,
                "queries_per_second": len(asked) / seconds,
                "extrapolated_seconds": seconds * rows / len(asked),
                "recall": recall(unit, asked[places], found[places], least[count]),
                "beside_vectors_bytes": figures["peak_bytes"]
                - figures["start_bytes"]
                - unit.nbytes,
                "share_of_limit": 2.0 * len(asked) * rows * width / seconds / limit,
            }
        )
        print(
            f"{name}, {rows:,} rows: built in {figures['build_seconds']:,.1f} s, searched in {seconds:,.1f} s",
            flush=True,
        )
    return measured


def found_of(measured: Sequence[dict[str, Any]]) -> str:
    """The benchmark's last line: the ratio of each method to exact search for the same number of rows."""
    exact = {row["rows"]: row["queries_per_second"] for row in measured if row["way"] == "exact"}
    others = [
        f"{row['way']} {row['queries_per_second'] / exact[row['rows']]:.1f}x at recall {row['recall']:.3f}"
        for row in measured
        if row["way"] != "exact"
    ]
    rates = ", ".join(f"{rate:,.0f} queries/s of {rows:,} rows" for rows, rate in exact.items())
    return f"exact search answers {rates}; as fast as that: {', '.join(others) or 'no other way was measured'}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures each method, prints, and writes JSON."""
    parser = parser_of("retrieval", __doc__)
    parser.add_argument("--rows", type=int, default=57_289, help="rows of the table")
    parser.add_argument("--width", type=int, default=1536, help="width of a vector, E")
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        default=None,
        help="where the table is written; by default a temporary folder",
    )
    given = parser.parse_args(arguments)
    rows, width = (QUICK_ROWS, QUICK_WIDTH) if given.quick else (given.rows, given.width)
    if rows <= K or width < 1:
        raise UserError(
            f"--rows={rows} --width={width}: expected more rows than the {K} neighbours, and a width from 1"
        )
    contention, folder = (
        Contention(),
        pathlib.Path(tempfile.mkdtemp(prefix="retrieval-", dir=given.folder)),
    )
    package = [sys.executable, "-m", "benchmarks.retrieval_ways"]
    try:
        device = run_apart([*package, "limits", str(folder), *(["--quick"] if given.quick else [])])
        limit, commands = (
            device["limits"]["flops"]["float32"],
            ways_of(device["backend"], given.quick),
        )
        measured = measure(folder, write(folder, rows, width), commands, limit)
        if device["backend"] == "gpu":
            large, queries = (
                (2 * QUICK_ROWS, QUICK_ROWS) if given.quick else (LARGE_ROWS, LARGE_QUERIES)
            )
            measured += measure(
                folder, write_random(folder, large, width), commands, limit, queries
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    body = [
        [
            row["way"],
            f"{row['rows']:,}",
            f"{row['build_seconds']:,.1f}",
            f"{row['extrapolated_seconds']:,.1f}",
            f"{row['queries_per_second']:,.0f}",
            f"{row['recall']:.3f}",
            f"{row['beside_vectors_bytes'] / 2**20:,.0f}",
            f"{row['share_of_limit']:.0%}",
        ]
        for row in measured
    ]
    header = [
        "way",
        "rows",
        "build, s",
        "search of all, s",
        "queries/s",
        f"recall@{K}",
        "in addition to the vectors, MiB",
        "of the limit",
    ]
    print(table(header, body))
    sizes = {"rows": rows, "width": width, "neighbours": K, "sample": min(SAMPLE, rows)}
    keep(
        "retrieval",
        {"sizes": sizes, "limits": device["limits"], "ways": measured},
        contention,
        given,
        found_of(measured),
    )


if __name__ == "__main__":
    run(main)
