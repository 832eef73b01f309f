"""The three kernels of `packed_attention`: outputs and query gradients by blocks of queries, key and value gradients by blocks of keys.

Each cell of the grid is (row, head, block of positions). Refs, inputs and then outputs, are [L, d] of its row and head, or the cell's own
[BLOCK, d].
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from grasp_jax.kernels.counter_bits import hash_counters, keep_scale

BLOCK = 32  # positions: most histories lie in one or two blocks, and a matrix product needs at least 16 rows
_LOWEST = -1e30  # finite: the difference of two of them is zero, not NaN


class Form(NamedTuple):
    """What is fixed when a kernel is traced.

    Attributes:
      normaliser: "softmax" or "sigmoid".
      drops: whether weights are dropped.
      scale: of q.k.
    """

    normaliser: str
    drops: bool
    scale: float


def forward(form: Form, *refs: Any) -> None:
    """Attended values of a block of queries and, for softmax, the logarithms of their denominators."""
    seed, rate, queries, keys, values, begin, end, attended, *log_sums = refs
    first, last = begin[...], end[...]
    own = queries[...]
    draw = _dropout(form, seed, rate)
    query = _places(pl.program_id(2))

    def step(
        block: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        total, highest, summed = carry
        stretch, key = pl.ds(block * BLOCK, BLOCK), _places(block)
        seen = (key[None, :] >= first[:, None]) & (key[None, :] < last[:, None])
        scores = _product(own, keys[stretch, :]) * form.scale
        if form.normaliser == "softmax":
            higher = jnp.maximum(highest, jnp.max(jnp.where(seen, scores, _LOWEST), axis=1))
            weights = jnp.where(seen, jnp.exp(scores - higher[:, None]), 0.0)
            shrunk = jnp.exp(highest - higher)
            total, highest, summed = (
                total * shrunk[:, None],
                higher,
                summed * shrunk + jnp.sum(weights, axis=1),
            )
        else:
            weights = jnp.where(seen, jax.nn.sigmoid(scores), 0.0)
        if draw is not None:
            weights *= draw(query[:, None], key[None, :])
        other = values[stretch, :]
        return (
            total + jnp.dot(weights.astype(other.dtype), other, preferred_element_type=jnp.float32),
            highest,
            summed,
        )

    start = (jnp.zeros(own.shape, jnp.float32), jnp.full(BLOCK, _LOWEST), jnp.zeros(BLOCK))
    total, highest, summed = jax.lax.fori_loop(*_blocks(first, last), step, start)
    if form.normaliser == "softmax":
        total /= summed[:, None]
        log_sums[0][...] = highest + jnp.log(summed)
    attended[...] = total.astype(attended.dtype)


def query_gradient(form: Form, *refs: Any) -> None:
    """Gradient of a block of queries, from the keys that they see; `sums` are log sums and products if softmax."""
    seed, rate, queries, keys, values, d_attended, begin, end, *sums, d_queries = refs
    first, last = begin[...], end[...]
    own, d_own = queries[...], d_attended[...]
    own_sums = [ref[...][:, None] for ref in sums]
    draw = _dropout(form, seed, rate)
    query = _places(pl.program_id(2))

    def step(block: jax.Array, total: jax.Array) -> jax.Array:
        stretch, key = pl.ds(block * BLOCK, BLOCK), _places(block)
        other = keys[stretch, :]
        seen = (key[None, :] >= first[:, None]) & (key[None, :] < last[:, None])
        weights = _weights(form, _product(own, other) * form.scale, seen, own_sums)
        d_weights = _product(d_own, values[stretch, :])
        if draw is not None:
            d_weights *= draw(query[:, None], key[None, :])
        d_scores = _score_gradient(form, weights, d_weights, own_sums)
        return total + jnp.dot(
            d_scores.astype(other.dtype), other, preferred_element_type=jnp.float32
        )

    total = jax.lax.fori_loop(*_blocks(first, last), step, jnp.zeros(own.shape, jnp.float32))
    d_queries[...] = (total * form.scale).astype(d_queries.dtype)


def key_gradient(form: Form, *refs: Any) -> None:
    """Gradients of a block of keys and values, from the queries that see them: weights are [keys, queries] here, else as above."""
    seed, rate, queries, keys, values, d_attended, begin, end, *sums, d_keys, d_values = refs
    first, last = begin[...], end[...]
    own_key, own_value = keys[...], values[...]
    draw = _dropout(form, seed, rate)
    key = _places(pl.program_id(2))

    def step(block: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        d_key, d_value = carry
        stretch, query = pl.ds(block * BLOCK, BLOCK), _places(block)
        other, d_other = queries[stretch, :], d_attended[stretch, :]
        other_sums = [ref[stretch][None, :] for ref in sums]
        seen = (query[None, :] >= first[:, None]) & (query[None, :] < last[:, None])
        weights = _weights(form, _product(own_key, other) * form.scale, seen, other_sums)
        kept, d_weights = weights, _product(own_value, d_other)
        if draw is not None:
            scale = draw(query[None, :], key[:, None])
            kept, d_weights = weights * scale, d_weights * scale
        d_scores = _score_gradient(form, weights, d_weights, other_sums)
        d_value += jnp.dot(kept.astype(d_other.dtype), d_other, preferred_element_type=jnp.float32)
        d_key += jnp.dot(d_scores.astype(other.dtype), other, preferred_element_type=jnp.float32)
        return d_key, d_value

    start = (jnp.zeros(own_key.shape, jnp.float32), jnp.zeros(own_value.shape, jnp.float32))
    d_key, d_value = jax.lax.fori_loop(*_blocks(first, last), step, start)
    d_keys[...] = (d_key * form.scale).astype(d_keys.dtype)
    d_values[...] = d_value.astype(d_values.dtype)


def _places(block: jax.Array) -> jax.Array:
    return block * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)


def _blocks(first: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The blocks that intervals [first, last) of neighbours touch. Those lie side by side, so none in between is left out or in vain."""
    return jnp.min(first) // BLOCK, (jnp.max(last) + BLOCK - 1) // BLOCK


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """[Q, d] and [K, d] -> [Q, K]."""
    return jnp.dot(left, right.T, preferred_element_type=jnp.float32)


def _weights(form: Form, scores: jax.Array, seen: jax.Array, sums: list[jax.Array]) -> jax.Array:
    """The weights before dropout, from saved log sums if softmax."""
    if form.normaliser == "softmax":
        return jnp.where(seen, jnp.exp(scores - sums[0]), 0.0)
    return jnp.where(seen, jax.nn.sigmoid(scores), 0.0)


def _score_gradient(
    form: Form, weights: jax.Array, d_weights: jax.Array, sums: list[jax.Array]
) -> jax.Array:
    if form.normaliser == "softmax":
        return weights * (d_weights - sums[1])
    return weights * (1.0 - weights) * d_weights


def _dropout(form: Form, seed: Any, rate: Any) -> Any:
    """(query, key) -> factors of this row and head; None where nothing is dropped."""
    if not form.drops:
        return None
    row, head = pl.program_id(0), pl.program_id(1)
    word, own_rate = seed[0], rate[0]
    return lambda query, key: keep_scale(hash_counters(word, row, head, query, key), own_rate)
