"""The three kernels of `packed_attention`: outputs and query gradients by blocks of queries, key and value gradients by blocks of keys.

There is a program for each (row, head, block of positions). Refs, inputs and then outputs, are [L, d] of its row and head, or its block
[BLOCK, d].
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from grasp_jax.kernels.attention_blocks import (
    BLOCK,
    BlockMask,
    Form,
    attended_by,
    gradient_of_keys,
    gradient_of_queries,
    positions_of,
)
from grasp_jax.kernels.counter_bits import hash_counters, keep_scale


def forward(form: Form, *refs: Any) -> None:
    """Attended values of a block of queries and, for softmax, the logarithms of their denominators."""
    seed, rate, queries, keys, values, begin, end, attended, *log_sums = refs
    mask = _block_mask(form, seed, rate, begin, end)
    total, log_sum = attended_by(form, mask, queries[...], keys, values)
    if form.normaliser == "softmax":
        log_sums[0][...] = log_sum
    attended[...] = total.astype(attended.dtype)


def query_gradient(form: Form, *refs: Any) -> None:
    """Gradient of a block of queries, from the keys that they see; `sums` are log sums and products if softmax."""
    seed, rate, queries, keys, values, d_attended, begin, end, *sums, d_queries = refs
    mask = _block_mask(form, seed, rate, begin, end)
    own_sums = [ref[...][:, None] for ref in sums]
    total = gradient_of_queries(form, mask, queries[...], d_attended[...], keys, values, own_sums)
    d_queries[...] = total.astype(d_queries.dtype)


def key_gradient(form: Form, *refs: Any) -> None:
    """Gradients of a block of keys and values, from the queries that see them."""
    seed, rate, queries, keys, values, d_attended, begin, end, *sums, d_keys, d_values = refs
    mask = _block_mask(form, seed, rate, begin, end)

    def sums_of(rows: Any) -> list[jax.Array]:
        return [ref[rows] for ref in sums]

    d_key, d_value = gradient_of_keys(
        form, mask, keys[...], values[...], queries, d_attended, sums_of
    )
    d_keys[...] = d_key.astype(d_keys.dtype)
    d_values[...] = d_value.astype(d_values.dtype)


def _block_mask(form: Form, seed: Any, rate: Any, begin: Any, end: Any) -> BlockMask:
    """The mask of a program (row, head, block of positions), in which each position sees the interval [begin, end) of its row."""
    first, last = begin[...], end[...]

    def visible(block: jax.Array) -> jax.Array:
        positions = positions_of(block)[None, :]
        inside: jax.Array = (positions >= first[:, None]) & (positions < last[:, None])
        return inside

    # Intervals of neighbouring positions overlap or adjoin, so no block between the first and the last one is read for nothing.
    blocks = jnp.min(first) // BLOCK, (jnp.max(last) + BLOCK - 1) // BLOCK
    dropout = _dropout(form, seed, rate)
    return BlockMask(positions_of(pl.program_id(2)), *blocks, visible, dropout)


def _dropout(form: Form, seed: Any, rate: Any) -> Any:
    """(query, key) -> factors of this row and head; None where nothing is dropped."""
    if not form.drops:
        return None
    row, head = pl.program_id(0), pl.program_id(1)
    word, own_rate = seed[0], rate[0]
    return lambda query, key: keep_scale(hash_counters(word, row, head, query, key), own_rate)
