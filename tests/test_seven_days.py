"""The study of daily training: a day's model knows nothing of the day, and times are those of whole trainings."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from benchmarks import seven_study
from benchmarks.seven_days import COSTS, WAYS, Daily, Day, answers, daily, days_of, trained
from grasp_jax.config import Config
from grasp_jax.data.split import make_split
from tests.refusal import assert_names, refusal
from tests.test_export import SMALL

DAY = 86_400
START = 1_400_000_000 // DAY * DAY
WORDS = ("red", "blue", "mild", "strong", "soap", "cream", "oil", "brush", "comb", "fine")


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    """Eighty users buy ten of sixty items in a hundred days; some items are sold from the ninetieth day on alone."""
    rng = np.random.default_rng(0)
    users, days = np.repeat(np.arange(80), 10), np.sort(rng.integers(0, 100, (80, 10)), axis=1)
    items = rng.integers(0, 55, 800)
    late = (days.ravel() >= 90) & (rng.random(800) < 0.5)
    items[late] = rng.integers(55, 60, late.sum())
    titles = [" ".join(rng.choice(WORDS, 4)) for _ in range(60)]
    return gj.Dataset.from_frames(
        {"user": users, "item": items + 1, "timestamp": START + DAY * days.ravel()},
        {"item": np.arange(1, 61), "title": titles},
    )


@pytest.fixture(scope="module")
def days(shop: gj.Dataset) -> list[Day]:
    """Three spans of four calendar days."""
    return days_of(shop, 3, 4)


def test_a_day_is_not_known_in_the_morning(shop: gj.Dataset, days: list[Day]) -> None:
    """Models would be trained or validated on what they are asked for, or be asked twice or never for a purchase."""
    assert shop.log.timestamps is not None
    end, asked = int(shop.log.timestamps.max()) + 1, 0
    for number, day in enumerate(days):
        morning = end - (3 - number) * 4 * DAY
        known = day.frames.read()
        assert known.log.timestamps is not None and (known.log.timestamps < morning).all()
        assert known.log.num_interactions == (shop.log.timestamps < morning).sum()
        bought = np.unique(shop.log.items[shop.log.timestamps < morning])
        assert known.item_ids.tolist() == shop.item_ids[bought].tolist()
        split = make_split(known.data, known.log)
        assert split.bounds[0] == morning - 4 * DAY  # the day before is validation
        today = (shop.log.timestamps >= morning) & (shop.log.timestamps < morning + 4 * DAY)
        for person, history in zip(day.purchases.people, day.purchases.histories, strict=True):
            own = slice(*shop.log.offsets[person : person + 2])
            before = shop.log.timestamps[own] < morning
            np.testing.assert_array_equal(history, shop.item_ids[shop.log.items[own][before]])
        old = np.bincount(shop.log.users[shop.log.timestamps < morning], minlength=80) > 0
        assert len(day.purchases.targets) == (today & old[shop.log.users]).sum()
        asked += len(day.purchases.targets)
        assert day.purchases.cold.tolist() == [
            target not in known.item_ids.astype(str) for target in day.purchases.targets
        ]
    assert asked > 50


def test_a_shop_without_dates_is_refused() -> None:
    """The order of a file would be taken for days."""
    shop = gj.Dataset.from_frames({"user": [1, 1, 2], "item": [1, 2, 1]})
    assert_names(refusal(days_of, shop, 3, 4), ("--data", "dates", "items table"))


@pytest.mark.slow
def test_trained_once_and_continued(days: list[Day], tmp_path: pathlib.Path) -> None:
    """A time would be that of a part of a training, of a model that was there already, or of programs that another way has compiled; or a
    day would not begin with the model of the day before.
    """
    fields: dict[str, Any] = {"text_towers": 0, "company_towers": 0, "plus__text_width": 6}
    config: Config = gj.Recommender(method="grasp_plus", **fields, **SMALL).config
    first = tmp_path / "first"
    first.mkdir()
    (first / "left").write_text("of an interrupted call")
    model, costs = trained(config, days[0], first, tmp_path / "compiled")
    assert min(costs.values()) > 0 and set(costs) == set(COSTS)
    assert not (first / "left").exists() and any((tmp_path / "compiled").iterdir())
    (first / "costs.json").write_text('{"seconds": 7.5}')
    again, kept = trained(config, days[0], first, tmp_path / "compiled")
    assert kept == {"seconds": 7.5}
    asked = days[0].purchases
    for one, other in zip(answers(model, asked), answers(again, asked), strict=True):
        assert len(one) == 10 and one.tolist() == other.tolist()
    own = daily(config, first, days[0].frames, Daily(2, 1e-3, 0.5))
    continued, _ = trained(own, days[1], tmp_path / "second", tmp_path / "other")
    assert continued.config.train.start_from == str(first)
    assert continued.config.train.new_since == days[0].frames.options["valid_after"]
    lines = (tmp_path / "second" / "metrics.jsonl").read_text().splitlines()
    epochs = [line for line in map(json.loads, lines) if line["event"] in ("start", "epoch")]
    assert [line["epoch"] for line in epochs] == [0, 1, 2]


TRIED: dict[str, Any] = {
    "start": 0.06,
    "tries": [
        {
            "epochs": 2,
            "learning_rate": 1e-3,
            "replay": 2,
            "valid_ndcg@10": [0.07],
            "processor_seconds": None,
        }
    ],
    "from_nothing": {
        "epochs": 20,
        "learning_rate": 2e-3,
        "valid_ndcg@10": 0.08,
        "processor_seconds": 90.2,
    },
}


def test_the_table_has_the_interval_of_the_difference() -> None:
    """A difference would look certain, an early record without intervals be refused, or a try that was ended look like a whole one."""
    ways = {
        way: {"NDCG@10": value, "Recall@10": 0.2}
        for way, value in zip(WAYS, (0.04, 0.045, 0.05), strict=True)
    }
    means = {
        way: {**own, "seconds": 50.0 if way == WAYS[1] else 200.0} for way, own in ways.items()
    }
    run: dict[str, Any] = {
        "shop": "beauty5",
        "settings": {"method": "id_and_match", "daily_epochs": 3, "daily_rate": 2e-3},
        "means": means,
        "days": [{"day": number, "way": WAYS[0], "purchases": 100} for number in range(3)],
        "cores_used_by_others": None,
        "differences": {WAYS[1]: {"mean": -0.005, "error": 0.001}},
    }
    table, tries = seven_study.tables({"runs": [run]}, TRIED)
    assert table.rows[0] == [
        "Amazon Beauty 5-core", "one ID tower and the match", "3", "0.002", "all", "4.00", "4.50", "5.00", "-10.0 % ± 3.9", "25 %", "",
        "200", "",
    ]  # fmt: skip
    early = {name: value for name, value in run.items() if name != "differences"}
    run["settings"]["daily_replay"] = 2.0
    table, _ = seven_study.tables({"runs": [early, run]}, TRIED)
    assert table.rows[0][8] == "-10.0 %"
    assert table.rows[1][4] == "with new purchases, and 2 others for each"
    assert [row[1:] for row in tries.rows] == [
        ["0", "", "", "6.00", ""],
        ["1 of 2", "0.001", table.rows[1][4], "7.00", ""],
        ["20", "0.002", "all", "8.00", "90"],
    ]
