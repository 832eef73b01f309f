"""Which item rows a training step computes vectors of, and in which order: the negatives, then the histories.

An item's vector as input of the sequence and as a target is one and the same (same user, same item, same gate), so each place of a
history is computed once and read twice. Empty rows come last, so that no draw that goes by an id's place changes with their number.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from grasp_jax.models.batch import Negatives, PackedBatch


class ItemParts(NamedTuple):
    """The items of a step: their rows [T], or a value for each, [T, ...].

    Attributes:
      negatives: the negatives, in the order of their array.
      history: the places of the histories, once, even if there are masked copies.
      shown: the items that are shown in place of these, or None.
    """

    negatives: jax.Array
    history: jax.Array
    shown: jax.Array | None


def rows_of_step(batch: PackedBatch, negatives: Negatives, bidirectional: bool) -> list[jax.Array]:
    """Flat item rows of the negatives and of the histories; an item that is shown in place of another follows it."""
    history = batch.items[: batch.items.shape[0] // (2 if bidirectional else 1)]
    if batch.replaced is not None:
        history = jnp.stack([history, jnp.maximum(batch.replaced, 0)], axis=-1)
    return [negatives.items.ravel(), history.ravel()]


def in_shares(parts: list[jax.Array], shares: int) -> jax.Array:
    """Flat lists -> [n, K]: an n-th of each, concatenated, so that each device computes the values for its rows of the batch."""
    filled = [jnp.pad(part, (0, -part.size % shares)) for part in parts]
    return jnp.concatenate([part.reshape(shares, -1) for part in filled], axis=1)


def parts_of(of_rows: jax.Array, batch: PackedBatch, negatives: Negatives) -> ItemParts:
    """Splits the values [n, K, ...] of `in_shares(rows_of_step(...))` again."""
    shares, rest, count = of_rows.shape[0], of_rows.shape[2:], negatives.items.size
    first = -(-count // shares)
    of_negatives, of_history = of_rows[:, :first].reshape(-1, *rest)[:count], of_rows[:, first:]
    if batch.replaced is None:
        return ItemParts(of_negatives, of_history.reshape(-1, *rest), None)
    pairs = of_history.reshape(-1, 2, *rest)
    return ItemParts(of_negatives, pairs[:, 0], pairs[:, 1])
