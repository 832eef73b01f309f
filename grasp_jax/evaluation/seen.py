"""The items that users have seen, as pairs that mask a block of scores."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.core.padding import next_power_of_two
from grasp_jax.data.log import InteractionLog, distinct
from grasp_jax.data.split import Histories

AT_ONCE = 1 << 22  # interactions whose pairs are sorted together, some 150 bytes each


def seen_pairs(log: InteractionLog, histories: Histories, batches: np.ndarray) -> np.ndarray:
    """The items that each user had before the target or rated low, block by block.

    Args:
      log: the interactions.
      histories: the part of each history before the target.
      batches: [S, B] user rows, -1 for none.

    Returns:
      [S, J, 2] int32 distinct pairs (row within the block, item), padded with -1.
    """
    groups = [_seen_in(log, histories, group) for group in _groups(log, histories, batches)]
    num_pairs = max((group.shape[1] for group in groups), default=1)
    seen = np.full((len(batches), num_pairs, 2), -1, np.int32)
    begin = 0
    for group in groups:
        seen[begin : begin + len(group), : group.shape[1]] = group
        begin += len(group)
    return seen


def _groups(log: InteractionLog, histories: Histories, batches: np.ndarray) -> Iterator[np.ndarray]:
    """Groups of blocks whose users have about `AT_ONCE` interactions together."""
    lengths = np.where(batches >= 0, (histories.end - log.offsets[:-1])[batches], 0)
    group = np.cumsum(lengths.sum(axis=1)) // AT_ONCE
    yield from np.split(batches, np.flatnonzero(np.diff(group)) + 1)


def _seen_in(log: InteractionLog, histories: Histories, batches: np.ndarray) -> np.ndarray:
    """`seen_pairs` of some blocks."""
    steps, rows = np.nonzero(batches >= 0)
    owners, items = _seen(log, histories, batches[steps, rows])
    return pairs_of_blocks(batches.shape[0], steps[owners], rows[owners], items)


def pairs_of_blocks(
    num_blocks: int, blocks: np.ndarray, rows: np.ndarray, items: np.ndarray
) -> np.ndarray:
    """[J'] blocks in ascending order, rows within them and items -> [S, J, 2] int32 (row, item), padded with -1."""
    counts = np.bincount(blocks, minlength=num_blocks)
    padded = np.full((num_blocks, max(1, int(counts.max(initial=0))), 2), -1, np.int32)
    within_block = np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded[blocks, within_block] = np.stack([rows, items], axis=1)
    return padded


def lists_of_pairs(pairs: np.ndarray, num_users: int, max_items: int) -> np.ndarray | None:
    """The items that each user of a block has seen, one row for each user.

    Args:
      pairs: [J, 2] int32 (row within the block, item) of `seen_pairs`, -1 for none.
      num_users: B.
      max_items: largest number of items of a user.

    Returns:
      [B, n] int32 items, -1 for none; n is a power of two, so that few shapes are compiled. None if a user has more than `max_items`.
    """
    pairs = pairs[pairs[:, 1] >= 0]
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    if np.bincount(pairs[:, 0], minlength=1).max() > max_items:
        return None
    lists: np.ndarray = pairs_of_blocks(num_users, *pairs[:, [0, 0, 1]].T)[:, :, 1]
    size = lists.shape[1]
    return np.pad(lists, ((0, 0), (0, next_power_of_two(size) - size)), constant_values=-1)


def _seen(
    log: InteractionLog, histories: Histories, users: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The items that users have seen or rated low, without targets that were rated low: position in `users` (ascending), and item."""
    owners, flat = _ranges(log.offsets[users], histories.end[users])
    keys = owners * log.num_items + log.items[flat]
    if log.low_rated is not None and len(log.low_rated):
        owners, flat = _ranges(*log.low_rated_of(users))
        low = log.low_rated_by_user[1][flat].astype(np.int64)
        is_other = low != histories.target[users[owners]]
        keys = np.concatenate([keys, (owners * log.num_items + low)[is_other]])
    keys = distinct(keys)
    return keys // log.num_items, keys % log.num_items


def _ranges(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers `begin[k] .. end[k]` of all k, concatenated, and as the first result the k of each."""
    lengths = np.asarray(end - begin, np.int64)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    first = np.repeat(begin, lengths)
    return owners, np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + first


def seen_in_block(seen: jax.Array, num_users: int, first: jax.Array, size: int) -> jax.Array:
    """[J, 2] pairs of `seen_pairs` -> [B, size] bool, the seen items among `first .. first + size`."""
    inside = (seen[:, 1] >= first) & (seen[:, 1] < first + size)
    column = jnp.where(inside, seen[:, 1] - first, size)  # out of range, so it is dropped
    return jnp.zeros((num_users, size), bool).at[seen[:, 0], column].set(True, mode="drop")
