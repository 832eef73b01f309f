"""Daily training over seven days: from yesterday's model for a few epochs, compared with training from scratch and with no training.

    python -m benchmarks.seven_days --data=FOLDER --workdir=DIR [--days=7] [--span=7] [--epochs=20] [--daily-epochs=4]

A "day" is several calendar days at the end of the data, so that it has enough purchases. On each day, three models predict what people buy
that day from their earlier purchases: the model of the first day, unchanged; one that starts from the model of the day before
(`train.start_from`, and `knowledge.since` for its texts); and one that is trained from scratch. All read the data up to that day;
validation is the day before. Times are those of the whole call, from reading frames to a model that recommends. Trained models are stored
in the workdir with their times, and are not trained again. Results go to benchmarks/results/study-seven.json, next to those of other shops.
"""

import itertools
import json
import pathlib
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.cold_case import METRICS, Purchases, gains_of
from benchmarks.cold_items import beside, config_of
from benchmarks.record import RESULTS, Contention, keep, run, table
from grasp_jax.api import Recommender
from grasp_jax.config import Config
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.log import InteractionLog
from grasp_jax.errors import UserError
from grasp_jax.files import write_text
from grasp_jax.machine import machine

WAYS = ("first day's model", "continued", "from nothing")
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class Day(NamedTuple):
    """One day.

    Attributes:
      shop: the data until the morning, split so that the day before is validation.
      purchases: those of the day.
    """

    shop: Dataset
    purchases: Purchases


def days_of(shop: Dataset, count: int, span: int) -> list[Day]:
    """The last days of a shop.

    Args:
      shop: with times that are dates, and an items table.
      count: number of days.
      span: calendar days that make one of them.

    Raises:
      UserError: there are no dates or texts.
    """
    log = shop.log
    if log.timestamps is None or not log.time_unit or shop.texts.items is None:
        raise UserError(
            f"--data: {shop.name}: expected interactions with dates, and an items table"
        )
    step = span * 86_400 * PER_SECOND[log.time_unit]
    end = int(log.timestamps.max()) + 1
    edges = [end - step * left for left in range(count, -1, -1)]
    return [
        Day(_known(shop, begin, begin - step), _bought(log, begin, after))
        for begin, after in itertools.pairwise(edges)
    ]


def _known(shop: Dataset, begin: int, valid_after: int) -> Dataset:
    """The interactions before `begin`, with the items that were bought by then."""
    log, texts = shop.log, shop.texts.items
    assert log.timestamps is not None and texts is not None
    kept = log.timestamps < begin
    items = np.unique(log.items[kept])
    interactions = {
        "user": log.user_ids[log.users[kept]].tolist(),
        "item": log.item_ids[log.items[kept]].tolist(),
        "timestamp": log.timestamps[kept].tolist(),
    }
    columns = {"item": log.item_ids.tolist(), **texts.columns}
    known = {name: [values[row] for row in items.tolist()] for name, values in columns.items()}
    # Only the last moment of the data is the "test" set, which is not used; all other interactions are available.
    options = {"split": "time", "valid_after": str(valid_after), "test_after": str(begin - 1)}
    return Dataset.from_frames(interactions, known, name=shop.name, **options)


def _bought(log: InteractionLog, begin: int, end: int) -> Purchases:
    """Purchases in a span of time by people with earlier purchases; their histories end in the morning."""
    assert log.timestamps is not None
    owners = log.users
    places = np.flatnonzero((log.timestamps >= begin) & (log.timestamps < end))
    before = np.bincount(owners[log.timestamps < begin], minlength=log.num_users)
    places = places[before[owners[places]] > 0]
    histories = [
        log.item_ids[log.items[log.offsets[user] : log.offsets[user] + before[user]]]
        for user in owners[places].tolist()
    ]
    known = np.bincount(log.items[log.timestamps < begin], minlength=log.num_items) > 0
    bought = log.items[places]
    return Purchases(owners[places], histories, log.item_ids[bought].astype(str), ~known[bought])


def answers(model: Recommender, purchases: Purchases) -> list[np.ndarray]:
    """For each purchase, ids of the ten best items that the person has not had."""
    frame = model.recommend(histories=purchases.histories, k=10)
    users, items = np.asarray(frame["user"]), np.asarray(frame["item"]).astype(str)
    bounds = np.searchsorted(users, np.arange(len(purchases.histories) + 1))
    return [items[begin:end] for begin, end in itertools.pairwise(bounds)]


def trained(config: Config, shop: Dataset, workdir: pathlib.Path) -> tuple[Recommender, float]:
    """A model and its training seconds; for a model that exists already, the seconds that are stored with it."""
    note = workdir / "seconds.json"
    begin = time.perf_counter()
    model = Recommender(config).fit(shop, workdir)
    seconds = time.perf_counter() - begin
    if note.exists():
        return model, float(json.loads(note.read_text()))
    write_text(note, json.dumps(seconds))
    return model, seconds


def daily(config: Config, before: pathlib.Path, epochs: int, rate: float) -> Config:
    """The config of a day whose training starts from the model of the day before."""
    fields: dict[str, Any] = {
        "train.start_from": str(before),
        "knowledge.since": str(before / "knowledge"),
        "train.max_epochs": epochs,
        "train.decay_epochs": epochs,
        "train.learning_rate": (rate,),
    }
    return config.with_fields(fields)


def main() -> None:
    """Trains, measures, prints and stores the results."""
    parser = parser_of("seven_days", __doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the shop")
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="keeps the models")
    parser.add_argument("--method", default="grasp_plus")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--span", type=int, default=7, help="calendar days that make a day")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--daily-epochs", type=int, default=4)
    parser.add_argument(
        "--daily-rate", type=float, default=2e-3, help="first learning rate of a day"
    )
    given, contention = parser.parse_args(), Contention()
    shop = Dataset.read(given.data, interactions_file="inter_time.tsv")
    config = config_of(given.method, given.epochs, 42, {})
    found: list[dict[str, Any]] = []
    for number, day in enumerate(days_of(shop, given.days, given.span)):
        fresh, cost = trained(config, day.shop, given.workdir / f"day{number}-from-nothing")
        here = given.workdir / f"day{number}-trained-on"
        if number == 0:
            first, on, on_cost, before = fresh, fresh, cost, given.workdir / "day0-from-nothing"
        else:
            own = daily(config, before, given.daily_epochs, given.daily_rate)
            on, on_cost = trained(own, day.shop, here)
            before = here
        models = dict(zip(WAYS, ((first, 0.0), (on, on_cost), (fresh, cost)), strict=True))
        for way, (model, seconds) in models.items():
            gains = gains_of(day.purchases, answers(model, day.purchases))
            measured = {name: float(own.mean()) for name, own in gains.items()}
            about = {"day": number, "way": way, "purchases": len(day.purchases.targets)}
            found.append({**about, "seconds": seconds, **measured})
            print(f"day {number}, {way}: NDCG@10 {100 * measured[METRICS[1]]:.2f}, {seconds:.0f} s")
    later = [row for row in found if row["day"] > 0]
    means = {way: _means([row for row in later if row["way"] == way]) for way in WAYS}
    print(
        table(
            ["", "NDCG@10", "Recall@10", "seconds a day"],
            [
                [
                    way,
                    f"{100 * own[METRICS[1]]:.2f}",
                    f"{100 * own[METRICS[0]]:.2f}",
                    f"{own['seconds']:.0f}",
                ]
                for way, own in means.items()
            ],
        )
    )
    going, anew = means[WAYS[1]], means[WAYS[2]]
    said = (
        f"continued: {100 * (going[METRICS[1]] / anew[METRICS[1]] - 1):+.1f} % of the NDCG@10 from nothing, in "
        f"{100 * going['seconds'] / anew['seconds']:.0f} % of its time"
    )
    names = ("method", "days", "span", "epochs", "daily_epochs", "daily_rate")
    run_of = {
        "name": f"{given.data.name}, {given.daily_epochs} epochs at {given.daily_rate:g}",
        "shop": given.data.name,
        "measured": {"date": time.strftime("%Y-%m-%d"), "commit": machine()["commit"]},
        "settings": {name: getattr(given, name) for name in names},
        "cores_used_by_others": contention.cores(),
        "days": found,
        "means": means,
    }
    given.out = given.out or (None if given.quick else RESULTS / "study-seven.json")
    keep("study-seven", {"runs": beside(given.out, run_of)}, contention, given, said)


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means over all days, in which each purchase has the same weight."""
    weights = np.array([row["purchases"] for row in rows], float)
    found = {
        name: float(np.average([row[name] for row in rows], weights=weights)) for name in METRICS
    }
    return found | {"seconds": float(np.mean([row["seconds"] for row in rows]))}


if __name__ == "__main__":
    run(main)
