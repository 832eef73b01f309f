"""Exact uniform negatives: drawn on the device in training, by NumPy once and stored for evaluation.

To draw uniformly from the V items less a sorted history h_0 < h_1 < ...: draw r below V - len(h), then add the number of k with
h_k - k <= r (ids from 0). No rejection, no loop over candidates.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.data.log import InteractionLog, distinct

INTERACTIONS_PER_BLOCK = 1 << 22  # whose exclusions are computed together, some 70 bytes each
USERS_PER_BLOCK = 4096  # whose negatives stay together in the cache of a core
LINEAR_SEARCH_ITEMS = 64  # of a history, compared with every draw; later ones are bisected


@dataclasses.dataclass(frozen=True)
class ExclusionIndex:
    """Sorted distinct items per user, each less its rank: the h_k - k of the module's docstring, in one flat array.

    Attributes:
      shifted: [J] int32.
      offsets: [N+1] into `shifted`; int32, unless there are more entries than that counts.
      num_items: V.
      search_steps: bisection steps that settle the longest history.
    """

    shifted: np.ndarray
    offsets: np.ndarray
    num_items: int
    search_steps: int


def exclusion_index(
    log: InteractionLog, start: np.ndarray, end: np.ndarray, low_rated: bool = False
) -> ExclusionIndex:
    """Index of each user's distinct items within `items[start:end]`.

    A user who has interacted with every item has no negative: callers leave such users out.

    Args:
      log: the interactions.
      start, end: [N] int64 places in `log.items`, the window of each user.
      low_rated: whether items that the user rated low are excluded too. Evaluation does so, because the user has had them; training does
        not, because rows below `min_rating` take no part in it.
    """
    counts, shifted = np.zeros(log.num_users, np.int64), [np.zeros(0, np.int32)]
    windows = [(log.items, start, end)]
    if low_rated:
        windows.append((log.low_rated_by_user[1], *log.low_rated_of(np.arange(log.num_users))))
    for block in _user_blocks(sum(last - first for _, first, last in windows)):
        own = [(flat, first[block], last[block]) for flat, first, last in windows]
        owners, items = _distinct_items(own, log.num_items)
        counts[block] = np.bincount(owners, minlength=block.stop - block.start)
        before = np.cumsum(counts[block]) - counts[block]
        ranks = np.arange(len(items)) - np.repeat(before, counts[block])
        shifted.append((items - ranks).astype(np.int32))
    offsets = np.zeros(log.num_users + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return ExclusionIndex(
        shifted=np.concatenate(shifted),
        offsets=offsets.astype(np.int32) if offsets[-1] < 1 << 31 else offsets,
        num_items=log.num_items,
        search_steps=int(counts.max()).bit_length(),
    )


def _user_blocks(lengths: np.ndarray) -> Iterator[slice]:
    """Blocks of users that have about `INTERACTIONS_PER_BLOCK` interactions together."""
    cuts = np.flatnonzero(np.diff(np.cumsum(lengths) // INTERACTIONS_PER_BLOCK)) + 1
    for begin, stop in itertools.pairwise([0, *cuts.tolist(), len(lengths)]):
        yield slice(begin, stop)


def _distinct_items(
    windows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], num_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places of windows and the different items in each, both ascending.

    Args:
      windows: flat items, and of each place where its window of them begins and ends. The windows of a place are taken together.
      num_items: V.
    """
    keys = [np.zeros(0, np.int64)]
    for flat, start, end in windows:
        lengths = end - start
        owners = np.repeat(np.arange(len(lengths)), lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        items = flat[np.repeat(start, lengths) + within].astype(np.int64)
        keys.append(owners * num_items + items)
    pairs = distinct(np.concatenate(keys))
    return pairs // num_items, pairs % num_items


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
        middle = low + (high - low) // 2  # the sum of two places can be above int32
        below = (low < high) & (shifted[middle] <= value)
        low, high = (
            jnp.where(below, middle + 1, low),
            jnp.where(below | (low >= high), high, middle),
        )
    return low - first


def draw_candidates(
    index: ExclusionIndex,
    users: np.ndarray,
    count: int,
    seed: int,
    positions: np.ndarray | None = None,
) -> np.ndarray:
    """Evaluation negatives: `count` *distinct* items per user, none from the user's history, by Floyd's sampling.

    Args:
      index: exclusions over the users' whole histories, targets and items that were rated low included.
      users: [n] all user rows that may need negatives, each with at least `count` items left. The negatives of each user depend on this
        list and the seed.
      count: negatives per user (the paper: 100).
      seed: with the data, decides the draw.
      positions: [m] places in `users` of the users that need negatives; None: all. For the others only the random numbers are drawn.

    Returns:
      [m, count] int32 item rows.

    Raises:
      ValueError: a user has fewer than `count` items left.
    """
    first, last = index.offsets[users], index.offsets[users + 1]
    available = index.num_items - (last - first).astype(np.int64)
    if len(users) and available.min() < count:  # runs leave out such users, and refuse if all are
        raise ValueError(
            f"a user has {available.min()} items left; expected {count}, the number of negatives"
        )
    rng = np.random.default_rng([seed, 0xE7A1])
    chosen = np.arange(len(users)) if positions is None else positions
    drawn = np.empty((count, len(chosen)), np.int32)
    for k in range(count):
        # For all users, because the position in the random stream decides a number.
        picks = rng.integers(0, available - count + k + 1)
        drawn[k] = picks if positions is None else picks[positions]
    first, last, tops = first[chosen], last[chosen], (available[chosen] - count).astype(np.int32)
    negatives = np.empty((len(chosen), count), np.int32)
    for begin in range(0, len(chosen), USERS_PER_BLOCK):
        block = slice(begin, begin + USERS_PER_BLOCK)
        ranks = _without_repeats(np.ascontiguousarray(drawn[:, block]), tops[block])
        negatives[block] = _unseen_items(index.shifted, first[block], last[block], ranks).T
    return negatives


def _without_repeats(picks: np.ndarray, tops: np.ndarray) -> np.ndarray:
    """Floyd's sampling without replacement from [count, n] draws; the k-th draw is from 0 .. top + k, and a repeated value is replaced by
    top + k, which is new.
    """
    for k in range(1, len(picks)):
        repeated = (picks[:k] == picks[k]).any(axis=0)
        picks[k] = np.where(repeated, tops + k, picks[k])
    return picks


def _unseen_items(
    shifted: np.ndarray, first: np.ndarray, last: np.ndarray, ranks: np.ndarray
) -> np.ndarray:
    """[count, n] the items with these ranks among the unseen items of each user, whose exclusions are `shifted[first:last]`."""
    items, lengths = ranks.copy(), last - first
    falling = np.argsort(-np.minimum(lengths, LINEAR_SEARCH_ITEMS), kind="stable")
    begin, own, above = first[falling], ranks[:, falling], np.zeros_like(ranks)
    num_longer = np.searchsorted(
        -np.minimum(lengths, LINEAR_SEARCH_ITEMS)[falling], -np.arange(LINEAR_SEARCH_ITEMS)
    )
    for k, longer in enumerate(num_longer.tolist()):  # users with a history of more than k items
        above[:, :longer] += shifted[begin[:longer] + k] <= own[:, :longer]
    items[:, falling] += above
    for user in np.flatnonzero(lengths > LINEAR_SEARCH_ITEMS).tolist():
        rest = shifted[first[user] + LINEAR_SEARCH_ITEMS : last[user]]
        items[:, user] += np.searchsorted(rest, ranks[:, user], side="right").astype(np.int32)
    return items
