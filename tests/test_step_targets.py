"""Targets and negatives that a training step draws."""

from typing import Any

import jax
import numpy as np
from scipy import stats

from grasp_jax.models.device_data import gather_batch
from grasp_jax.training.targets import draw_targets
from tests.step_setting import BATCH, NEGATIVES, draw_batch


def test_last_targets_are_the_last_pair_of_each_history(setting: Any) -> None:
    """LLM-ESR's GRU4Rec would be trained on other positions than the last of each user."""
    s = setting("plain")
    shape = s.shape._replace(num_targets=BATCH, last_only=True)
    places = np.asarray(
        jax.jit(lambda: draw_targets(jax.random.key(0), 0, s.data, s.batch, shape)[1].places.flat)()
    )
    slots = s.slots[0].ravel()
    users = np.where(slots >= 0, s.split.log.users[np.maximum(slots, 0)], -1)
    expected = [
        place
        for place in np.flatnonzero(slots >= 0)
        if slots[place] + 2 == s.split.train.end[users[place]]
    ]
    assert places[places < slots.size].tolist() == expected and len(expected) == len(
        set(users[users >= 0].tolist())
    )


def test_no_batch_has_more_pairs_than_planned(setting: Any) -> None:
    """Pairs beyond the planned number would be dropped in silence."""
    s = setting("plain")
    every = draw_batch(s.shape._replace(num_targets=s.batch.items.size))
    batches = [jax.jit(gather_batch)(s.data, slots) for slots in s.slots]
    counts = [
        (
            np.asarray(every(jax.random.key(0), 0, s.data, batch).places.flat) < batch.items.size
        ).sum()
        for batch in batches
    ]
    assert max(counts) <= len(s.targets.places.flat)


def test_negatives_are_a_function_of_seed_and_step(setting: Any) -> None:
    """A diverged batch could not be drawn again, or every step would meet the same negatives."""
    s = setting("plain")
    draw = draw_batch(s.shape)
    first, again, other_seed, other_step = (
        np.asarray(draw(jax.random.key(seed), step, s.data, s.batch).negatives.items)
        for seed, step in ((0, 5), (0, 5), (1, 5), (0, 6))
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == (len(s.targets.places.flat), NEGATIVES)
    assert (first != other_seed).mean() > 0.8
    assert (first != other_step).mean() > 0.8


def test_negatives_avoid_the_training_history(setting: Any) -> None:
    """A positive would be trained as a negative; the whole training history counts, also what the window has cut off."""
    s = setting("plain")
    log, cut = s.split.log, 0
    drawn = draw_batch(s.shape._replace(negatives=50))(jax.random.key(3), 0, s.data, s.batch)
    for user in np.unique(drawn.users):
        known = set(log.items[log.offsets[user] : s.split.train.end[user]].tolist())
        theirs = np.asarray(drawn.negatives.items)[np.asarray(drawn.users) == user]
        assert not known & set(theirs.ravel().tolist())
        assert theirs.min() >= 0 and theirs.max() < log.num_items
        cut += s.split.train.start[user] > log.offsets[user]
    assert cut  # some window is shorter than its user's training history


def test_negatives_are_uniform(setting: Any) -> None:
    """Some items would be trained against more often than others: chi-square of each user's draws over the rest of the catalogue."""
    s = setting("plain")
    log = s.split.log
    drawn = draw_batch(s.shape._replace(negatives=2000))(jax.random.key(5), 0, s.data, s.batch)
    for user in np.unique(drawn.users):
        known = np.unique(log.items[log.offsets[user] : s.split.train.end[user]])
        counts = np.bincount(
            np.asarray(drawn.negatives.items)[np.asarray(drawn.users) == user].ravel(),
            minlength=log.num_items,
        )
        assert stats.chisquare(np.delete(counts, known)).pvalue > 1e-3
