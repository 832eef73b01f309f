"""Reading and preparing large logs: processor seconds and peak memory of each step: python -m benchmarks.reading [--quick] [--out=JSON]

A synthetic log is written as CSV with ids in letters (plain and gzip), as Parquet, as CSV with whole numbers and as `inter.txt`. Each file
is read in a separate process. One more process stores the log that it reads, and the next one maps the stored log into memory. Then another
process does everything that comes before the first training step, except text vectors.
"""

import gzip
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from benchmarks.apart import run_apart
from benchmarks.arguments import parser_of
from benchmarks.record import Contention, keep, run, table

USERS, ITEMS, ROWS = 500_000, 120_000, 5_000_000
QUICK_USERS, QUICK_ITEMS, QUICK_ROWS = 2_000, 500, 20_000
LETTERS, GZIP, PARQUET, NUMBERS, PAIRS = (
    "strings.csv",
    "strings.csv.gz",
    "strings.parquet",
    "numbers.csv",
    "pairs.txt",
)
FORMATS = {
    LETTERS: "CSV, ids of 14 and 10 letters",
    GZIP: "the same, gzip",
    PARQUET: "the same, Parquet",
    NUMBERS: "CSV, whole numbers",
    PAIRS: "txt, whole numbers, no times",
}
STORED = ("the first, and storing the log", "the stored log of the first")  # in two processes


def write_log(folder: pathlib.Path, users: int, items: int, rows: int) -> None:
    """Files of one synthetic log in the order of time; every user occurs at least three times, some items far more often."""
    rng = np.random.default_rng(0)
    share = rng.lognormal(0, 1, users)
    lengths = 3 + rng.multinomial(rows - 3 * users, share / share.sum())
    owners = rng.permutation(np.repeat(np.arange(users), lengths))
    bought = (items * rng.random(rows) ** 3).astype(np.int64)
    times = np.sort(rng.integers(1_300_000_000, 1_400_000_000, rows))
    user_ids = pa.array([f"A{7919 * n % (13 * users):013d}" for n in range(users)])
    item_ids = pa.array([f"B00{104_729 * n % (9 * items):07d}" for n in range(items)])
    letters = {"user": user_ids.take(pa.array(owners)), "item": item_ids.take(pa.array(bought))}
    plain = pa.csv.WriteOptions(quoting_style="none")
    named = pa.table({**letters, "timestamp": times})
    pa.csv.write_csv(named, folder / LETTERS, plain)
    (folder / GZIP).write_bytes(gzip.compress((folder / LETTERS).read_bytes(), 3))
    pa.parquet.write_table(named, folder / PARQUET)
    numbered = pa.table({"user": owners + 1, "item": bought + 1, "timestamp": times})
    pa.csv.write_csv(numbered, folder / NUMBERS, plain)
    bare = pa.csv.WriteOptions(quoting_style="none", include_header=False, delimiter=" ")
    pa.csv.write_csv(numbered.drop_columns("timestamp"), folder / PAIRS, bare)


def show(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and body: reading of each format, and each step of a preparation; then those of an earlier version, if it is recorded."""
    before = record.get("before")
    header = ["step", "processor seconds", "peak memory so far, MiB"]
    header += (
        [f"processor seconds of version {before['commit']}", "its peak, MiB"] if before else []
    )
    body = []
    for name, stage in record["reading"].items():
        own = stage["steps"]["read and build"]
        body.append([f"reading {FORMATS[name]}", *_costs(own)])
        body[-1] += _costs(before["reading"][name]) if before else []
    for name, stage in record.get("stored", {}).items():
        body.append([f"reading {name}", *_costs(stage["steps"]["read and build"])])
        body[-1] += ["", ""] if before else []
    steps = record["preparation"]["steps"]
    rows = {**steps, "all steps": _sum(steps)}
    earlier = {}
    if before:
        earlier = {**before["preparation"], "all steps": _sum(before["preparation"])}
    for name, step in rows.items():
        body.append([f"preparation: {name}", *_costs(step)])
        body[-1] += _costs(earlier[name]) if earlier else []
    return header, body


def _sum(steps: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {
        "cpu_seconds": sum(step["cpu_seconds"] for step in steps.values()),
        "peak_bytes": max(step["peak_bytes"] for step in steps.values()),
    }


def _costs(step: Mapping[str, float]) -> list[str]:
    return [f"{step['cpu_seconds']:.2f}", f"{step['peak_bytes'] / 2**20:,.0f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the log, runs the stages, prints and writes JSON."""
    given = parser_of("reading", __doc__).parse_args(arguments)
    sizes = (QUICK_USERS, QUICK_ITEMS, QUICK_ROWS) if given.quick else (USERS, ITEMS, ROWS)
    contention = Contention()
    command = [sys.executable, "-m", "benchmarks.reading_stages"]
    with tempfile.TemporaryDirectory(prefix="reading-") as name:
        folder = pathlib.Path(name)
        write_log(folder, *sizes)
        reading = {
            file: run_apart([*command, str(folder / file), "--stage=read"]) for file in FORMATS
        }
        letters = [*command, str(folder / LETTERS), "--stage=read", f"--store={folder / 'store'}"]
        stored = {name: run_apart(letters) for name in STORED}
        preparation = run_apart([*command, str(folder / LETTERS), "--stage=prepare"])
    facts = {
        "sizes": dict(zip(("users", "items", "interactions"), sizes, strict=True)),
        "reading": reading,
        "stored": stored,
        "preparation": preparation,
    }
    print(table(*show(facts)))
    first = reading[LETTERS]["steps"]["read and build"]
    found = f"{sizes[2]:,} interactions with ids in letters are read in {first['cpu_seconds']:.2f} processor seconds"
    keep(
        "reading",
        facts,
        contention,
        given,
        f"{found}, at a peak of {first['peak_bytes'] / 2**20:,.0f} MiB",
    )


if __name__ == "__main__":
    run(main)
