"""Leave-one-out split, head and tail groups, and the dataset statistics of the paper's Table 1."""

import dataclasses

import numpy as np

from grasp_jax.data.log import InteractionLog
from grasp_jax.errors import UserError

MIN_EVALUATED_LENGTH = 3  # one interaction each for training, validation and test


@dataclasses.dataclass(frozen=True)
class Histories:
    """Per user a window of the log's flat `items`: `items[start[n]:end[n]]` is the history that the model may see.

    Attributes:
      start: [N] int64.
      end: [N] int64, exclusive.
      target: [N] int32 item row to predict, or -1 where the user is not evaluated.
    """

    start: np.ndarray
    end: np.ndarray
    target: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.end - self.start

    @property
    def evaluated(self) -> np.ndarray:
        """Rows of the users that have a target and at least one interaction before it."""
        return np.flatnonzero((self.target >= 0) & (self.lengths > 0))


@dataclasses.dataclass(frozen=True)
class Split:
    """Leave-one-out: a user's last item is the test target, the one before it the validation target, the rest is training."""

    log: InteractionLog
    train: Histories
    valid: Histories
    test: Histories

    @property
    def item_counts(self) -> np.ndarray:
        """[V] int64 training interactions per item."""
        last = np.zeros(self.log.num_interactions + 1, np.int64)
        # The training windows may be cut to the newest items; frequencies count the whole training part.
        np.add.at(last, self.log.offsets[:-1], 1)
        np.add.at(last, self.train.end, -1)
        in_training = np.cumsum(last[:-1]) > 0
        return np.bincount(self.log.items[in_training], minlength=self.log.num_items)

    @property
    def train_lengths(self) -> np.ndarray:
        """[N] int64 training interactions per user, uncut."""
        return self.train.end - self.log.offsets[:-1]


def leave_one_out(log: InteractionLog, max_length: int, include_short_users: bool = False) -> Split:
    """Splits a log; windows keep the newest `max_length` items (training one more, whose last is only a target).

    Users with fewer than three interactions are trained on and never evaluated. `include_short_users` reproduces LLM-ESR, which
    evaluates those with two on the very item they were trained on.

    Raises:
      UserError: no user is long enough to be evaluated.
    """
    begin, stop = log.offsets[:-1], log.offsets[1:]
    enough = log.lengths >= MIN_EVALUATED_LENGTH
    if not enough.any():
        raise UserError(f"{log.name}: no user has {MIN_EVALUATED_LENGTH} interactions, so nothing can be evaluated")
    train_end = np.where(enough, stop - 2, stop)

    def window(end: np.ndarray, length: int, target_at: np.ndarray, has_target: np.ndarray) -> Histories:
        target = np.where(has_target, log.items[np.minimum(target_at, log.num_interactions - 1)], -1)
        return Histories(np.maximum(begin, end - length), end, target.astype(np.int32))

    evaluated = enough | ((log.lengths == 2) & include_short_users)
    valid_end = np.where(enough, stop - 2, stop - 1)
    return Split(
        log=log,
        train=window(train_end, max_length + 1, train_end, np.zeros_like(enough)),
        valid=window(valid_end, max_length, valid_end, evaluated),
        test=window(stop - 1, max_length, stop - 1, evaluated),
    )


@dataclasses.dataclass(frozen=True)
class Groups:
    """Head and tail by training frequency (the paper's appendix A.2): `tail` means fewer than the threshold.

    Attributes:
      tail_user: [N] bool.
      tail_item: [V] bool.
      tail_user_below: users with fewer training interactions are tail.
      tail_item_below: items with fewer training interactions are tail.
    """

    tail_user: np.ndarray
    tail_item: np.ndarray
    tail_user_below: int
    tail_item_below: int


def head_tail_groups(split: Split, tail_user_below: int = 0, tail_item_below: int = 0) -> Groups:
    """A threshold of 0 is chosen by the Pareto rule: the smallest one that puts at least 80 % into the tail."""
    users, items = split.train_lengths, split.item_counts
    tail_user_below = tail_user_below or _pareto_threshold(users)
    tail_item_below = tail_item_below or _pareto_threshold(items)
    return Groups(users < tail_user_below, items < tail_item_below, tail_user_below, tail_item_below)


def _pareto_threshold(counts: np.ndarray) -> int:
    return int(np.quantile(counts, 0.8, method="inverted_cdf")) + 1


def statistics(split: Split, groups: Groups) -> dict[str, float | int | str]:
    """The columns of the paper's Table 1 (and the head/tail thresholds of A.2) for any dataset; sparsity in percent."""
    log = split.log
    pairs = log.num_users * log.num_items
    return {
        "dataset": log.name,
        "users": log.num_users,
        "items": log.num_items,
        "interactions": log.num_interactions,
        "avg_length": log.num_interactions / log.num_users,
        "sparsity": 100.0 * (1.0 - log.num_interactions / pairs),
        "tail_user_below": groups.tail_user_below,
        "tail_item_below": groups.tail_item_below,
        "evaluated_users": len(split.test.evaluated),
        "unseen_in_training": int((split.item_counts == 0).sum()),
    }
