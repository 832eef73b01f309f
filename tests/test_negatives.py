"""Negatives: uniform over what a user has not seen, exactly, without rejection."""

import collections
import dataclasses
import functools
import hashlib
import itertools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_jax.data import negatives
from grasp_jax.data.log import InteractionLog, build_log, distinct_items, most_items
from grasp_jax.data.negatives import (
    ExclusionIndex,
    draw_candidates,
    draw_negatives,
    exclusion_index,
)
from grasp_jax.data.split import leave_one_out
from grasp_jax.training.training_set import trainable_users
from tests.refusal import refusal

NUM_ITEMS = 12
# 0.999 quantiles of chi-square by degrees of freedom
CHI_SQUARE = {6: 22.46, 125: 179.99}


def log_of(histories: list[list[int]], num_items: int = NUM_ITEMS) -> InteractionLog:
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    return build_log(
        "shop",
        users,
        np.concatenate([np.array(history, int) for history in histories]),
        catalogue=np.arange(num_items),
    )


def whole(log: InteractionLog) -> ExclusionIndex:
    """Exclusions over whole histories, as evaluation has them."""
    return exclusion_index(log, log.offsets[:-1], log.offsets[1:])


@functools.partial(jax.jit, static_argnames=("num_items", "search_steps", "per_position"))
def drawn(
    key: jax.Array,
    users: jax.Array,
    index: tuple,
    num_items: int,
    search_steps: int,
    per_position: int,
) -> jax.Array:
    return draw_negatives(key, users, *index, num_items, search_steps, per_position)


def on_device(index: ExclusionIndex, size: int) -> tuple[jax.Array, jax.Array]:
    """The index, filled up to one size with entries that no user owns, so that examples share a compiled function."""
    filled = np.full(size, -7, np.int32)
    filled[: len(index.shifted)] = index.shifted
    return jnp.asarray(filled), jnp.asarray(index.offsets)


HISTORIES = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=NUM_ITEMS - 1),
    min_size=4,
    max_size=4,
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(HISTORIES)
def test_exclusion_index_equals_brute_force(histories: list[list[int]]) -> None:
    """Would break every negative: r plus the number of shifted entries <= r must run through the unseen items in order."""
    index = whole(log_of(histories))
    for user, history in enumerate(histories):
        seen = sorted(set(history))
        shifted = index.shifted[index.offsets[user] : index.offsets[user + 1]]
        assert (shifted + np.arange(len(seen))).tolist() == seen
        r = np.arange(NUM_ITEMS - len(seen))
        assert (r + (shifted[None, :] <= r[:, None]).sum(axis=1)).tolist() == sorted(
            set(range(NUM_ITEMS)) - set(seen)
        )
        assert 2**index.search_steps > len(seen), "enough bisection steps for the longest history"


def test_exclusions_in_blocks_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten million users the index is made in blocks; a user between two would lose exclusions, or get the next one's."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, 300)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = rng.integers(0, NUM_ITEMS, offsets[-1]).astype(np.int32)
    log = InteractionLog("shop", np.arange(300), np.arange(NUM_ITEMS), items, offsets)
    together = whole(log)
    for size in (1, 7, 100):
        monkeypatch.setattr(negatives, "INTERACTIONS_PER_BLOCK", size)
        blocks = whole(log)
        np.testing.assert_array_equal(blocks.shifted, together.shifted)
        np.testing.assert_array_equal(blocks.offsets, together.offsets)
        assert blocks.search_steps == together.search_steps


@settings(max_examples=40, deadline=None, derandomize=True)
@given(HISTORIES, st.integers(0, 2**31 - 1))
def test_training_negatives_are_unseen_items(histories: list[list[int]], seed: int) -> None:
    """Would break the loss: a negative out of range, or one that the user has; all unseen items can be drawn."""
    histories = [
        *histories,
        list(range(8)),
    ]  # with one long history, every example takes the same number of bisection steps
    index = whole(log_of(histories))
    users = jnp.tile(jnp.arange(5, dtype=jnp.int32), (2, 1))
    negatives = np.asarray(
        drawn(jax.random.key(seed), users, on_device(index, 60), NUM_ITEMS, index.search_steps, 150)
    )
    assert negatives.shape == (2, 5, 150) and negatives.dtype == np.int32
    for user, history in enumerate(histories):
        assert set(negatives[:, user].ravel().tolist()) == set(range(NUM_ITEMS)) - set(history)


def test_training_negatives_are_uniform() -> None:
    """Would break the loss: an unseen item drawn more often than another (chi-square, fixed key), near the ends as well."""
    index = whole(log_of([[0, 3, 4, 4, 9, 11], [5]]))
    device = (jnp.asarray(index.shifted), jnp.asarray(index.offsets))
    counts = np.bincount(
        np.asarray(
            drawn(
                jax.random.key(0),
                jnp.zeros(10_000, jnp.int32),
                device,
                NUM_ITEMS,
                index.search_steps,
                3,
            )
        ).ravel(),
        minlength=NUM_ITEMS,
    )
    left = [1, 2, 5, 6, 7, 8, 10]
    assert counts[[0, 3, 4, 9, 11]].sum() == 0 and counts.sum() == 30_000
    assert ((counts[left] - 30_000 / 7) ** 2 / (30_000 / 7)).sum() < CHI_SQUARE[6]


def test_training_negatives_follow_the_key() -> None:
    """Would break resumption (same key, same draw) or training (another key, or another position, the same draw)."""
    index = whole(log_of([[0, 3], [5]], num_items=1000))
    device = (jnp.asarray(index.shifted), jnp.asarray(index.offsets))
    first, again, other = (
        drawn(jax.random.key(k), jnp.zeros(50, jnp.int32), device, 1000, index.search_steps, 2)
        for k in (1, 1, 2)
    )
    assert np.array_equal(first, again) and np.mean(np.asarray(first) == np.asarray(other)) < 0.1
    assert len(np.unique(first)) > 80


def test_validation_and_test_items_may_be_training_negatives() -> None:
    """Would break the protocol: leaving them out would tell the model which items are still to come."""
    log = log_of([[0, 1, 2, 3, 4]])
    index = exclusion_index(log, log.offsets[:-1], leave_one_out(log, 10).train.end)
    device = (jnp.asarray(index.shifted), jnp.asarray(index.offsets))
    negatives = np.asarray(
        drawn(
            jax.random.key(0), jnp.zeros(500, jnp.int32), device, NUM_ITEMS, index.search_steps, 1
        )
    )
    assert set(negatives.ravel().tolist()) == set(range(3, NUM_ITEMS))


def test_distinct_items_are_counted_once() -> None:
    """One user with 100,000 plays of 60 songs would seem to have had more items than there are."""
    log = log_of([[0, 1, 0, 0, 1], [2], [3, 3, 4, 5]])
    assert distinct_items(log).tolist() == [2, 1, 3]
    low = np.array([[1, 2], [1, 7], [2, 8]], np.int32)
    rated = dataclasses.replace(log, low_rated=low)
    assert distinct_items(rated).tolist() == [2, 2, 4], "2 was rated low once and high once"
    assert most_items(log) == 5 and most_items(rated) == 5


def test_evaluation_negatives_are_not_rated_low() -> None:
    """A user would be tested against an item that they had: config.md says that items below min_rating count as seen."""
    log = log_of([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    low = np.array([[2, 0], [0, 5], [0, 9], [0, 1]], np.int32)
    rated = dataclasses.replace(log, low_rated=low)
    index = exclusion_index(rated, rated.offsets[:-1], rated.offsets[1:], low_rated=True)
    drawn = draw_candidates(index, np.array([0, 2]), 7, seed=0)
    assert sorted(drawn[0].tolist()) == [3, 4, 6, 7, 8, 10, 11]
    assert not set(drawn[1].tolist()) & {0, 6, 7, 8}
    assert np.diff(index.offsets).tolist() == [5, 3, 4]
    np.testing.assert_array_equal(whole(rated).shifted, whole(log).shifted)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(HISTORIES, st.integers(0, 2**31 - 1), st.data())
def test_candidates_are_distinct_and_unseen(
    histories: list[list[int]], seed: int, data: st.DataObject
) -> None:
    """Would break sampled metrics: a candidate twice, one of the history, or fewer where just enough items are left."""
    index = whole(log_of(histories))
    left = min(NUM_ITEMS - len(set(history)) for history in histories)
    count = data.draw(st.integers(1, left))
    users = np.array(data.draw(st.permutations(range(4))))
    candidates = draw_candidates(index, users, count, seed)
    assert candidates.shape == (4, count) and candidates.dtype == np.int32
    for user, row in zip(users, candidates.tolist(), strict=True):
        assert len(set(row)) == count and set(row) <= set(range(NUM_ITEMS)) - set(histories[user])


def test_candidates_are_uniform() -> None:
    """Would break sampled metrics: a set of unseen items that is drawn more often than another (chi-square, fixed seed)."""
    users, count, left = 12_600, 4, [0, 1, 3, 5, 6, 7, 9, 10, 11]
    candidates = draw_candidates(
        whole(log_of([[2, 4, 8]] * users)), np.arange(users), count, seed=0
    )
    drawn_sets = collections.Counter(tuple(row) for row in np.sort(candidates, axis=1).tolist())
    every_set = list(itertools.combinations(left, count))
    assert set(drawn_sets) == set(every_set)
    expected = users / len(every_set)
    assert (
        sum((drawn_sets[chosen] - expected) ** 2 / expected for chosen in every_set)
        < CHI_SQUARE[len(every_set) - 1]
    )


def test_candidates_follow_the_seed() -> None:
    """Would break comparisons of methods: the same (data, seed) gives the same candidates, another seed others."""
    log = log_of([[0, 1], [5, 6, 7], [8]], num_items=500)
    first = draw_candidates(whole(log), np.arange(3), 100, seed=5)
    assert np.array_equal(first, draw_candidates(whole(log), np.arange(3), 100, seed=5))
    assert not np.array_equal(first, draw_candidates(whole(log), np.arange(3), 100, seed=6))
    assert len({tuple(row) for row in first.tolist()}) == 3, "users do not share their candidates"


@pytest.mark.parametrize(
    ("num_users", "num_items", "rows", "seed", "count", "digest"),
    [
        (50, 300, 4000, 1, 100, "8b85c9eaa0a45041"),  # histories of more than 64 items
        (5000, 1500, 30_000, 2, 100, "df80a4ea1eedd156"),  # more users than are drawn for at once
        (40, 900, 8000, 4, 99, "b2cff372a58305c9"),  # long histories, an odd count
        (7, 12, 20, 5, 3, "1bab5c0ffde4d3f1"),
        (300, 130, 4000, 6, 80, "94cf55c96a8928ed"),  # few items are left, so picks repeat
    ],
)
def test_candidates_are_those_of_earlier_versions(
    num_users: int, num_items: int, rows: int, seed: int, count: int, digest: str
) -> None:
    """Stored results would be of other negatives: digests of version ba19171, which searched with JAX, draw for draw."""
    rng = np.random.default_rng(seed)
    users = np.concatenate([np.arange(num_users), rng.integers(0, num_users, rows)])
    items = rng.integers(0, num_items, len(users))
    log = build_log("shop", users, items, catalogue=np.arange(num_items))
    every_other = np.arange(num_users)[::2]
    drawn = draw_candidates(whole(log), every_other, count, seed)
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == digest


def test_candidates_of_some_are_those_they_have_among_all() -> None:
    """A validation on some users would have other negatives than one on all users."""
    rng = np.random.default_rng(0)
    log = build_log("shop", np.arange(9000) % 3000, rng.integers(0, 400, 9000))
    everyone, positions = np.arange(3000)[::2], np.array([3, 700, 701, 1499])
    some = draw_candidates(whole(log), everyone, 100, 5, positions)
    assert np.array_equal(some, draw_candidates(whole(log), everyone, 100, 5)[positions])


def test_as_many_candidates_as_are_left() -> None:
    """A user with just so many items left could not be tested, or one with fewer would get repeated candidates."""
    index = whole(log_of([[0], [1, 2, 3, 3, 5]]))
    assert draw_candidates(index, np.arange(2), 8, seed=0).shape == (2, 8)
    with pytest.raises(ValueError, match="a user has 8 items left; expected 9"):
        draw_candidates(index, np.arange(2), 9, seed=0)


HISTORIES = [
    [0],
    [10],
    [0, 1, 2, 3],
    [7, 8, 9, 10],
    [4, 4, 4],
    [10, 0],
    [9, 1, 5, 1, 3],
    [1, 3, 5, 7, 9],
    [0, 2, 4, 6, 8, 10],
    list(range(10)),
    list(range(1, 11)),
    [0, 1, 2, 3, 4, 6, 7, 8, 9, 10],
    [3, 2, 1, 8, 7],
]


def test_negatives_equal_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rejection-free draw would skip or repeat an item: every possible r, against the sorted rest of the catalogue."""
    every = jnp.broadcast_to(jnp.arange(11), (len(HISTORIES), 11))
    monkeypatch.setattr(
        jax.random,
        "randint",
        lambda key, shape, low, high, dtype: jnp.minimum(every, high - 1).astype(dtype),
    )
    log = log_of(HISTORIES, 11)
    index = whole(log)
    everyone, shifted, offsets = (
        jnp.asarray(array) for array in (np.arange(log.num_users), index.shifted, index.offsets)
    )
    draw = jax.jit(
        lambda users: draw_negatives(
            jax.random.key(0), users, shifted, offsets, 11, index.search_steps, 11
        )
    )
    drawn = np.asarray(draw(everyone))
    for user, history in enumerate(HISTORIES):
        rest = sorted(set(range(11)) - set(history))
        np.testing.assert_array_equal(drawn[user, : len(rest)], rest)
        assert (drawn[user, len(rest) :] == rest[-1]).all()


def test_places_beyond_a_billion() -> None:
    """The sum of two places wrapped around int32, so users at the end of large data got items of their history as negatives."""
    # JAX reads the last row for a later one: 50 entries of 0, without 8 GB
    had = jnp.zeros(1, jnp.int32)
    offsets = jnp.array([2**31 - 60, 2**31 - 10], jnp.int32)
    found = draw_negatives(jax.random.key(0), jnp.zeros(200, jnp.int32), had, offsets, 60, 6, 1)
    assert set(found.ravel().tolist()) == set(range(50, 60))


def test_who_has_had_everything_is_told_from_who_has_bought_once() -> None:
    """People with a tiny catalogue would look for users with more interactions, of which they have enough."""

    def refused(lengths: list[int], had: int) -> str:
        log = SimpleNamespace(name="shop", num_items=3)
        split: Any = SimpleNamespace(log=log, train=SimpleNamespace(lengths=np.array(lengths)))
        index: Any = SimpleNamespace(offsets=np.arange(len(lengths) + 1) * had)
        return refusal(trainable_users, split, index, False)

    assert "no user has two training interactions" in refused([1, 1], had=1)
    assert "have had every item of the catalogue" in refused([2, 2], had=3)
