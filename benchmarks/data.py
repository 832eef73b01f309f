"""The host's part of training, and how it grows: python -m benchmarks.data [--quick] [--out=JSON]

Split, exclusion index, packing plan and the packing of an epoch for 1, 2, 4 and 8 times the users, with a straight line fitted to each.
Beside them an epoch of id-only SASRec, the fastest model there is and so the hardest for the host to keep up with: its steps take the
median time of some that are run.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.factorised import FactorisedStep
from benchmarks.lengths import log_to_time
from benchmarks.record import Contention, keep, table
from benchmarks.workload import QUICK, Sizes, config_of, training_data
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.negatives import exclusion_index
from grasp_jax.data.packing import pack, plan_packing, stratified_batches
from grasp_jax.data.split import Split, leave_one_out

TIMES, QUICK_TIMES = (1, 2, 4, 8), (1, 2, 4)
STAGES = ("split", "exclusion_index", "packing_plan", "packing")
REPEATS = 3
STEPS, DISPATCHES = 32, 3  # of training, beside


class Line(NamedTuple):
    """y = intercept + slope x; `largest_deviation` of a point from it, as a share of the line's value there."""

    slope: float
    intercept: float
    largest_deviation: float


def straight_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line of least squares, each deviation as a share of the point's y, so that the small sizes weigh as much as the large ones.

    Raises:
      ValueError: fewer than three points, through which any line goes, or one that is not above 0.
    """
    if len(x) < 3 or min(y) <= 0:
        raise ValueError(f"{len(x)} points, the lowest {min(y, default=0)}; a fit needs three above 0")
    at, values = np.asarray(x, float), np.asarray(y, float)
    slope, intercept = np.polyfit(at, values, 1, w=1.0 / values)
    fitted = intercept + slope * at
    return Line(float(slope), float(intercept), float(np.abs(values / fitted - 1.0).max()))


def repeated(log: InteractionLog, times: int) -> InteractionLog:
    """The log with each user so many times, as users of their own; the catalogue stays."""
    begins = [log.offsets[:-1] + k * log.num_interactions for k in range(times)]
    return InteractionLog(
        name=f"{log.name} x {times}",
        user_ids=np.arange(times * log.num_users),
        item_ids=log.item_ids,
        items=np.tile(log.items, times),
        offsets=np.concatenate([*begins, [times * log.num_interactions]]),
    )


def timed(stage: Callable[[], Any]) -> tuple[Any, float]:
    """What a stage gives, and the median seconds of `REPEATS` runs."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        outcome = stage()
        seconds.append(time.perf_counter() - started)
    return outcome, statistics.median(seconds)


def epoch_seconds(split: Split, sizes: Sizes) -> float:
    """An epoch's steps of id-only SASRec, each at the median time of some."""
    step = FactorisedStep(config_of(sizes), split, training_data(split, {}, sizes.batch_size), STEPS, "plain", "sasrec")
    step.run()
    return statistics.median(step.run() for _ in range(DISPATCHES)) * step.epoch_steps


def measure(log: InteractionLog, sizes: Sizes) -> dict[str, Any]:
    """Seconds of each stage for one log, and of an epoch's training."""
    split, of_split = timed(lambda: leave_one_out(log, sizes.max_length))
    _, of_index = timed(lambda: exclusion_index(log, log.offsets[:-1], split.train.end))
    users = np.flatnonzero(split.train.lengths > 1)
    packing, of_plan = timed(lambda: plan_packing(split.train, users, sizes.batch_size))

    def epoch() -> np.ndarray:
        batches = stratified_batches(split.train.lengths, users, packing.batch_size, np.random.default_rng(0))
        return pack(split.train, batches, packing)[0]

    slots, of_packing = timed(epoch)
    training = epoch_seconds(split, sizes)
    tokens = int(split.train.lengths[users].sum())
    seconds = dict(zip(STAGES, (of_split, of_index, of_plan, of_packing), strict=True))
    return {
        "users": log.num_users,
        "interactions": log.num_interactions,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_packed_per_second": tokens / of_packing,
        "filled": tokens / slots.size,
        "epoch_seconds": training,
        "packing_share_of_epoch": of_packing / training,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures each size, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes; writes nothing unless --out is given")
    parser.add_argument("--out", type=pathlib.Path, default=None)
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else Sizes()
    contention, log = Contention(), log_to_time(given.quick)
    scales = QUICK_TIMES if given.quick else TIMES
    rows = [{"times": times, **measure(repeated(log, times), sizes)} for times in scales]
    lines = {name: straight_line(scales, [row["seconds"][name] for row in rows]) for name in STAGES}
    lines["epoch"] = straight_line(scales, [row["epoch_seconds"] for row in rows])
    body = [
        [
            str(row["times"]), f"{row['tokens']:,}", *(f"{1e3 * row['seconds'][name]:.1f}" for name in STAGES),
            f"{row['tokens_packed_per_second']:,.0f}", f"{row['epoch_seconds']:.2f}", f"{row['packing_share_of_epoch']:.2%}",
        ]
        for row in rows
    ]  # fmt: skip
    stages = [f"{name}, ms" for name in STAGES]
    print(table(["times the users", "tokens", *stages, "tokens packed/s", "an epoch's steps, s", "packing's share"], body))
    print("largest deviation from a straight line: " + ", ".join(f"{name} {line.largest_deviation:.0%}" for name, line in lines.items()))
    facts = {**sizes._asdict(), "data": log.name, "users": log.num_users, "items": log.num_items}
    fitted = {name: line._asdict() for name, line in lines.items()}
    keep("data", {"sizes": facts, "rows": rows, "lines": fitted}, contention, given.out, given.quick)


if __name__ == "__main__":
    main()
