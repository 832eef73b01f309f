"""Times representations of a million users, and of the next day, on which few histories have changed: users per second and peak memory.

    python -m benchmarks.representations [--users=1000000] [--changed=0.01] [--quick]

A small SASRec is trained on some of the users and saved. It then represents all users, most of whom it has not seen.
"""

import pathlib
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow.parquet

import grasp_jax as gj
from benchmarks.arguments import parser_of
from benchmarks.peak_memory import peak_bytes
from benchmarks.record import Contention, keep, run

NUM_ITEMS, MEAN_LENGTH, SOME = 12_101, 9, 20_000


def interactions(num_users: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Columns user and item of synthetic histories; items are drawn by Zipf's law."""
    rng = np.random.default_rng(seed)
    lengths = 4 + rng.poisson(MEAN_LENGTH - 4, num_users)
    odds = 1 / np.arange(1, NUM_ITEMS + 1)
    items = rng.choice(NUM_ITEMS, lengths.sum(), p=odds / odds.sum())
    items[:NUM_ITEMS] = np.arange(NUM_ITEMS)  # so that every item is sold once
    return {"user": np.repeat(np.arange(num_users), lengths), "item": items}


def next_day(rows: dict[str, np.ndarray], share: float, seed: int = 1) -> dict[str, np.ndarray]:
    """The interactions of the next day: a share of the users has one more item."""
    rng = np.random.default_rng(seed)
    users = np.unique(rows["user"])
    more = rng.choice(users, int(share * len(users)), replace=False)
    new = {"user": more, "item": rng.integers(0, NUM_ITEMS, len(more))}
    return {name: np.concatenate([rows[name], new[name]]) for name in rows}


def timed(model: gj.Recommender, folder: pathlib.Path) -> dict[str, Any]:
    """Seconds and numbers of one call."""
    begin = time.perf_counter()
    found = model.represent(folder)
    seconds = time.perf_counter() - begin
    users = found.computed + found.kept
    return {"seconds": seconds, "users_per_second": users / seconds, **found._asdict()}


def main() -> None:
    parser = parser_of("representations", __doc__)
    parser.add_argument("--users", type=int, default=1_000_000, help="users to represent")
    parser.add_argument(
        "--changed",
        type=float,
        default=0.01,
        help="share of users whose histories change on the next day",
    )
    given = parser.parse_args()
    num_users = 30_000 if given.quick else given.users
    contention = Contention()
    rows = interactions(num_users)
    few = {name: own[: np.searchsorted(rows["user"], SOME)] for name, own in rows.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = gj.Recommender(method="plain", max_epochs=1, split="none")
        model.fit(gj.Dataset.from_frames(few)).save(folder / "model")
        everyone = gj.Dataset.from_frames(rows)
        loaded = gj.Recommender.load(folder / "model", everyone)
        whole = timed(loaded, folder / "daily")
        later = gj.Recommender.load(
            folder / "model", gj.Dataset.from_frames(next_day(rows, given.changed))
        )
        day = timed(later, folder / "daily")
        peak = peak_bytes() / 2**20
        print(f"first day: {whole['users_per_second']:,.0f} users a second; next day: {day}")
        again = timed(later, folder / "anew")
        apart = largest_difference(folder / "daily", folder / "anew")
    facts = {
        "sizes": {"users": num_users, "items": NUM_ITEMS, "changed": given.changed},
        "first_day": whole,
        "next_day": day,
        "next_day_from_nothing": again,
        "largest_difference": apart,
        "peak_memory_mb": peak,
    }
    ratio = again["seconds"] / day["seconds"]
    found = (
        f"{whole['users_per_second']:,.0f} users a second, {peak:,.0f} MB at most; with {100 * given.changed:g} % of histories changed the "
        f"next day takes 1/{ratio:.1f} of the time from nothing, and differs by {apart:.0e} at most"
    )
    keep("representations", facts, contention, given, found)


def largest_difference(first: pathlib.Path, second: pathlib.Path) -> float:
    """Largest difference between the vectors of two folders with the same users."""
    largest = 0.0
    for path in sorted((first / "users").iterdir()):
        one, other = (
            pyarrow.parquet.read_table(folder / "users" / path.name) for folder in (first, second)
        )
        assert one["user"].equals(other["user"])
        a, b = (
            table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            for table in (one, other)
        )
        largest = max(largest, float(np.abs(a - b).max()))
    return largest


if __name__ == "__main__":
    run(main)
