"""Recommendations for many users in one call, compared with RecTools: python -m benchmarks.serving_batch [--quick] [--out=JSON]

    make rival-rectools
    python -m benchmarks.serving_batch [--sizes=12101x20000,1200000x1000]

A size is a number of items and of users. Both models are SASRecs with two blocks; their parameters do not matter. A user has 2 to 50 items,
which are not recommended, and gets ten others. The first call compiles, the second one counts.
"""

import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.apart import ROOT, run_apart
from benchmarks.arguments import parser_of
from benchmarks.record import Contention, keep, run, table
from benchmarks.rivals.batch_histories import histories_of
from benchmarks.serving_model import FEATURES, LENGTH, untrained
from grasp_jax.api import Recommender
from grasp_jax.core.errors import UserError
from grasp_jax.serving.artifact import save_artifact

RIVAL = ROOT / ".rivals" / "rectools" / "bin" / "python"
K = 10


def of_ours(num_items: int, users: int) -> dict[str, Any]:
    """Seconds of two calls of `Recommender.recommend`, and rows of the answer."""
    with tempfile.TemporaryDirectory(prefix="batch-") as temporary:
        folder = pathlib.Path(temporary) / "model"
        save_artifact(untrained(num_items), folder)
        model = Recommender.load(folder)
        histories = [own.tolist() for own in histories_of(num_items, users, LENGTH)]
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            found = model.recommend(histories=histories, k=K)
            seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "rows": len(found)}


def of_rival(num_items: int, users: int) -> dict[str, Any]:
    """The same for RecTools."""
    command = [str(RIVAL), "-m", "benchmarks.rivals.rectools_recommend", f"--items={num_items}"]
    command += [f"--users={users}", f"--features={FEATURES}", f"--length={LENGTH}", f"--k={K}"]
    found: dict[str, Any] = run_apart(command)
    return found


def measure(num_items: int, users: int, with_rival: bool) -> list[dict[str, Any]]:
    """Users per second of each.

    Raises:
      UserError: a user got fewer rows than requested.
    """
    measured = []
    for name, of in (("grasp_jax", of_ours), ("RecTools", of_rival)):
        if name == "RecTools" and not with_rival:
            continue
        found = of(num_items, users)
        if found["rows"] != K * users:
            raise UserError(
                f"{name}: {found['rows']:,} rows for {users:,} users; expected {K} rows each"
            )
        rate = users / found["seconds"][-1]
        about = {"library": name, "items": num_items, "users": users, "users_per_second": rate}
        measured.append(about | found)
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures both at each size, prints, and writes JSON."""
    parser = parser_of("serving_batch", __doc__)
    parser.add_argument(
        "--sizes", default="12101x20000,1200000x1000", help="items and users, as in 12101x20000"
    )
    given = parser.parse_args(arguments)
    sizes = [tuple(map(int, part.split("x"))) for part in given.sizes.split(",")]
    if given.quick:
        sizes = [(1500, 300)]
    if not RIVAL.exists() and not given.quick:
        raise UserError(
            f"{RIVAL.relative_to(ROOT)}: not there; expected the rival, which `make rival-rectools` installs"
        )
    contention, measured = Contention(), []
    for num_items, users in sizes:
        measured += measure(num_items, users, RIVAL.exists())
    rows = [
        [
            f"{own['library']}, {own['items']:,} items",
            f"{own['users_per_second']:,.0f}",
            f"{own['seconds'][0]:.1f}",
        ]
        for own in measured
    ]
    print(table(["library", "users/s", "first call, s"], rows))
    facts = {"k": K, "length": LENGTH, "features": FEATURES, "libraries": measured}
    keep("serving_batch", facts, contention, given, ratio(measured))


def ratio(measured: Sequence[dict[str, Any]]) -> str:
    """The last line: our users per second divided by those of the rival."""
    rates: dict[int, list[float]] = {}
    for own in measured:
        rates.setdefault(own["items"], []).append(own["users_per_second"])
    parts = [
        f"{own[0] / own[1]:.1f}x at {items:,} items"
        if len(own) == 2
        else f"nothing to compare with at {items:,} items"
        for items, own in rates.items()
    ]
    return f"Recommender.recommend answers so many times the users of RecTools: {', '.join(parts)}"


if __name__ == "__main__":
    run(main)
