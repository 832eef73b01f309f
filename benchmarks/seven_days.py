"""Daily training over seven days: from yesterday's model for a few epochs, compared with training from scratch and with no training.

    python -m benchmarks.seven_days --data=FOLDER --workdir=DIR [--method=id_and_match] [--epochs=20] [--daily-epochs=4] [--daily-rate=2e-3]
        [--daily-replay=3]

A "day" is several calendar days at the end of the data, so that it has enough purchases. On each day, three models predict what people buy
that day from their earlier purchases: the model of the first day, unchanged; one that starts from the model of the day before
(`train.start_from`, and `knowledge.since` for its texts); and one that is trained from scratch. With `--daily-replay`, the second reads in
each epoch only users with purchases that the day before did not know, and that many other users for each (`train.new_since`). All read the
data up to that day; validation is the day before. Each training has a process of its own, and its time is that from reading frames to a
trained model. Seconds of the processor, over all cores, are recorded too, because other programs change them less. Programs that were
compiled on an earlier day are used again, but not those of the other way to train. Trained models are stored in the workdir with their
times, and are not trained again; a second daily setting needs only its own models. Results go to benchmarks/results/study-seven.json, next
to those of other shops and settings.
"""

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.cold_case import METRICS, Purchases, gains_of, standard_error
from benchmarks.cold_items import beside, config_of
from benchmarks.record import Contention, keep, place, run, table
from grasp_jax.api import Recommender
from grasp_jax.config import Config
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import write_text
from grasp_jax.core.machine import machine
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.log import InteractionLog

WAYS = ("first day's model", "continued", "from nothing")
RECIPES: dict[str, dict[str, Any]] = {  # fields of `grasp_plus`
    "grasp_plus": {},
    "id_and_match": {"model.plus.text_towers": 0, "model.plus.company_towers": 0},
}
COSTS = ("seconds", "processor_seconds")
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class Frames(NamedTuple):
    """Data until the morning of a day: arguments of `Dataset.from_frames`.

    Attributes:
      interactions: columns of ids and times.
      items: columns of the items that were bought by then.
      options: the name, and a split whose validation is the day before.
    """

    interactions: dict[str, list[Any]]
    items: dict[str, list[Any]]
    options: dict[str, str]

    def read(self) -> Dataset:
        """The dataset of these frames."""
        return Dataset.from_frames(self.interactions, self.items, **self.options)


class Daily(NamedTuple):
    """How a day's training continues from the model of the day before.

    Attributes:
      epochs: their number.
      rate: first learning rate.
      replay: `train.replay`; None: all users are read in each epoch.
    """

    epochs: int
    rate: float
    replay: float | None = None

    @property
    def name(self) -> str:
        """Of the folders of its models."""
        replay = "" if self.replay is None else f"-replay-{self.replay:g}"
        return f"continued-{self.epochs}-epochs-{self.rate:g}{replay}"


class Day(NamedTuple):
    """One day.

    Attributes:
      frames: the data until the morning.
      purchases: those of the day.
    """

    frames: Frames
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


def _known(shop: Dataset, begin: int, valid_after: int) -> Frames:
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
    split = {"split": "time", "valid_after": str(valid_after), "test_after": str(begin - 1)}
    return Frames(interactions, known, {"name": shop.name, **split})


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


def trained(
    config: Config, day: Day, workdir: pathlib.Path, compiled: pathlib.Path
) -> tuple[Recommender, dict[str, float]]:
    """A model and the `COSTS` of its training; for a model that exists already, those that are stored with it.

    Args:
      config: of the training.
      day: whose data it reads.
      workdir: of the model.
      compiled: folder of the programs that were compiled on earlier days.
    """
    note = workdir / "costs.json"
    if not note.exists():
        # What an interrupted call has trained is trained again: it would be missing in the time.
        shutil.rmtree(workdir, ignore_errors=True)
        own = config.with_fields({"compilation_cache": str(compiled)})
        processes = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=processes) as alone:
            costs = alone.submit(_costs_of_training, own, day.frames, workdir).result()
        write_text(note, json.dumps(costs))
    # Without a folder, so that what is compiled here does not shorten a training of a later day.
    model = Recommender(config.with_fields({"compilation_cache": ""}))
    found: dict[str, float] = json.loads(note.read_text())
    return model.fit(day.frames.read(), workdir), found


def _costs_of_training(config: Config, frames: Frames, workdir: pathlib.Path) -> dict[str, float]:
    begin, used = time.perf_counter(), sum(os.times()[:4])
    Recommender(config).fit(frames.read(), workdir)
    costs = time.perf_counter() - begin, sum(os.times()[:4]) - used
    return dict(zip(COSTS, costs, strict=True))


def daily(config: Config, before: pathlib.Path, frames: Frames, setting: Daily) -> Config:
    """The config of a day whose training starts from the model of the day before.

    Args:
      config: of a training from nothing.
      before: workdir of that model.
      frames: the data that it has read.
      setting: how training continues.
    """
    fields: dict[str, Any] = {
        "train.start_from": str(before),
        "knowledge.since": str(before / "knowledge"),
        "train.max_epochs": setting.epochs,
        "train.decay_epochs": setting.epochs,
        "train.learning_rate": (setting.rate,),
    }
    if setting.replay is not None:
        until = frames.options["valid_after"]
        fields |= {"train.new_since": until, "train.replay": setting.replay}
    return config.with_fields(fields)


def main() -> None:
    """Trains, measures, prints and stores the results."""
    parser = parser_of("seven_days", __doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the shop")
    parser.add_argument(
        "--workdir", type=pathlib.Path, required=True, help="folder in which the models are stored"
    )
    parser.add_argument("--method", choices=RECIPES, default="grasp_plus", help="model to train")
    parser.add_argument("--days", type=int, default=7, help="number of days")
    parser.add_argument("--span", type=int, default=7, help="calendar days that count as one day")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of a training from nothing")
    parser.add_argument(
        "--daily-epochs", type=int, default=4, help="epochs of a continued training"
    )
    parser.add_argument(
        "--daily-rate", type=float, default=2e-3, help="learning rate at the beginning of a day"
    )
    parser.add_argument(
        "--daily-replay",
        type=float,
        help="other users that an epoch reads for each user with new purchases; without it, an epoch reads all users",
    )
    parser.add_argument("--seed", type=int, default=42, help="seed of each training")
    given, contention = parser.parse_args(), Contention()
    shop = Dataset.read(given.data, interactions_file="inter_time.tsv")
    config = config_of("grasp_plus", given.epochs, given.seed, {})
    config = config.with_fields(RECIPES[given.method])
    found, gains, people = _measured(given, config, days_of(shop, given.days, given.span))
    means = {
        way: _means([row for row in found if row["day"] > 0 and row["way"] == way]) for way in WAYS
    }
    differences = {way: _difference(gains[way], gains[WAYS[2]], people) for way in WAYS[:2]}
    rows = [
        [
            way,
            *(f"{100 * own[metric]:.2f}" for metric in METRICS),
            *(f"{own[name]:.0f}" for name in COSTS),
        ]
        for way, own in means.items()
    ]
    print(table(["", *METRICS, "seconds a day", "of the processor"], rows))
    names = (
        "method",
        "days",
        "span",
        "epochs",
        "daily_epochs",
        "daily_rate",
        "daily_replay",
        "seed",
    )
    daily_setting = f"{given.daily_epochs} epochs at {given.daily_rate:g}"
    if given.daily_replay is not None:
        daily_setting += f" with {given.daily_replay:g} others per changed user"
    run_of = {
        "name": f"{given.data.name}, {given.method}, {daily_setting}, seed {given.seed}",
        "shop": given.data.name,
        "measured": {"date": time.strftime("%Y-%m-%d"), "commit": machine()["commit"]},
        "settings": {name: getattr(given, name) for name in names},
        "cores_used_by_others": contention.cores(),
        "days": found,
        "means": means,
        "differences": differences,
    }
    nothing = means[WAYS[2]]
    less, error = (
        100 * differences[WAYS[1]][name] / nothing[METRICS[1]] for name in ("mean", "error")
    )
    said = (
        f"continued: {less:+.1f} % of the NDCG@10 from nothing (standard error {error:.1f}), in "
        f"{100 * means[WAYS[1]]['seconds'] / nothing['seconds']:.0f} % of its time and "
        f"{100 * means[WAYS[1]][COSTS[1]] / nothing[COSTS[1]]:.0f} % of its processor time"
    )
    given.out = place(given, "study-seven.json")
    keep("study-seven", {"runs": beside(given.out, run_of)}, contention, given, said)


def _measured(
    given: argparse.Namespace, config: Config, days: list[Day]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray], np.ndarray]:
    """Trains and measures all days.

    Returns:
      A row for each day and way; for each way [P] NDCG@10 of all purchases after the first day; and [P] the rows of their users.
    """
    found: list[dict[str, Any]] = []
    gains: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    setting = Daily(given.daily_epochs, given.daily_rate, given.daily_replay)
    for number, day in enumerate(days):
        nothing = given.workdir / f"day{number}-from-nothing"
        fresh = trained(config, day, nothing, given.workdir / "compiled" / "from-nothing")
        if number == 0:
            unchanged, on, before = fresh[0], fresh, nothing
        else:
            own = daily(config, before, days[number - 1].frames, setting)
            before = given.workdir / f"day{number}-{setting.name}"
            on = trained(own, day, before, given.workdir / "compiled" / setting.name)
        nothing_spent = dict.fromkeys(COSTS, 0.0)
        for way, (model, costs) in zip(WAYS, ((unchanged, nothing_spent), on, fresh), strict=True):
            metrics = gains_of(day.purchases, answers(model, day.purchases))
            if number > 0:
                gains[way].append(metrics[METRICS[1]])
            about = {"day": number, "way": way, "purchases": len(day.purchases.targets)}
            means = {name: float(gain.mean()) for name, gain in metrics.items()}
            found.append({**about, **costs, **means})
            score = f"NDCG@10 {100 * means[METRICS[1]]:.2f}"
            print(f"day {number}, {way}: {score}, {costs['seconds']:.0f} s", flush=True)
    people = np.concatenate([day.purchases.people for day in days[1:]])
    return found, {way: np.concatenate(own) for way, own in gains.items()}, people


def _difference(own: np.ndarray, other: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """Mean of [P] differences, and its standard error over users; [P] rows of users."""
    less = own - other
    return {"mean": float(less.mean()), "error": standard_error(less, people)}


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means over all days, in which each purchase has the same weight."""
    weights = np.array([row["purchases"] for row in rows], float)
    found = {
        name: float(np.average([row[name] for row in rows], weights=weights)) for name in METRICS
    }
    return found | {name: float(np.mean([row[name] for row in rows])) for name in COSTS}


if __name__ == "__main__":
    run(main)
