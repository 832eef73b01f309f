"""Interactions at the same time: only they change places, at random, by ids alone."""

import collections
import dataclasses
import logging
import pathlib

import numpy as np
import pytest

from grasp_jax.config import Config
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.data.ties import num_tied, shuffled_ties
from grasp_jax.trials.run import open_run, prepare_bank_of
from tests.refusal import assert_names, refusal

BEAUTY5 = pathlib.Path(__file__).parents[2] / "shared" / "data" / "beauty5"


def rows(seed: int = 0, num_users: int = 60) -> np.ndarray:
    """[I, 3] user, item and day of users with a dozen different items in four days."""
    rng = np.random.default_rng(seed)
    own = [
        np.stack([np.full(12, user), rng.permutation(50)[:12], rng.integers(0, 4, 12)], axis=1)
        for user in range(num_users)
    ]
    return np.concatenate(own) + [1, 1, 0]


def log_of(table: np.ndarray) -> InteractionLog:
    return build_log("x", table[:, 0], table[:, 1], table[:, 2])


def histories(log: InteractionLog) -> dict[str, list[str]]:
    parts = np.split(log.item_ids[log.items], log.offsets[1:-1])
    return {
        str(user): [str(item) for item in own]
        for user, own in zip(log.user_ids, parts, strict=True)
    }


def test_only_ties_change_places() -> None:
    """Would break time order, or lose interactions."""
    log = log_of(rows())
    shuffled = shuffled_ties(log, 0)
    assert shuffled.timestamps is log.timestamps and shuffled.offsets is log.offsets
    assert (shuffled.items != log.items).mean() > 0.3
    assert log.timestamps is not None

    def sets(own: InteractionLog) -> collections.Counter[tuple[int, int, int]]:
        days = log.timestamps.tolist()
        return collections.Counter(zip(own.users.tolist(), days, own.items.tolist(), strict=True))

    assert sets(shuffled) == sets(log)
    apart = dataclasses.replace(log, timestamps=np.arange(log.num_interactions))
    np.testing.assert_array_equal(shuffled_ties(apart, 0).items, log.items)
    assert num_tied(apart) == 0 and num_tied(log) == num_tied(shuffled) > 300


def test_ties_of_two_users_are_none() -> None:
    """Users with one time would be called tied, or those without interactions shift the bounds."""
    log = log_of(rows(4))
    bounds = [0, 0, 2, 2, 5, 6, 6]  # of users with 0, 2, 0, 3, 1 and 0 interactions
    some = dataclasses.replace(
        log,
        user_ids=np.arange(6),
        offsets=np.array(bounds),
        items=log.items[:6],
        timestamps=np.array([3, 3, 3, 4, 4, 4]),
    )
    assert num_tied(some) == 2


def test_the_order_is_a_function_of_ids_and_seed() -> None:
    """The order of the file would still decide, or a new user or another spelling of ids would change everybody's order."""
    table = rows()
    expected = histories(shuffled_ties(log_of(table), 7))
    again = np.random.default_rng(1).permutation(table)
    assert histories(shuffled_ties(log_of(again), 7)) == expected
    some = histories(shuffled_ties(log_of(table[table[:, 0] % 3 == 0]), 7))
    assert some == {user: expected[user] for user in some}
    in_words = build_log("x", table[:, 0].astype(str), table[:, 1].astype(str), table[:, 2])
    assert histories(shuffled_ties(in_words, 7)) == expected
    assert histories(shuffled_ties(log_of(table), 8)) != expected


def test_every_order_is_as_likely() -> None:
    """A model could learn the order that is drawn: item 1 before item 2 more often than not."""
    users = np.repeat(np.arange(6000), 3)
    log = build_log("x", users, np.tile([1, 2, 3], 6000), np.zeros(18_000, np.int64))
    orders = collections.Counter(map(tuple, shuffled_ties(log, 0).items.reshape(-1, 3).tolist()))
    assert len(orders) == 6
    assert all(abs(count - 1000) < 4.5 * (1000 * 5 / 6) ** 0.5 for count in orders.values())


def test_from_the_config(tmp_path: pathlib.Path) -> None:
    """The field would do nothing, or the summary say what is not so."""
    table = rows()
    frame = {"user": table[:, 0], "item": table[:, 1], "timestamp": table[:, 2]}
    as_read, shuffled = (Dataset.from_frames(frame, ties=ties) for ties in ("file", "shuffle"))
    np.testing.assert_array_equal(shuffled.log.items, shuffled_ties(as_read.log, 0).items)
    tied = f"interactions of a user at the same time ({num_tied(as_read.log):,}) are"
    assert f"{tied} in the order of the file" in "\n".join(as_read.summary())
    assert f"{tied} in random order (seed 0)" in "\n".join(shuffled.summary())
    other = Dataset.from_frames(frame, ties="shuffle", ties_seed=1)
    assert other.fingerprint != shuffled.fingerprint != as_read.fingerprint


def test_without_times_there_are_no_ties() -> None:
    """Whoever asks for shuffled ties would be given the file's order without a word."""
    frame = {"user": [1, 1, 2], "item": [1, 2, 3]}
    assert_names(
        refusal(Dataset.from_frames, frame, ties="shuffle"),
        ("config.data.ties: 'shuffle'", "no times", "config.data.columns.timestamp"),
    )


def test_given_vectors_of_users_may_leak(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Texts written from the file's order hold items that are test items in another."""
    table = rows()
    frame = {"user": table[:, 0], "item": table[:, 1], "timestamp": table[:, 2]}
    rng = np.random.default_rng(3)
    np.save(tmp_path / "items.npy", rng.standard_normal((50, 8)).astype(np.float32))
    np.save(tmp_path / "users.npy", rng.standard_normal((60, 8)).astype(np.float32))
    fields = {
        "knowledge.encoder": "file",
        "knowledge.item_file": str(tmp_path / "items.npy"),
        "knowledge.user_file": str(tmp_path / "users.npy"),
        "model.method": "grasp",
        "eval.num_negatives": 10,
    }
    said = []
    for ties in ("file", "shuffle"):
        shop = Dataset.from_frames(frame, ties=ties)
        config = dataclasses.replace(Config().with_fields(fields), data=shop.data)
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="grasp_jax"):
            prepare_bank_of(open_run(config, tmp_path / ties, shop))
        said.append([r.message for r in caplog.records if "config.data.ties" in r.message])
    assert not said[0] and len(said[1]) == 1 and "validation or test" in said[1][0]


@pytest.mark.skipif(not BEAUTY5.exists(), reason="Beauty is not here")
def test_how_many_neighbours_of_beauty_share_a_day() -> None:
    """docs/deviations.md and docs/results.md say 44 %, and that the file has them by ascending item."""
    log = Dataset.read(BEAUTY5, interactions_file="inter_time.tsv", items_file="").log
    neighbours = log.num_interactions - log.num_users
    assert num_tied(log) / neighbours == pytest.approx(0.44, abs=0.005)
    tied = (log.timestamps[1:] == log.timestamps[:-1]) & (log.users[1:] == log.users[:-1])
    ascending = (log.items[1:] > log.items[:-1])[tied].mean()
    again = (np.diff(shuffled_ties(log, 0).items) > 0)[tied].mean()
    print(ascending, again)
    assert ascending > 0.9 and abs(again - 0.5) < 0.01
