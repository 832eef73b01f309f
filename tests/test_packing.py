"""Packed batches: every interaction once an epoch, no user cut in two, the same shape every epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.data.packing import (
    ROW_MULTIPLE,
    Packing,
    pack,
    packing_of_lengths,
    plan_packing,
    stratified_batches,
)
from grasp_jax.data.split import Histories, leave_one_out


def random_log(seed: int, num_users: int = 70, num_items: int = 90) -> InteractionLog:
    rng = np.random.default_rng(seed)
    lengths = 1 + rng.geometric(0.15, num_users)
    users = np.repeat(np.arange(num_users), lengths)
    return build_log(
        "random", users, rng.integers(0, num_items, len(users)), catalogue=np.arange(num_items)
    )


def histories_of(lengths: list[int], cut: int = 0) -> Histories:
    """Windows of these lengths, each after `cut` interactions that are left out."""
    ends = np.cumsum(np.array(lengths) + cut)
    return Histories(ends - np.array(lengths), ends, np.full(len(lengths), -1, np.int32))


def check_epoch(
    histories: Histories,
    users: np.ndarray,
    batches: np.ndarray,
    slots: np.ndarray,
    newest: np.ndarray,
) -> None:
    """Every interaction of `users` in exactly one slot, each user once and in one stretch of one row, `newest` at its end."""
    assert np.array_equal(np.sort(batches[batches >= 0]), np.sort(users))
    expected = np.concatenate(
        [np.arange(histories.start[user], histories.end[user]) for user in users]
    )
    assert np.array_equal(np.sort(slots[slots >= 0]), np.sort(expected))
    assert slots.dtype == np.int32 and newest.dtype == np.int32 and newest.shape == batches.shape
    row_length = slots.shape[2]
    for step, place in zip(*np.nonzero(batches >= 0), strict=True):
        user = batches[step, place]
        length = histories.lengths[user]
        row, column = divmod(int(newest[step, place]), row_length)
        assert column + 1 >= length, "the stretch begins in the row in which it ends"
        stretch = slots[step, row, column + 1 - length : column + 1]
        assert np.array_equal(stretch, np.arange(histories.start[user], histories.end[user]))
    assert (newest[batches < 0] == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_an_epoch_packs_every_training_interaction_once(seed: int) -> None:
    """Would break training: a lost or doubled interaction, a user cut in two, or a batch of another shape in another epoch."""
    split = leave_one_out(random_log(seed), 20)
    train, users = split.train, np.flatnonzero(split.train.lengths > 1)
    packing = plan_packing(train, users, 8)
    for epoch in range(4):
        batches = stratified_batches(train.lengths, users, 8, np.random.default_rng([seed, epoch]))
        slots, newest = pack(train, batches, packing)
        assert slots.shape == (-(-len(users) // 8), packing.num_rows, packing.row_length)
        check_epoch(train, users, batches, slots, newest)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
    cut=st.integers(0, 3),
)
def test_packing_of_any_lengths(lengths: list[int], batch_size: int, seed: int, cut: int) -> None:
    """Would break training on unusual data: few users, equal lengths, one giant, a last batch nearly empty."""
    histories, users = histories_of(lengths, cut), np.arange(len(lengths))
    packing = plan_packing(histories, users, batch_size)
    assert packing.batch_size == min(batch_size, len(lengths))
    assert (
        max(lengths) <= packing.row_length < max(lengths) + ROW_MULTIPLE
        and packing.row_length % ROW_MULTIPLE == 0
    )
    for epoch in range(2):
        batches = stratified_batches(
            histories.lengths, users, packing.batch_size, np.random.default_rng([seed, epoch])
        )
        slots, newest = pack(histories, batches, packing)
        assert slots.shape == (
            -(-len(users) // packing.batch_size),
            packing.num_rows,
            packing.row_length,
        )
        check_epoch(histories, users, batches, slots, newest)
        totals = (slots >= 0).sum(axis=(1, 2))
        assert totals.max() - totals.min() <= max(lengths), (
            "strata follow each other, so batches differ by one history at most"
        )


def test_users_that_were_not_asked_for_stay_out() -> None:
    """Would break if histories of length one, which have no target, took part in an epoch."""
    histories = histories_of([1, 5, 1, 3, 9, 1])
    users = np.array([1, 3, 4])
    packing = plan_packing(histories, users, 2)
    batches = stratified_batches(histories.lengths, users, 2, np.random.default_rng(0))
    check_epoch(histories, users, batches, *pack(histories, batches, packing))


def test_batches_are_stratified() -> None:
    """Would break even steps: each batch has one user of every stratum, and token totals nearly equal those of other batches."""
    lengths = 1 + np.random.default_rng(0).geometric(0.1, 1000)
    batches = stratified_batches(lengths, np.arange(1000), 50, np.random.default_rng(1))
    assert batches.shape == (20, 50)
    ranked = np.sort(lengths)[::-1].reshape(50, 20)
    assert (
        (lengths[batches] <= ranked.max(axis=1)) & (lengths[batches] >= ranked.min(axis=1))
    ).all()
    totals = lengths[batches].sum(axis=1)
    unstratified = lengths[np.random.default_rng(1).permutation(1000)].reshape(20, 50).sum(axis=1)
    assert totals.std() < 0.35 * unstratified.std() and np.ptp(totals) < 0.15 * totals.mean()
    assert (np.diff(lengths[batches], axis=1) <= 0).all(), "falling lengths, which first-fit needs"


def test_order_is_decided_by_the_seed() -> None:
    """Would break resumption (same seed, same epoch) or shuffling (another seed, another epoch; users of equal length too)."""
    lengths, users = np.full(60, 7), np.arange(60)

    def deal(seed: int) -> np.ndarray:
        return stratified_batches(lengths, users, 6, np.random.default_rng(seed))

    assert np.array_equal(deal(3), deal(3)) and not np.array_equal(deal(3), deal(4))
    together = [{frozenset(batch) for batch in deal(seed).tolist()} for seed in (3, 4)]
    assert not together[0] & together[1], (
        "the company of a user changes, not the order of batches alone"
    )
    meetings = sum({0, 1} <= set(batch) for seed in range(100) for batch in deal(seed).tolist())
    assert 0 < meetings < 30, (
        "users of equal length share a stratum in some epochs and a batch in others"
    )


def test_evaluation_deals_in_order() -> None:
    """Would break repeatable evaluation: without an rng the longest come first and ties stay in the order of users."""
    lengths = np.array([2, 9, 4, 4, 7, 2, 5])
    batches = stratified_batches(lengths, np.arange(7), 3, None)
    assert batches.tolist() == [[1, 2, 5], [4, 3, -1], [6, 0, -1]]


def test_rows_are_filled() -> None:
    """Would break the gain of packing: rows of one user each are right, and ten times too many."""
    lengths = np.minimum(1 + np.random.default_rng(0).geometric(0.15, 640), 60)
    histories, users = histories_of(lengths.tolist()), np.arange(640)
    packing = plan_packing(histories, users, 64)
    slots, _ = pack(
        histories, stratified_batches(lengths, users, 64, np.random.default_rng(0)), packing
    )
    assert np.mean(slots >= 0) > 0.85


def test_rows_grow_where_first_fit_does_worse_than_planned() -> None:
    """Would break (lost tokens, or a crash) where shorter histories need more rows: first-fit is not monotone."""
    longest = [95, 49, 49, 49, 49, 49, 49, 48, 43, 37, 35, 35, 33, 29, 28, 26, 26, 22, 20, 17, 16]
    shorter = [85, 49, 49, 49, 49, 49, 48, 48, 37, 36, 35, 35, 33, 29, 27, 26, 26, 21, 19, 16, 15]
    planned = plan_packing(histories_of(longest), np.arange(21), 21)
    assert planned == Packing(batch_size=21, row_length=96, num_rows=9, num_pairs=sum(longest) - 21)
    histories, batches = histories_of(shorter), np.arange(21)[None]
    slots, newest = pack(histories, batches, planned)
    assert slots.shape == (1, 10, 96)
    check_epoch(histories, np.arange(21), batches, slots, newest)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 70))
def test_rows_hold_the_longest_of_each_stratum(lengths: list[int], batch_size: int) -> None:
    """Rows would be planned for other histories than those that are dealt, so training would compile a second time or lose tokens."""
    found = packing_of_lengths(np.array(lengths), batch_size)
    batches = stratified_batches(np.array(lengths), np.arange(len(lengths)), found.batch_size, None)
    tokens = np.where(batches >= 0, np.array(lengths)[batches], 0)
    assert found.num_pairs == np.maximum(tokens.max(axis=0) - 1, 0).sum()
    slots, _ = pack(histories_of(lengths), batches[:1], found)
    assert slots.shape[1:] == (found.num_rows, found.row_length)


def test_rows_of_many_users_are_planned_without_sorting_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--mode=plan of 100 million users would be silent for minutes."""
    for name in ("lexsort", "argsort", "sort"):
        monkeypatch.setattr(np, name, None)
    lengths = np.random.default_rng(0).geometric(0.1, 100_000)
    assert packing_of_lengths(lengths, 128).batch_size == 128
