"""Attention over packed rows by blocks of positions, within a kernel, and the attention mask.

A history is contiguous, so a block of positions attends to few blocks of its row, and nothing of size [L, L] is stored. The softmax is
computed in one pass over the keys, and its backward pass recomputes the weights (FlashAttention: Dao, 2023, arXiv 2307.08691). The sigmoid
form has no normaliser (Ramapuram et al., 2024, arXiv 2409.04431).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

BLOCK = 32  # positions: most histories lie in one or two blocks, and a matrix product needs at least 16 rows
_LOWEST = -1e30  # finite, as `training.losses.LOWEST`


class Form(NamedTuple):
    """Static settings of a kernel.

    Attributes:
      normaliser: "softmax", or "sigmoid", which only benchmarks use.
      drops: whether attention weights have dropout.
      scale: factor of q.k.
    """

    normaliser: str
    drops: bool
    scale: float


class BlockMask(NamedTuple):
    """The positions of a block, and the positions of its row that it attends to (or that attend to it).

    Attributes:
      positions: [BLOCK] positions of the block.
      begin, end: only the blocks [begin, end) have visible positions.
      visible: function from the number of another block to [BLOCK, BLOCK] bool, the attention mask of this block and that block.
      dropout: function of (query, key) positions that returns the factors of dropout, or None.
    """

    positions: jax.Array
    begin: jax.Array
    end: jax.Array
    visible: Callable[[jax.Array], jax.Array]
    dropout: Callable[[jax.Array, jax.Array], jax.Array] | None


def attention_mask(segments: jax.Array, causal: bool) -> jax.Array:
    """[R, L] segment ids -> [R, L, L] bool: whether query position q (axis 1) attends to key position k (axis 2).

    Empty positions (segment -1) attend only to themselves, so that no softmax is over an empty set.
    """
    length = segments.shape[1]
    allowed = segments[:, :, None] == segments[:, None, :]
    if causal:
        allowed &= jnp.tril(jnp.ones((length, length), bool))
    return (allowed & (segments >= 0)[:, :, None]) | jnp.eye(length, dtype=bool)


def attended_by(
    form: Form, mask: BlockMask, queries: jax.Array, keys: Any, values: Any
) -> tuple[jax.Array, jax.Array]:
    """The attended values of queries [BLOCK, d]: [BLOCK, d] float32, and for softmax the logarithms of the denominators [BLOCK].

    `keys` and `values` are [L, d] refs of the whole row; only the blocks that are visible to the queries are read.
    """

    def step(
        block: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        total, highest, summed = carry
        rows, key = pl.ds(block * BLOCK, BLOCK), positions_of(block)
        visible = mask.visible(block)
        scores = _product(queries, keys[rows, :]) * form.scale
        if form.normaliser == "softmax":
            new_highest = jnp.maximum(highest, jnp.max(jnp.where(visible, scores, _LOWEST), axis=1))
            weights = jnp.where(visible, jnp.exp(scores - new_highest[:, None]), 0.0)
            rescale = jnp.exp(highest - new_highest)
            total, highest, summed = (
                total * rescale[:, None],
                new_highest,
                summed * rescale + jnp.sum(weights, axis=1),
            )
        else:
            weights = jnp.where(visible, jax.nn.sigmoid(scores), 0.0)
        if mask.dropout is not None:
            weights *= mask.dropout(mask.positions[:, None], key[None, :])
        value = values[rows, :]
        return (
            total + jnp.dot(weights.astype(value.dtype), value, preferred_element_type=jnp.float32),
            highest,
            summed,
        )

    start = (jnp.zeros(queries.shape, jnp.float32), jnp.full(BLOCK, _LOWEST), jnp.zeros(BLOCK))
    total, highest, summed = jax.lax.fori_loop(mask.begin, mask.end, step, start)
    if form.normaliser == "softmax":
        total /= summed[:, None]
    return total, highest + jnp.log(summed)


def gradient_of_queries(
    form: Form,
    mask: BlockMask,
    queries: jax.Array,
    d_attended: jax.Array,
    keys: Any,
    values: Any,
    sums: list[jax.Array],
) -> jax.Array:
    """[BLOCK, d] float32 gradient of a block of queries, from that of their attended values; `sums` are [BLOCK, 1]."""

    def step(block: jax.Array, total: jax.Array) -> jax.Array:
        rows, key = pl.ds(block * BLOCK, BLOCK), positions_of(block)
        key_block = keys[rows, :]
        scores = _product(queries, key_block) * form.scale
        weights = _weights(form, scores, mask.visible(block), sums)
        d_weights = _product(d_attended, values[rows, :])
        if mask.dropout is not None:
            d_weights *= mask.dropout(mask.positions[:, None], key[None, :])
        d_scores = _score_gradient(form, weights, d_weights, sums)
        return total + jnp.dot(
            d_scores.astype(key_block.dtype), key_block, preferred_element_type=jnp.float32
        )

    start = jnp.zeros(queries.shape, jnp.float32)
    total: jax.Array = jax.lax.fori_loop(mask.begin, mask.end, step, start)
    return total * form.scale


def gradient_of_keys(
    form: Form,
    mask: BlockMask,
    keys: jax.Array,
    values: jax.Array,
    queries: Any,
    d_attended: Any,
    sums_of: Callable[[Any], list[jax.Array]],
) -> tuple[jax.Array, jax.Array]:
    """[BLOCK, d] float32 gradients of a block of keys and of its values; weights are [keys, queries] here.

    `queries` and `d_attended` are [L, d] refs of the whole row, and `sums_of` returns the log sums and products of some of its positions.
    """

    def step(block: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        d_key, d_value = carry
        rows, query = pl.ds(block * BLOCK, BLOCK), positions_of(block)
        query_block, d_block = queries[rows, :], d_attended[rows, :]
        sums = [x[None, :] for x in sums_of(rows)]
        scores = _product(keys, query_block) * form.scale
        weights = _weights(form, scores, mask.visible(block), sums)
        dropped, d_weights = weights, _product(values, d_block)
        if mask.dropout is not None:
            scale = mask.dropout(query[None, :], mask.positions[:, None])
            dropped, d_weights = weights * scale, d_weights * scale
        d_scores = _score_gradient(form, weights, d_weights, sums)
        d_value += jnp.dot(
            dropped.astype(d_block.dtype), d_block, preferred_element_type=jnp.float32
        )
        d_key += jnp.dot(
            d_scores.astype(query_block.dtype), query_block, preferred_element_type=jnp.float32
        )
        return d_key, d_value

    start = (jnp.zeros(keys.shape, jnp.float32), jnp.zeros(values.shape, jnp.float32))
    d_key, d_value = jax.lax.fori_loop(mask.begin, mask.end, step, start)
    return d_key * form.scale, d_value


def positions_of(block: jax.Array) -> jax.Array:
    """[BLOCK] int32 positions in the row."""
    return block * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """[Q, d] and [K, d] -> [Q, K]."""
    return jnp.dot(left, right.T, preferred_element_type=jnp.float32)


def _weights(form: Form, scores: jax.Array, visible: jax.Array, sums: list[jax.Array]) -> jax.Array:
    """The weights before dropout; for softmax from saved log sums."""
    if form.normaliser == "softmax":
        return jnp.where(visible, jnp.exp(scores - sums[0]), 0.0)
    return jnp.where(visible, jax.nn.sigmoid(scores), 0.0)


def _score_gradient(
    form: Form, weights: jax.Array, d_weights: jax.Array, sums: list[jax.Array]
) -> jax.Array:
    if form.normaliser == "softmax":
        return weights * (d_weights - sums[1])
    return weights * (1.0 - weights) * d_weights
