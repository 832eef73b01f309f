"""The split by time and the one without a test: training users, evaluated users and targets; and no later interaction has an effect."""

import dataclasses
import datetime
import logging
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import beauty5
from grasp_jax.config import Config, DataConfig
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.groups import head_tail_groups, statistics
from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.data.moments import time_bounds
from grasp_jax.data.negatives import exclusion_index
from grasp_jax.data.packing import plan_packing
from grasp_jax.data.split import (
    Histories,
    Split,
    all_training,
    by_time,
    leave_one_out,
    make_split,
    without_users_short_of_negatives,
)
from grasp_jax.data.synthetic import ShopSpec, make_shop
from grasp_jax.knowledge.text.prompts import History, user_prompt
from grasp_jax.models.gate_queries import history_sums, prefix_sums, two_fold_sums
from grasp_jax.training.states import pack_all_users
from tests.refusal import assert_names, refusal

BEAUTY5 = pathlib.Path(__file__).parents[2] / "shared" / "data" / "beauty5"
QUICK = settings(max_examples=80, deadline=None, derandomize=True)
VALID, TEST = 10, 20
ROWS = [  # user, item, time
    (0, 1, 1),
    (0, 2, 9),
    (0, 3, 10),
    (0, 4, 12),
    (0, 5, 20),
    (0, 6, 25),  # in all three parts; 10 and 20 lie after the bounds
    (1, 1, 3),
    (1, 2, 21),  # not in the window of validation
    (2, 7, 11),
    (2, 1, 22),  # nothing before validation
    (3, 8, 30),  # nothing before test
    (4, 2, 5),
    (4, 3, 6),
    (4, 1, 7),  # nothing after training
    (5, 2, 2),
    (5, 9, 15),
    (5, 0, 15),  # a tie: the first of the source is asked for
]


def log_of(rows: list[tuple[int, int, int]], num_items: int = 10, unit: str = "") -> InteractionLog:
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    log = build_log("timed", users, items, times, np.arange(num_items))
    return dataclasses.replace(log, time_unit=unit)


def windows(log: InteractionLog, part: Histories) -> list[list[int]]:
    return [log.items[start:end].tolist() for start, end in zip(part.start, part.end, strict=True)]


def test_split_by_hand() -> None:
    """Would break every number: bounds belong to what comes after them, and what is asked from lies before them."""
    log = log_of(ROWS)
    split = by_time(log, 10, VALID, TEST)
    assert windows(log, split.train) == [[1, 2], [1], [], [], [2, 3, 1], [2]]
    assert windows(log, split.valid) == windows(log, split.train)
    assert split.valid.target.tolist() == [
        3,
        -1,
        7,
        -1,
        -1,
        9,
    ] and split.valid.evaluated.tolist() == [0, 5]
    assert windows(log, split.test) == [[1, 2, 3, 4], [1], [7], [], [2, 3, 1], [2, 9, 0]]
    assert split.test.target.tolist() == [5, 2, 1, 8, -1, -1] and split.test.evaluated.tolist() == [
        0,
        1,
        2,
    ]
    assert split.train_lengths.tolist() == [2, 1, 0, 0, 3, 1]
    assert split.item_counts.tolist() == [0, 3, 3, 1, 0, 0, 0, 0, 0, 0]


def test_windows_keep_the_newest_items() -> None:
    """Would break long histories: as in leave-one-out, training keeps one more, whose last is only a target."""
    log = log_of([(0, item, item) for item in range(8)])
    split = by_time(log, 2, 5, 7)
    assert (
        windows(log, split.train) == [[2, 3, 4]]
        and windows(log, split.valid) == [[3, 4]]
        and windows(log, split.test) == [[5, 6]]
    )
    assert (split.valid.target[0], split.test.target[0]) == (
        5,
        7,
    ) and split.train_lengths.tolist() == [5]


def test_who_is_not_evaluated_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Would break the table's footing: newcomers and cold items must be counted, not silently left out."""
    split = by_time(log_of(ROWS), 10, VALID, TEST)
    facts = statistics(split, head_tail_groups(split))
    assert facts["split"] == "time" and facts["users_without_training"] == 2
    counted = ("after", "users", "users_without_history", "targets_cold")
    assert [facts[f"valid_{name}"] for name in counted] == ["10", 2, 1, 1]
    assert [facts[f"test_{name}"] for name in counted] == ["20", 3, 1, 1]
    assert facts["unseen_in_training"] == 7 and facts["evaluated_users"] == 3
    with caplog.at_level(logging.INFO, "grasp_jax"):
        by_time(log_of(ROWS), 10, VALID, TEST)
    assert (
        "1 users have no interaction before 10" in caplog.text
        and "1 users have no interaction before 20" in caplog.text
    )


@QUICK
@given(
    st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), min_size=1, max_size=10),
    st.integers(1, 4),
    st.integers(1, 11),
    st.integers(1, 11),
)
def test_split_equals_slicing(
    times: list[list[int]], max_length: int, valid: int, width: int
) -> None:
    """Would break some user among others: windows and targets are compared with Python's, ties included."""
    times = [[0, valid, valid + width], *times]
    rows = [
        (user, (3 * user + k) % 10, time)
        for user, own in enumerate(times)
        for k, time in enumerate(own)
    ]
    log = log_of(rows)
    split = by_time(log, max_length, valid, valid + width)
    counts = np.zeros(10, int)
    for user in range(len(times)):
        own = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        train = [item for _, item, time in own if time < valid]
        before_test = [item for _, item, time in own if time < valid + width]
        np.add.at(counts, train, 1)
        assert windows(log, split.train)[user] == train[-(max_length + 1) :]
        assert windows(log, split.valid)[user] == train[-max_length:]
        assert windows(log, split.test)[user] == before_test[-max_length:]
        assert split.valid.target[user] == (
            before_test[len(train)] if len(before_test) > len(train) else -1
        )
        assert split.test.target[user] == (
            own[len(before_test)][1] if len(own) > len(before_test) else -1
        )
    assert split.item_counts.tolist() == counts.tolist()


def artefacts(log: InteractionLog) -> dict[str, object]:
    """Everything that is made from a split for training."""
    split = by_time(log, 4, VALID, TEST)
    index = exclusion_index(log, log.offsets[:-1], split.train.end)
    groups = head_tail_groups(split)
    items = AttributeTable(log.item_ids, {"title": [f"item {k}" for k in range(log.num_items)]})
    prompt = user_prompt("bought {titles}", History(split.train, log.items, items))
    vectors = np.random.default_rng(0).standard_normal((log.num_items, 5)).astype(np.float32)
    asked = np.flatnonzero(np.arange(log.num_interactions) < split.train.end[log.users])
    rows = asked + log.users[asked]
    return {
        "windows": windows(log, split.train),
        "counts": split.item_counts.tolist(),
        "excluded": (index.shifted.tolist(), index.offsets.tolist()),
        "groups": (groups.tail_user.tolist(), groups.tail_item.tolist()),
        "prompts": [prompt(user) for user in range(log.num_users)],
        "history": history_sums(vectors, split).tolist(),
        "two_fold": two_fold_sums(vectors, split)[rows].tolist(),
        "prefix": prefix_sums(vectors, split)[rows].tolist(),
        "asked from": windows(log, split.valid),
    }


def test_nothing_later_is_seen() -> None:
    """Would break what the split is for: whatever happens from `valid_after` on, training is the same to the bit."""
    rng, before = np.random.default_rng(0), artefacts(log_of(ROWS))
    needed = [
        (0, 10),
        (0, 20),
        (2, 11),
        (3, 30),
    ]  # so that there are the same users, and some are evaluated
    for _ in range(20):
        changed = []
        for user, item, time in ROWS:
            if time < VALID:
                changed.append((user, item, time))
            elif (user, time) in needed or rng.random() < 0.5:
                changed.append(
                    (
                        user,
                        int(rng.integers(10)),
                        time if (user, time) in needed else int(rng.integers(VALID, 40)),
                    )
                )
        assert artefacts(log_of(changed)) == before
        # What is asked from in the test has not seen the test.
        of_test = [
            (user, item if time < TEST else int(rng.integers(10)), time)
            for user, item, time in ROWS
        ]
        log, own = log_of(ROWS), log_of(of_test)
        assert windows(own, by_time(own, 10, VALID, TEST).test) == windows(
            log, by_time(log, 10, VALID, TEST).test
        )


def test_users_without_training_stop_nothing() -> None:
    """Would crash the training where people come later than all of it."""
    log = log_of(ROWS)
    split = by_time(log, 10, VALID, TEST)
    assert plan_packing(split.train, np.flatnonzero(split.train.lengths > 1), 4).batch_size == 2
    everyone = pack_all_users(split.train, 4, "")
    assert sorted(np.asarray(everyone.users)[np.asarray(everyone.users) >= 0].tolist()) == [
        0,
        1,
        4,
        5,
    ]


def test_the_synthetic_shop_describes_training_alone() -> None:
    """Would leak through the texts that come with the shop."""

    def ends(log: InteractionLog) -> np.ndarray:
        return by_time(log, 10, *time_bounds(log, "2024-03-01", "2024-04-01")).train.end

    shop = make_shop(ShopSpec(60, 120), ends)
    titles = np.array(shop.items.columns["title"])
    assert any("Nothing is known" not in text for text in shop.user_texts)
    for user, end in enumerate(ends(shop.log)):
        bought = titles[shop.log.items[shop.log.offsets[user] : end]].tolist()
        listed = shop.user_texts[user].partition("Bought lately: ")[2].rstrip(".")
        assert listed == ", ".join(bought[-8:])
    plain = make_shop(ShopSpec(60, 120))
    assert (
        plain.user_texts
        == make_shop(ShopSpec(60, 120), lambda log: leave_one_out(log, 10).train.end).user_texts
    )


def test_bounds_are_chosen_by_shares() -> None:
    """Would break runs without points of their own: four fifths and nine tenths of all interactions lie before them."""
    log = log_of([(0, k % 10, 10 * k) for k in range(20)])
    assert time_bounds(log, "", "") == (160, 180)
    assert time_bounds(log, "50", "") == (50, 180) and time_bounds(log, 50, " 60 ") == (50, 60)
    floats = dataclasses.replace(log, timestamps=np.arange(20) / 4)
    assert time_bounds(floats, "0.6", "") == (0.6, 4.5)
    assert time_bounds(log, "50.5", "") == (51, 180), (
        "whole times from a fraction on are those from the next whole number on"
    )


SECONDS = 1_700_000_000  # 2023-11-14 22:13:20 UTC


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    "given",
    [
        str(SECONDS),
        f"{SECONDS}000",
        f"{SECONDS}000000",
        f"{SECONDS}000000000",
        "2023-11-14T22:13:20",
        "2023-11-14 22:13:20Z",
        "2023-11-15T00:13:20+02:00",
        "1.7e9",
        str(datetime.datetime(2023, 11, 14, 22, 13, 20)),
    ],
)
def test_points_in_time_in_every_spelling(unit: str, given: str) -> None:
    """Would split elsewhere than was meant: by a unit of another size, or hours away."""
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    log = log_of([(0, k + 5, (SECONDS + k) * scale) for k in range(-5, 5)], 20, unit)
    assert time_bounds(log, given, str(SECONDS + 2)) == (SECONDS * scale, (SECONDS + 2) * scale)


def test_a_day_begins_at_midnight() -> None:
    """Would count a day's interactions to the day before."""
    day = 86_400
    log = log_of([(0, k, SECONDS // day * day + k * day // 2) for k in range(8)], unit="s")
    assert time_bounds(log, "2023-11-15", "2023-11-16") == (
        SECONDS // day * day + day,
        SECONDS // day * day + 2 * day,
    )


BAD = {
    "no date": (
        "yesterday",
        "",
        ("config.data.valid_after: 'yesterday'", "expected a date such as 2024-01-31"),
    ),
    "a day as a number": (
        "20231115",
        "",
        ("config.data.valid_after: '20231115'", "1970-08-23, before 1990"),
    ),
    "before all": (
        "2023-01-01",
        "",
        (
            "config.data.valid_after: 2023-01-01 00:00:00",
            "nothing to train on",
            "from 2023-11-14 22:13:15",
        ),
    ),
    "not after": (
        "2023-11-14T22:13:20",
        "2023-11-14T22:13:20",
        ("config.data.test_after", "expected one after config.data.valid_after"),
    ),
    "after all": (
        "2023-11-14T22:13:20",
        "2024-01-01",
        ("config.data.test_after: 2024-01-01", "nothing to test on"),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_points_in_time_that_split_nothing(case: str) -> None:
    """Would end in an empty training, validation or test, long after the flag was read."""
    valid, test, parts = BAD[case]
    log = log_of([(0, k + 5, SECONDS + k) for k in range(-5, 5)], unit="s")
    assert_names(refusal(time_bounds, log, valid, test), parts)


def test_data_that_cannot_be_split_by_time() -> None:
    """Would split by the place in the file, or by nothing."""
    config = DataConfig(split="time")
    untimed = build_log("untimed", np.zeros(5, int), np.arange(5))
    message = refusal(make_split, config, untimed)
    assert_names(
        message,
        (
            "config.data.split: 'time' needs a timestamp column",
            "untimed",
            "config.data.columns.timestamp",
        ),
    )
    dated = DataConfig(split="time", valid_after="2024-01-01")
    assert_names(
        refusal(make_split, dated, log_of(ROWS)),
        ("config.data.valid_after: '2024-01-01'", "expected a number", "from 1 to 30"),
    )
    message = refusal(make_split, config, log_of([(0, k, 5) for k in range(9)] + [(1, 1, 4)]))
    assert_names(
        message,
        (
            "config.data.test_after: 5, chosen by the share",
            "expected one after config.data.valid_after=5",
        ),
    )
    config = DataConfig(split="time", valid_after="12", test_after="15")
    assert_names(
        refusal(make_split, config, log_of([(0, 1, 1), (0, 2, 11), (0, 3, 16)])),
        ("no interaction lies between",),
    )
    message = refusal(make_split, config, log_of([(0, 1, 1), (1, 2, 13), (2, 3, 16)]))
    assert_names(
        message, ("config.data.valid_after: 12", "no user has", "give another point in time")
    )
    assert (
        refusal(make_split, DataConfig(split="tim"), untimed)
        == "config.data.split: 'tim'; expected one of leave_one_out, time, none"
    )


def test_everything_is_training() -> None:
    """Would break production: the last two interactions of everybody must be used in training, and nobody is tested."""
    log = log_of(ROWS)
    split = make_split(DataConfig(split="none"), log)
    assert windows(log, split.train) == [
        log.items[a:b].tolist() for a, b in zip(log.offsets[:-1], log.offsets[1:], strict=True)
    ]
    assert (
        not len(split.valid.evaluated)
        and not len(split.test.evaluated)
        and (split.train.target == -1).all()
    )
    assert split.item_counts.tolist() == np.bincount(log.items, minlength=10).tolist()
    assert split.train_lengths.tolist() == log.lengths.tolist()
    assert statistics(split, head_tail_groups(split))["evaluated_users"] == 0
    assert windows(log, all_training(log, 2).train)[0] == [4, 5, 6]


def test_another_split_has_another_fingerprint() -> None:
    """Would use a bank, negatives or models of another split again; leave-one-out keeps the log's own."""
    log = log_of(ROWS)
    splits: list[Split] = [
        by_time(log, 5, VALID, TEST),
        by_time(log, 5, VALID, 22),
        by_time(log, 5, 12, TEST),
        all_training(log, 5),
    ]
    plain = leave_one_out(log, 5)
    assert (
        plain.fingerprint == log.fingerprint
        and len({split.fingerprint for split in [plain, *splits]}) == 5
    )
    assert by_time(log, 9, VALID, TEST).fingerprint == splits[0].fingerprint, (
        "windows are in the config"
    )
    shifted = dataclasses.replace(log, timestamps=np.asarray(log.timestamps) + 1)
    assert (
        shifted.fingerprint == log.fingerprint
        and by_time(shifted, 5, VALID, TEST).fingerprint != splits[0].fingerprint
    )
    assert plain.cut_off == "training part of each history: all but the last two interactions"
    assert len({split.cut_off for split in [plain, *splits]}) == 4, (
        "the second differs in the targets, not in training"
    )


def test_who_has_had_nearly_everything_is_not_evaluated() -> None:
    """Would stop the evaluation of all others for want of negatives, in validation as in the test."""
    rows = [(0, item, item) for item in range(9)] + [(1, 1, 1), (1, 2, 7), (1, 3, 8)]
    split = by_time(log_of(rows), 10, 6, 8)
    kept, count = without_users_short_of_negatives(split, 5)
    assert (
        count == 1
        and kept.valid.evaluated.tolist() == kept.test.evaluated.tolist() == [1]
        and kept.mode == "time"
    )
    assert without_users_short_of_negatives(split, 1) == (
        split,
        0,
    ) and without_users_short_of_negatives(split, 9) == (split, 0), "nobody, or everybody"
    low = np.array([[1, 0], [1, 4], [1, 5], [1, 6]], np.int32)
    rated = dataclasses.replace(split, log=dataclasses.replace(split.log, low_rated=low))
    assert without_users_short_of_negatives(rated, 5) == (rated, 0), "everybody has had too many"
    assert without_users_short_of_negatives(rated, 2)[1] == 1


@pytest.mark.skipif(not BEAUTY5.exists(), reason="Beauty is not here")
def test_the_days_of_beauty5_are_those_of_eight_and_nine_tenths() -> None:
    """The main table's global split would train on much more or less than it says."""
    config = Config.from_dict(beauty5.get_config("time").to_dict())
    log = Dataset.read(BEAUTY5, interactions_file="inter_time.tsv", items_file="").log
    split = make_split(config.data, log)
    assert log.timestamps is not None and split.bounds is not None
    shares = [float((log.timestamps < bound).mean()) for bound in split.bounds]
    np.testing.assert_allclose(shares, [0.8, 0.9], atol=0.002)
    assert min(len(split.valid.evaluated), len(split.test.evaluated)) > 5_000
