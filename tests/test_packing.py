"""Split, packing and negatives."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.data.negatives import draw_candidates, draw_negatives, exclusion_index
from grasp_jax.data.packing import pack, plan_packing, stratified_batches
from grasp_jax.data.readers import read_interactions
from grasp_jax.data.split import head_tail_groups, leave_one_out, statistics
from grasp_jax.errors import UserError

PAPER_BEAUTY = pathlib.Path(__file__).parents[2] / "shared" / "data" / "paper_beauty" / "inter.txt"


def random_log(seed: int, num_users: int = 70, num_items: int = 90) -> InteractionLog:
    rng = np.random.default_rng(seed)
    lengths = 1 + rng.geometric(0.15, num_users)
    users = np.repeat(np.arange(num_users), lengths)
    return build_log("random", users, rng.integers(0, num_items, len(users)), catalogue=np.arange(num_items))


def test_split_by_hand() -> None:
    """Would break every number: the last item is the test, the one before it validation; short users only train."""
    log = build_log("hand", np.array([0, 0, 0, 0, 1, 1, 2]), np.array([5, 6, 7, 8, 5, 6, 5]))
    split = leave_one_out(log, max_length=1)
    items = log.item_ids
    assert split.test.evaluated.tolist() == [0]
    assert items[split.valid.target[0]] == 7 and items[split.test.target[0]] == 8
    assert log.items[split.test.start[0] : split.test.end[0]].tolist() == [2]  # one item of history: item 7
    assert split.train.lengths.tolist() == [2, 2, 1]  # one more than max_length: the last is only a target
    assert split.item_counts.tolist() == [3, 2, 0, 0]
    short = leave_one_out(log, max_length=10, include_short_users=True)
    assert short.test.evaluated.tolist() == [0, 1] and items[short.test.target[1]] == 6
    groups = head_tail_groups(split, tail_user_below=2, tail_item_below=3)
    assert groups.tail_user.tolist() == [False, False, True] and groups.tail_item.tolist() == [False, True, True, True]


@pytest.mark.skipif(not PAPER_BEAUTY.exists(), reason="the paper's Beauty is not beside the repository")
def test_paper_beauty_has_the_papers_numbers() -> None:
    """Would break the comparison with the paper's Table 1."""
    split = leave_one_out(read_interactions(PAPER_BEAUTY, "beauty", {}), 100)
    facts = statistics(split, head_tail_groups(split))
    assert (facts["users"], facts["items"], facts["interactions"]) == (52204, 57289, 394908)
    assert facts["unseen_in_training"] == 5804 and facts["evaluated_users"] == 52204 - 460 - 1246


@pytest.mark.parametrize("seed", range(4))
def test_an_epoch_packs_every_interaction_once(seed: int) -> None:
    """Would break training: a lost or doubled interaction, a user cut in two, or a batch of another shape."""
    split = leave_one_out(random_log(seed), 20)
    train, users = split.train, np.flatnonzero(split.train.lengths > 1)
    packing = plan_packing(train, users, 8)
    orders = []
    for epoch in range(3):
        batches = stratified_batches(train.lengths, users, 8, np.random.default_rng([seed, epoch]))
        slots, newest = pack(train, batches, packing)
        assert slots.shape == (-(-len(users) // 8), packing.num_rows, packing.row_length)
        expected = np.concatenate([np.arange(train.start[user], train.end[user]) for user in users])
        assert np.array_equal(np.sort(slots[slots >= 0]), np.sort(expected))
        assert np.array_equal(np.sort(batches[batches >= 0]), users)
        for step, user in zip(*np.nonzero(batches >= 0), strict=True):
            owner = batches[step, user]
            rows, columns = np.nonzero((slots[step] >= train.start[owner]) & (slots[step] < train.end[owner]))
            assert len(set(rows)) == 1 and np.array_equal(np.diff(columns), np.ones(len(columns) - 1))
            assert slots[step].ravel()[newest[step, user]] == train.end[owner] - 1
        orders.append(batches.tolist())
    assert orders[0] != orders[1]
    again = stratified_batches(train.lengths, users, 8, np.random.default_rng([seed, 0]))
    assert again.tolist() == orders[0]


def test_negatives_are_uniform_over_what_is_left() -> None:
    """Would break the loss: an item of the history, or one drawn more often than another (chi-square, fixed seed)."""
    log = build_log("small", np.zeros(6, int), np.array([0, 3, 4, 4, 9, 11]), catalogue=np.arange(12))
    index = exclusion_index(log, log.offsets[:-1], log.offsets[1:])
    users = jnp.zeros(30_000, jnp.int32)
    drawn = draw_negatives(jax.random.key(0), users, jnp.asarray(index.shifted), jnp.asarray(index.offsets), 12, index.search_steps, 1)
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=12)
    left = [1, 2, 5, 6, 7, 8, 10]
    assert counts[[0, 3, 4, 9, 11]].sum() == 0
    expected = 30_000 / len(left)
    assert ((counts[left] - expected) ** 2 / expected).sum() < 22.5  # 0.999 quantile, six degrees of freedom


def test_candidates_are_distinct_stable_and_outside_the_history() -> None:
    """Would break comparisons: candidates must be the same for every method and hold no item that the user knows."""
    log = random_log(1)
    index = exclusion_index(log, log.offsets[:-1], log.offsets[1:])
    users = np.arange(log.num_users)
    drawn = draw_candidates(index, users, 20, seed=5)
    assert np.array_equal(drawn, draw_candidates(index, users, 20, seed=5))
    assert not np.array_equal(drawn, draw_candidates(index, users, 20, seed=6))
    for user in users:
        history = set(log.items[log.offsets[user] : log.offsets[user + 1]].tolist())
        assert len(set(drawn[user].tolist()) - history) == 20
    with pytest.raises(UserError, match=r"distinct negatives asked for, but one user has only"):
        draw_candidates(index, users, 89, seed=5)
