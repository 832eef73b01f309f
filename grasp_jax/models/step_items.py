"""The item rows for which a training step computes vectors, and their order: the negatives, then the histories.

An item has the same vector as input of the sequence and as a target (same user, same item, same gate), so it is computed once for each
place of a history and used twice. Empty rows come last, so random draws that depend on the position of an id do not depend on the number
of empty rows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from grasp_jax.models.batch import Negatives, PackedBatch


class ItemParts(NamedTuple):
    """Values of the items of a step, [T, ...] in all.

    Attributes:
      negatives: values of the negatives, in the order of their array.
      history: values of the places of the histories, once, even if there are masked copies.
      replacements: values of the random items that replace some of these in the first masked copy, or None.
    """

    negatives: jax.Array
    history: jax.Array
    replacements: jax.Array | None


def rows_of_step(batch: PackedBatch, negatives: Negatives, bidirectional: bool) -> list[jax.Array]:
    """Flat item rows of the negatives and of the histories; with replacements, each item is followed by its replacement."""
    history = batch.items[: batch.items.shape[0] // (2 if bidirectional else 1)]
    if batch.replaced is not None:
        history = jnp.stack([history, jnp.maximum(batch.replaced, 0)], axis=-1)
    return [negatives.items.ravel(), history.ravel()]


def split_over_devices(parts: list[jax.Array], shares: int) -> jax.Array:
    """Flat arrays -> [n, m]: an n-th of each, concatenated, so that each of the n devices computes the values for its rows of the batch.

    Each array is filled up with zeros to a multiple of n; so m is at least T / n, for T entries of all arrays together.
    """
    padded = [jnp.pad(part, (0, -part.size % shares)) for part in parts]
    return jnp.concatenate([part.reshape(shares, -1) for part in padded], axis=1)


def split_step_items(values: jax.Array, batch: PackedBatch, negatives: Negatives) -> ItemParts:
    """Splits the values [n, m, ...] of the rows in `split_over_devices(rows_of_step(...))` into parts."""
    shares, shape, count = values.shape[0], values.shape[2:], negatives.items.size
    first = -(-count // shares)
    of_negatives, of_history = values[:, :first].reshape(-1, *shape)[:count], values[:, first:]
    if batch.replaced is None:
        return ItemParts(of_negatives, of_history.reshape(-1, *shape), None)
    pairs = of_history.reshape(-1, 2, *shape)
    return ItemParts(of_negatives, pairs[:, 0], pairs[:, 1])
