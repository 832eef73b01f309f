"""Exact uniform negatives: drawn on the device in training, drawn once and stored for evaluation.

To draw uniformly from the V items less a sorted history h_0 < h_1 < ...: draw r below V - len(h), then add the number of k with
h_k - k <= r (ids from 0). No rejection, no loop over candidates.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.data.log import InteractionLog, distinct
from grasp_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ExclusionIndex:
    """Sorted distinct items per user, each less its rank: the h_k - k of the module's docstring, in one flat array.

    Attributes:
      shifted: [J] int32.
      offsets: [N+1] int32 into `shifted`.
      num_items: V.
      search_steps: bisection steps that settle the longest history.
    """

    shifted: np.ndarray
    offsets: np.ndarray
    num_items: int
    search_steps: int


def exclusion_index(log: InteractionLog, start: np.ndarray, end: np.ndarray) -> ExclusionIndex:
    """Index of each user's distinct items within `items[start:end]`.

    A user who has interacted with every item has no negative: callers leave such users out.
    """
    lengths = end - start
    users = np.repeat(np.arange(log.num_users, dtype=np.int64), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = log.items[np.repeat(start, lengths) + within].astype(np.int64)
    pairs = distinct(users * log.num_items + items)
    owners, items = pairs // log.num_items, pairs % log.num_items
    counts = np.bincount(owners, minlength=log.num_users)
    offsets = np.zeros(log.num_users + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    ranks = np.arange(len(items)) - np.repeat(offsets[:-1], counts)
    return ExclusionIndex(
        shifted=(items - ranks).astype(np.int32),
        offsets=offsets.astype(np.int32),
        num_items=log.num_items,
        search_steps=int(counts.max()).bit_length(),
    )


def draw_negatives(
    key: jax.Array,
    users: jax.Array,
    shifted: jax.Array,
    offsets: jax.Array,
    num_items: int,
    search_steps: int,
    per_position: int,
) -> jax.Array:
    """Uniform draws from the catalogue minus each user's history.

    Args:
      key: random key.
      users: [...] int32 user rows.
      shifted, offsets, num_items, search_steps: the fields of an `ExclusionIndex`, on the device.
      per_position: G draws for each entry of `users`.

    Returns:
      [..., G] int32 item rows.
    """
    first, last = offsets[users][..., None], offsets[users + 1][..., None]
    available = num_items - (last - first)
    draw = jax.random.randint(key, (*users.shape, per_position), 0, available, dtype=jnp.int32)
    return draw + _count_not_above(shifted, first, last, draw, search_steps)


def _count_not_above(
    shifted: jax.Array, first: jax.Array, last: jax.Array, value: jax.Array, steps: int
) -> jax.Array:
    """Number of entries of the ascending `shifted[first:last]` that are <= value, by bisection."""
    low, high = jnp.broadcast_to(first, value.shape), jnp.broadcast_to(last, value.shape)
    for _ in range(steps):
        middle = (low + high) // 2
        below = (low < high) & (shifted[middle] <= value)
        low, high = (
            jnp.where(below, middle + 1, low),
            jnp.where(below | (low >= high), high, middle),
        )
    return low - first


def draw_candidates(index: ExclusionIndex, users: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Evaluation negatives: `count` *distinct* items per user, none from the user's history, by Floyd's sampling.

    Args:
      index: exclusions over the users' whole histories, targets included.
      users: [n] user rows.
      count: negatives per user (the paper: 100).
      seed: with the data, decides the draw.

    Returns:
      [n, count] int32 item rows.

    Raises:
      UserError: some user has fewer than `count` items left.
    """
    first, last = index.offsets[users].astype(np.int64), index.offsets[users + 1].astype(np.int64)
    available = index.num_items - (last - first)
    if available.min() < count:
        raise UserError(
            f"config.eval.num_negatives: {count} distinct negatives asked for, but one user has only {available.min()} items left "
            f"of {index.num_items}; lower it"
        )
    rng = np.random.default_rng([seed, 0xE7A1])
    drawn = np.full((len(users), count), -1, np.int64)
    for k in range(count):
        top = (
            available - count + k
        )  # Floyd: draw from 0..top; on a repeat take top itself, which cannot have been drawn yet
        pick = rng.integers(0, top + 1)
        repeated = (drawn[:, :k] == pick[:, None]).any(axis=1)
        drawn[:, k] = np.where(repeated, top, pick)
    shifted, low, high, value = (
        jnp.asarray(array, jnp.int32)
        for array in (index.shifted, first[:, None], last[:, None], drawn)
    )
    return np.asarray(value + _count_not_above(shifted, low, high, value, index.search_steps))
