"""Attention over packed rows by blocks of positions, within a kernel, and which positions may see each other.

A history is contiguous, so a block of positions meets few blocks of its row, and nothing of size [L, L] is stored. The softmax is computed
in one pass over the keys, and its backward pass recomputes the weights (FlashAttention: Dao, 2023, arXiv 2307.08691). The sigmoid form has
no normaliser (Ramapuram et al., 2024, arXiv 2409.04431).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

BLOCK = 32  # positions: most histories lie in one or two blocks, and a matrix product needs at least 16 rows
_LOWEST = -1e30  # finite: the difference of two of them is zero, not NaN


class Form(NamedTuple):
    """What is fixed when a kernel is traced.

    Attributes:
      normaliser: "softmax", or "sigmoid", which benchmarks alone use.
      drops: whether weights are dropped.
      scale: of q.k.
    """

    normaliser: str
    drops: bool
    scale: float


class Place(NamedTuple):
    """Where a block of positions lies, and what of its row it meets.

    Attributes:
      places: [BLOCK] its positions.
      begin, end: the blocks [begin, end) hold all that it meets.
      met: number of a block -> [BLOCK, BLOCK] bool, whether each position of this block meets each of that.
      draw: (query, key) -> factors of dropout, or None.
    """

    places: jax.Array
    begin: jax.Array
    end: jax.Array
    met: Callable[[jax.Array], jax.Array]
    draw: Callable[[jax.Array, jax.Array], jax.Array] | None


def attention_mask(segments: jax.Array, causal: bool) -> jax.Array:
    """[R, L] segment ids -> [R, L, L] bool: may position q (axis 1) look at position k (axis 2)?

    Empty positions (segment -1) look at themselves alone, so that no softmax runs over nothing.
    """
    length = segments.shape[1]
    allowed = segments[:, :, None] == segments[:, None, :]
    if causal:
        allowed &= jnp.tril(jnp.ones((length, length), bool))
    return (allowed & (segments >= 0)[:, :, None]) | jnp.eye(length, dtype=bool)


def attended_by(
    form: Form, place: Place, own: jax.Array, keys: Any, values: Any
) -> tuple[jax.Array, jax.Array]:
    """What queries [BLOCK, d] attend to: [BLOCK, d] float32, and for softmax the logarithms of the denominators [BLOCK].

    `keys` and `values` are [L, d] refs of the whole row; only the blocks that the queries may see are read.
    """

    def step(
        block: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        total, highest, summed = carry
        stretch, key = pl.ds(block * BLOCK, BLOCK), positions_of(block)
        seen = place.met(block)
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
        if place.draw is not None:
            weights *= place.draw(place.places[:, None], key[None, :])
        other = values[stretch, :]
        return (
            total + jnp.dot(weights.astype(other.dtype), other, preferred_element_type=jnp.float32),
            highest,
            summed,
        )

    start = (jnp.zeros(own.shape, jnp.float32), jnp.full(BLOCK, _LOWEST), jnp.zeros(BLOCK))
    total, highest, summed = jax.lax.fori_loop(place.begin, place.end, step, start)
    if form.normaliser == "softmax":
        total /= summed[:, None]
    return total, highest + jnp.log(summed)


def gradient_of_queries(
    form: Form,
    place: Place,
    own: jax.Array,
    d_own: jax.Array,
    keys: Any,
    values: Any,
    sums: list[jax.Array],
) -> jax.Array:
    """[BLOCK, d] float32 of queries `own`, whose attended values have the gradient `d_own`; `sums` are [BLOCK, 1]."""

    def step(block: jax.Array, total: jax.Array) -> jax.Array:
        stretch, key = pl.ds(block * BLOCK, BLOCK), positions_of(block)
        other = keys[stretch, :]
        weights = _weights(form, _product(own, other) * form.scale, place.met(block), sums)
        d_weights = _product(d_own, values[stretch, :])
        if place.draw is not None:
            d_weights *= place.draw(place.places[:, None], key[None, :])
        d_scores = _score_gradient(form, weights, d_weights, sums)
        return total + jnp.dot(
            d_scores.astype(other.dtype), other, preferred_element_type=jnp.float32
        )

    start = jnp.zeros(own.shape, jnp.float32)
    total: jax.Array = jax.lax.fori_loop(place.begin, place.end, step, start)
    return total * form.scale


def gradient_of_keys(
    form: Form,
    place: Place,
    own_key: jax.Array,
    own_value: jax.Array,
    queries: Any,
    d_attended: Any,
    sums_of: Callable[[Any], list[jax.Array]],
) -> tuple[jax.Array, jax.Array]:
    """[BLOCK, d] float32 each, of keys and values; weights are [keys, queries] here.

    `queries` and `d_attended` are [L, d] refs of the whole row, and `sums_of` gives the log sums and products of a stretch of it.
    """

    def step(block: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        d_key, d_value = carry
        stretch, query = pl.ds(block * BLOCK, BLOCK), positions_of(block)
        other, d_other = queries[stretch, :], d_attended[stretch, :]
        other_sums = [given[None, :] for given in sums_of(stretch)]
        scores = _product(own_key, other) * form.scale
        weights = _weights(form, scores, place.met(block), other_sums)
        kept, d_weights = weights, _product(own_value, d_other)
        if place.draw is not None:
            scale = place.draw(query[None, :], place.places[:, None])
            kept, d_weights = weights * scale, d_weights * scale
        d_scores = _score_gradient(form, weights, d_weights, other_sums)
        d_value += jnp.dot(kept.astype(d_other.dtype), d_other, preferred_element_type=jnp.float32)
        d_key += jnp.dot(d_scores.astype(other.dtype), other, preferred_element_type=jnp.float32)
        return d_key, d_value

    start = (jnp.zeros(own_key.shape, jnp.float32), jnp.zeros(own_value.shape, jnp.float32))
    d_key, d_value = jax.lax.fori_loop(place.begin, place.end, step, start)
    return d_key * form.scale, d_value


def positions_of(block: jax.Array) -> jax.Array:
    """[BLOCK] int32 positions in the row."""
    return block * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)


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
