"""When a model stops, and what is stored of its best epoch."""

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.training.early_stopping import Progress, as_progress


def play(scores: list[list[float]], patience: int) -> list[Progress]:
    """The states after each epoch of validation scores [epochs, M]."""
    states = [Progress.start(len(scores[0]))]
    for epoch in scores:
        states.append(states[-1].after_epoch(np.array(epoch), patience)[0])
    return states


def test_patience_counts_epochs_without_a_better_score() -> None:
    """Training would stop an epoch early or late, or an equal score would count as better."""
    states = play([[0.1], [0.3], [0.3], [0.2], [0.29]], patience=3)
    assert [bool(state.stopped[0]) for state in states] == [False, False, False, False, False, True]
    assert [int(state.best_epoch[0]) for state in states] == [0, 1, 2, 2, 2, 2]
    assert states[-1].best[0] == np.float32(0.3)


def test_better_score_renews_patience() -> None:
    """A model that still improves would be stopped."""
    states = play([[0.1], [0.0], [0.2], [0.0], [0.3], [0.0]], patience=2)
    assert not any(state.stopped[0] for state in states)
    assert states[-1].best_epoch[0] == 5


def test_members_stop_independently() -> None:
    """One seed's plateau would stop another, or a stopped model would come back with a score that nobody trained for."""
    states = play([[0.5, 0.1, 0.0], [0.4, 0.2, 0.0], [0.4, 0.3, 0.0], [0.9, 0.4, 0.1]], patience=2)
    assert [state.active.tolist() for state in states] == [
        [0, 1, 2],
        [0, 1, 2],
        [0, 1, 2],
        [1],
        [1],
    ]
    np.testing.assert_array_equal(states[-1].best, np.array([0.5, 0.4, 0.0], np.float32))
    np.testing.assert_array_equal(states[-1].best_epoch, [1, 4, 1])


def test_only_better_members_are_reported() -> None:
    """The best parameters of the wrong model would be kept; a score that is not a number is never better."""
    state = play([[0.5, 0.1, 0.2, 0.3]], patience=9)[-1]
    _, better = state.after_epoch(np.array([0.4, 0.2, 0.2, np.nan]), patience=9)
    np.testing.assert_array_equal(better, [False, True, False, False])


def test_epoch_starts_afresh() -> None:
    """A resumed epoch would begin at the last one's step, with its losses; and the state before must stay as it was saved."""
    before = Progress.start(2)._replace(
        step=np.int32(7) + np.zeros((), np.int32), loss_sum=np.ones(2, np.float32)
    )
    after, _ = before.after_epoch(np.array([0.1, 0.2]), patience=5)
    assert (int(after.epoch), int(after.step), after.loss_sum.tolist()) == (1, 0, [0, 0])
    assert (
        int(before.epoch),
        int(before.step),
        before.loss_sum.tolist(),
        before.best.tolist(),
    ) == (0, 7, [1, 1], [-1, -1])


def test_restored_progress_can_be_written_to() -> None:
    """The first loss after a resume would raise: a restored tree holds read-only device arrays."""
    restored = as_progress(jax.tree.map(jnp.asarray, Progress.start(3)))
    restored.loss_sum[1] += 2.5
    assert restored.loss_sum.tolist() == [0, 2.5, 0]
    for ours, fresh in zip(
        restored, Progress.start(3)._replace(loss_sum=restored.loss_sum), strict=True
    ):
        assert ours.dtype == fresh.dtype and ours.shape == fresh.shape
        np.testing.assert_array_equal(ours, fresh)
