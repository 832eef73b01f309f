"""The users that an epoch reads if training continues on new interactions: the users who have new ones, and for each of them
`train.replay` other users.

A model that learns only from new interactions forgets older ones. To read some of the older data again in each epoch is known as replay
(for session-based recommendation: Mi et al., "ADER", RecSys 2020, arXiv 2007.12000).
"""

import dataclasses

import numpy as np

from grasp_jax.config import TrainConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.data.moments import parse_moment, shown
from grasp_jax.data.split import LEAVE_ONE_OUT, Split


@dataclasses.dataclass(frozen=True)
class Replay:
    """Two groups of users in training.

    Attributes:
      changed: [n] rows of the users with new interactions; every epoch reads all of them.
      others: [m] rows of all others, longest history first.
      num_drawn: number of others that an epoch reads, at most m.
    """

    changed: np.ndarray
    others: np.ndarray
    num_drawn: int

    @property
    def size(self) -> int:
        """Number of users in an epoch."""
        return len(self.changed) + self.num_drawn

    def users(self, rng: np.random.Generator) -> np.ndarray:
        """Draws the [n + num_drawn] rows of an epoch: one of the others from each of `num_drawn` groups with similar lengths of history, so
        that all epochs have nearly the same number of interactions.
        """
        bounds = self._group_bounds()
        return np.concatenate([self.changed, self.others[rng.integers(bounds[:-1], bounds[1:])]])

    def longest(self) -> np.ndarray:
        """[n + num_drawn] rows for which batches are planned: no epoch has longer histories."""
        return np.concatenate([self.changed, self.others[self._group_bounds()[:-1]]])

    def tokens(self, lengths: np.ndarray) -> int:
        """Mean number of interactions in an epoch; [N] lengths of histories."""
        of_others = lengths[self.others].mean() * self.num_drawn if self.num_drawn else 0
        return int(lengths[self.changed].sum() + of_others)

    def _group_bounds(self) -> np.ndarray:
        """[num_drawn + 1] bounds of the groups of `others`."""
        return np.arange(self.num_drawn + 1) * len(self.others) // max(self.num_drawn, 1)


def replay_of(config: TrainConfig, split: Split, users: np.ndarray) -> Replay | None:
    """The groups that `config.new_since` and `config.replay` select; None: epochs read all users.

    Args:
      config: the `train` section.
      split: the histories.
      users: [n] rows of the users in training.

    Raises:
      UserError: interactions have no times, the time is not readable, or no user in training has an interaction since then.
    """
    if not config.new_since:
        return None
    field, log = "config.train.new_since", split.log
    if log.timestamps is None:
        raise UserError(
            f"{field}: {config.new_since!r} needs a timestamp column, and the interactions of {log.name} have none; name it with "
            "config.data.columns.timestamp, or leave the field empty"
        )
    since = parse_moment(config.new_since, field, log)
    # Leave-one-out trains on all but the two newest interactions of a user. So a new interaction moves an older one into the training part,
    # even if the new one itself is in validation or test.
    ends = log.offsets[1:] if split.mode == LEAVE_ONE_OUT else split.train.end
    newest = log.timestamps[ends[users] - 1]  # the times of a history ascend
    changed, others = users[newest >= since], users[newest < since]
    if not len(changed):
        raise UserError(
            f"{field}: {shown(since, log.time_unit)}; no user in training has an interaction since then (the newest is of "
            f"{shown(newest.max().item(), log.time_unit)}); expected the time up to which the run of config.train.start_from was "
            "trained, or train.max_epochs=0 to use its model as it is"
        )
    ordered = others[np.argsort(-split.train.lengths[others], kind="stable")]
    drawn = min(round(config.replay * len(changed)), len(others))
    logger.info(
        f"an epoch reads {len(changed):,} users with interactions since {shown(since, log.time_unit)}, and {drawn:,} of the "
        f"{len(others):,} others"
    )
    return Replay(changed, ordered, drawn)
