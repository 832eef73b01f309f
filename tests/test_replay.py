"""Continued training that reads users with new interactions, and a random share of the others."""

import dataclasses
import math
import pathlib

import numpy as np
import pytest

from grasp_jax.config import Config, TrainConfig
from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.data.packing import pack, plan_packing, stratified_batches
from grasp_jax.data.split import Split, all_training, by_time, leave_one_out
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.replay import Replay, replay_of
from grasp_jax.training.replicas import Replica
from grasp_jax.trials.run import open_run, prepare
from grasp_jax.trials.trial import make_trial
from tests.refusal import assert_names, refusal
from tests.trained import small_shop

DAY = 86_400
START = 1_400_000_000 // DAY * DAY
NEW_SINCE, VALID, TEST = (START + day * DAY for day in (70, 80, 90))


def log_of(people: int = 300) -> InteractionLog:
    """Purchases of a hundred days; a history has one to twenty."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(people), rng.integers(1, 21, people))
    times = START + rng.integers(0, 100 * DAY, len(users))
    log = build_log("shop", users, rng.integers(0, 50, len(users)), times)
    return dataclasses.replace(log, time_unit="s")


def settings(replay: float = 3.0, new_since: str = str(NEW_SINCE)) -> TrainConfig:
    fields = {"train.start_from": "monday", "train.new_since": new_since, "train.replay": replay}
    return Config().with_fields(fields).train


def groups(split: Split, users: np.ndarray, replay: float = 3.0) -> Replay:
    found = replay_of(settings(replay), split, users)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["time", "none", "leave_one_out"])
def test_users_with_new_interactions_are_found(kind: str) -> None:
    """Purchases of validation would decide who is trained on, or a purchase at the given moment count as old; or, where a new purchase
    moves an older one into training, its user would not be read.
    """
    log = log_of()
    assert log.timestamps is not None
    splits = {"none": all_training, "leave_one_out": leave_one_out}
    split = splits[kind](log, 10) if kind in splits else by_time(log, 10, VALID, TEST)
    end = VALID if kind == "time" else np.inf
    users = np.flatnonzero(split.train.lengths > 1)
    expected = [
        user
        for user in users.tolist()
        if any(
            NEW_SINCE <= time < end
            for time in log.timestamps[log.offsets[user] : log.offsets[user + 1]].tolist()
        )
    ]
    found = groups(split, users)
    assert found.changed.tolist() == expected and 20 < len(expected) < len(users)
    assert sorted([*expected, *found.others.tolist()]) == users.tolist()
    assert found.num_drawn == min(3 * len(expected), len(found.others))
    ends = log.offsets[1:] if kind == "leave_one_out" else split.train.end
    moment = int(log.timestamps[ends[expected[0]] - 1])
    for later in (0, 1):
        at = replay_of(settings(1, str(moment + later)), split, users)
        assert at is not None and (expected[0] in at.changed) == (later == 0)
    assert replay_of(TrainConfig(), split, users) is None


def test_an_epoch_has_all_changed_users_and_other_others_each_time() -> None:
    """A new purchase would be read in some epochs alone, a user twice in one, or some user in no epoch."""
    found = Replay(np.array([3, 8]), np.array([9, 1, 0, 7, 5, 4, 2]), 3)
    rng, counts = np.random.default_rng(0), np.zeros(10, int)
    for _ in range(2_000):
        users = found.users(rng)
        assert len(set(users.tolist())) == found.size == 5
        counts[users] += 1
    assert counts[[3, 8]].tolist() == [2_000, 2_000] and counts[6] == 0
    others = counts[[9, 1, 0, 7, 5, 4, 2]] / 2_000
    np.testing.assert_allclose(others, [1 / 2, 1 / 2, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3], atol=0.05)
    alone, all_others = (dataclasses.replace(found, num_drawn=drawn) for drawn in (0, 7))
    assert alone.users(rng).tolist() == [3, 8] == alone.longest().tolist()
    assert sorted(all_others.users(rng).tolist()) == [0, 1, 2, 3, 4, 5, 7, 8, 9]


def test_every_epoch_fits_into_the_planned_batches() -> None:
    """Interactions would be left out without a word where an epoch happens to have long histories; or epochs differ much in length."""
    log = log_of()
    split = all_training(log, 10)
    lengths, users = split.train.lengths, np.flatnonzero(split.train.lengths > 1)
    found = groups(split, users, 0.5)
    packing, tokens = plan_packing(split.train, found.longest(), 16), []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        own = found.users(rng)
        batches = stratified_batches(lengths, own, 16, rng)
        slots, _ = pack(split.train, batches, packing)
        assert slots.shape[1] == packing.num_rows
        assert (
            np.where(batches >= 0, lengths[batches] - 1, 0).sum(axis=1).max() <= packing.num_pairs
        )
        tokens.append(int((slots >= 0).sum()))
    assert tokens == [
        int(lengths[found.users(np.random.default_rng(seed))].sum()) for seed in range(50)
    ]
    assert abs(np.mean(tokens) - found.tokens(lengths)) < 0.02 * found.tokens(lengths)
    assert max(tokens) - min(tokens) < 0.1 * np.mean(tokens)


def test_an_epoch_of_training(tmp_path: pathlib.Path) -> None:
    """A step would read other users than those that were drawn, count the steps of a whole epoch, or a resumed run draw others."""
    fields = {"model.method": "plain", "model.features": 8, "train.batch_size": 16}
    config = Config().with_fields({**fields, "eval.num_negatives": 10})
    shop = small_shop()
    run = open_run(config, tmp_path / "whole", shop)
    whole = make_trial(prepare(run), "plain", "sasrec").data
    assert run.split.log.timestamps is not None
    newest = run.split.log.timestamps[run.split.log.offsets[1:][whole.users] - 1]
    since = np.sort(newest)[-8].item()
    changed = set(whole.users[newest >= since].tolist())
    (tmp_path / "whole" / "checkpoints" / "plain-sasrec").mkdir(parents=True)
    earlier = str(tmp_path / "whole")
    day = {"train.start_from": earlier, "train.new_since": str(since), "train.replay": 1.5}
    run = open_run(config.with_fields(day), tmp_path / "day", shop)
    data = make_trial(prepare(run), "plain", "sasrec").data
    count = len(changed) + round(1.5 * len(changed))
    assert data.steps_per_epoch == math.ceil(count / 16) < whole.steps_per_epoch
    assert data.full_epoch_tokens < whole.full_epoch_tokens

    replicas = [Replica(1, 0.0, 1e-3), Replica(2, 0.0, 1e-3)]
    first, again, second = (make_epoch(data, replicas, epoch) for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first.slots, again.slots)
    nobody = len(data.histories.lengths)
    read = [set(epoch.users[0].ravel().tolist()) - {nobody} for epoch in (first, second)]
    assert read[0] != read[1] and all(len(own) == count and changed <= own for own in read)
    for epoch, own in zip((first, second), read, strict=True):
        owners = np.searchsorted(
            run.split.log.offsets, epoch.slots[0][epoch.slots[0] >= 0], "right"
        )
        assert set((owners - 1).tolist()) == own
    assert set(first.users[1].ravel().tolist()) - {nobody} != read[0]


def test_bad_settings_are_one_line() -> None:
    """A run would train on nobody, on everybody, or end in a traceback."""
    split = by_time(log_of(), 10, VALID, TEST)
    users = np.flatnonzero(split.train.lengths > 1)
    late = refusal(replay_of, settings(new_since="2014-08-01"), split, users)
    assert_names(late, ("config.train.new_since", "2014-08-01", "the newest is of", "start_from"))
    early = refusal(replay_of, settings(new_since="1970-01-09"), split, users)
    assert_names(early, ("config.train.new_since", "1970-01-09", "before 1990"))
    ids = np.array([1, 1, 2, 2])
    timeless = all_training(build_log("order", ids, ids), 10)
    message = refusal(replay_of, settings(), timeless, np.arange(2))
    assert_names(message, ("config.train.new_since", "order", "timestamp", "leave the field empty"))
    message = refusal(Config().with_fields, {"train.new_since": "tomorrow"})
    assert_names(message, ("config.train.new_since", "tomorrow", "expected a date"))
    message = refusal(Config().with_fields, {"train.new_since": "2014-05-01"})
    assert_names(message, ("config.train.new_since", "without train.start_from"))
