"""Attention over packed rows as kernels of its own: several users' histories end to end, each looking at itself alone.

On an H200 it was 0.8 to 0.9 times as fast as XLA's form (attention-gpu.json), so the package does not use it.

A history is contiguous, so what a position may see is an interval of its row, and almost all of the row's [L, L] weights are zero.
The kernels walk over the blocks of keys that the intervals of a block of queries touch, and no others; nothing of size [L, L] is stored.
The softmax is computed in one pass over the keys and its backward pass recomputes the weights (FlashAttention: Dao, 2023,
arXiv 2307.08691). The sigmoid form has no normaliser (Ramapuram et al., 2024, arXiv 2409.04431).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from benchmarks.kernels import packed_attention_kernels as kernels
from grasp_jax.kernels import backend
from grasp_jax.kernels.attention_blocks import BLOCK, Form, attention_mask
from grasp_jax.kernels.counter_bits import SeededDropout, as_words, hash_counters, keep_scale

NORMALISERS = ("softmax", "sigmoid")
NUM_WARPS, NUM_STAGES = 4, 2


class AttentionForm(NamedTuple):
    """What attention computes.

    Attributes:
      causal: whether a position sees only itself and what is before it.
      normaliser: "softmax" of q.k / sqrt(d) over the keys seen, or "sigmoid" of each, not normalised.
      dropout: of weights, or None.
    """

    causal: bool
    normaliser: str = "softmax"
    dropout: SeededDropout | None = None


class Intervals(NamedTuple):
    """What may see what, as intervals of a row; each [R, L] int32.

    Attributes:
      begin, end: the query at a position sees the keys in [begin, end).
      seen_begin, seen_end: the key at a position is seen by the queries in [seen_begin, seen_end).
    """

    begin: jax.Array
    end: jax.Array
    seen_begin: jax.Array
    seen_end: jax.Array


class Given(NamedTuple):
    """What the kernels read.

    Attributes:
      queries, keys, values: [R, L, n, d], L a multiple of BLOCK, d a power of two.
      intervals: what may see what.
      seed: [1] uint32 of the dropout.
      rate: [1] float32.
    """

    queries: jax.Array
    keys: jax.Array
    values: jax.Array
    intervals: Intervals
    seed: jax.Array
    rate: jax.Array


def packed_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    segments: jax.Array,
    form: AttentionForm,
) -> jax.Array:
    """Attention within each segment, by kernels forward and backward.

    Args:
      queries, keys, values: [R, L, n, d] of n heads, all float32 or all bfloat16.
      segments: [R, L] int32; equal values side by side are one user, -1 is empty. An empty position sees itself alone.
      form: what is computed.

    Returns:
      [R, L, n, d] in the type of the inputs; sums are float32.

    Raises:
      ValueError: an unknown normaliser, or types that differ.
    """
    _check(queries, keys, values, form)
    length, width = queries.shape[1], queries.shape[3]
    long, wide = -(-length // BLOCK) * BLOCK, max(16, pl.next_power_of_2(width))
    queries, keys, values = (
        jnp.pad(given, ((0, 0), (0, long - length), (0, 0), (0, wide - width)))
        for given in (queries, keys, values)
    )
    padded = jnp.pad(segments, ((0, 0), (0, long - length)), constant_values=-1)
    given = Given(queries, keys, values, visible(padded, form.causal), *as_words(form.dropout))
    of_kernels = Form(form.normaliser, form.dropout is not None, width**-0.5)
    return _attend(of_kernels, given)[:, :length, :, :width]


def packed_attention_reference(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    segments: jax.Array,
    form: AttentionForm,
) -> jax.Array:
    """What `packed_attention` computes, with all weights [R, n, L, L] written out."""
    _check(queries, keys, values, form)
    rows, length, heads, width = queries.shape
    allowed = attention_mask(segments, form.causal)[:, None]
    scores = (
        jnp.einsum("rqnd,rknd->rnqk", queries, keys, preferred_element_type=jnp.float32)
        * width**-0.5
    )
    if form.normaliser == "softmax":
        weights = jax.nn.softmax(jnp.where(allowed, scores, -jnp.inf), axis=-1)
    else:
        weights = jnp.where(allowed, jax.nn.sigmoid(scores), 0.0)
    if form.dropout is not None:
        row, head, query, key = (
            jnp.arange(size).reshape(shape)
            for size, shape in (
                (rows, (-1, 1, 1, 1)),
                (heads, (-1, 1, 1)),
                (length, (-1, 1)),
                (length, (1, -1)),
            )
        )
        rate, seed = form.dropout
        bits = hash_counters(seed, row, head, query, key)
        weights *= keep_scale(bits, jax.lax.stop_gradient(rate))
    return jnp.einsum("rnqk,rknd->rqnd", weights.astype(values.dtype), values)


def visible(segments: jax.Array, causal: bool) -> Intervals:
    """The intervals of segments [R, L]."""
    rows, length = segments.shape
    place = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (rows, length))
    changes = segments[:, 1:] != segments[:, :-1]
    edge = jnp.ones((rows, 1), bool)
    empty = segments < 0
    first = jnp.concatenate([edge, changes], axis=1) | empty
    last = jnp.concatenate([changes, edge], axis=1) | empty
    start = jax.lax.cummax(jnp.where(first, place, 0), axis=1)
    stop = jax.lax.cummin(jnp.where(last, place + 1, length), axis=1, reverse=True)
    return (
        Intervals(start, place + 1, place, stop) if causal else Intervals(start, stop, start, stop)
    )


def _check(queries: jax.Array, keys: jax.Array, values: jax.Array, form: AttentionForm) -> None:
    if form.normaliser not in NORMALISERS:
        raise ValueError(f"normaliser {form.normaliser!r} is not one of {', '.join(NORMALISERS)}")
    if not queries.dtype == keys.dtype == values.dtype:
        raise ValueError(
            f"queries, keys and values differ in type: {queries.dtype}, {keys.dtype}, {values.dtype}"
        )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(form: Form, given: Given) -> jax.Array:
    """`packed_attention` of padded arrays."""
    return _forward(form, given)[0]


def _forward(form: Form, given: Given) -> tuple[jax.Array, Any]:
    queries, keys, values, intervals, seed, rate = given
    rows, length, heads, _ = queries.shape
    specs = _Specs.of(queries.shape)
    shapes, outputs = [jax.ShapeDtypeStruct(queries.shape, values.dtype)], [specs.own]
    if form.normaliser == "softmax":
        shapes.append(jax.ShapeDtypeStruct((rows, heads, length), jnp.float32))
        outputs.append(specs.own_sums)
    inputs = [
        specs.scalar,
        specs.scalar,
        specs.own,
        specs.whole,
        specs.whole,
        specs.own_places,
        specs.own_places,
    ]
    attended, *log_sums = _call(kernels.forward, form, queries.shape, inputs, outputs, shapes)(
        seed, rate, queries, keys, values, intervals.begin, intervals.end
    )
    return attended, (given, attended, log_sums)


def _backward(form: Form, saved: Any, d_attended: jax.Array) -> tuple[Any, ...]:
    given, attended, log_sums = saved
    queries, keys, values, intervals, seed, rate = given
    specs = _Specs.of(queries.shape)
    sums = []
    if form.normaliser == "softmax":
        # The sum over keys of weight times its gradient; dropout is on both sides of it and needs no second drawing.
        products = jnp.einsum(
            "rqnd,rqnd->rnq", attended, d_attended, preferred_element_type=jnp.float32
        )
        sums = [*log_sums, products]
    places = [specs.own_places, specs.own_places]
    d_queries = _call(
        kernels.query_gradient,
        form,
        queries.shape,
        [
            specs.scalar,
            specs.scalar,
            specs.own,
            specs.whole,
            specs.whole,
            specs.own,
            *places,
            *[specs.own_sums] * len(sums),
        ],
        [specs.own],
        [jax.ShapeDtypeStruct(queries.shape, queries.dtype)],
    )(seed, rate, queries, keys, values, d_attended, intervals.begin, intervals.end, *sums)
    d_keys, d_values = _call(
        kernels.key_gradient,
        form,
        queries.shape,
        [
            specs.scalar,
            specs.scalar,
            specs.whole,
            specs.own,
            specs.own,
            specs.whole,
            *places,
            *[specs.whole_sums] * len(sums),
        ],
        [specs.own, specs.own],
        [jax.ShapeDtypeStruct(given.shape, given.dtype) for given in (keys, values)],
    )(
        seed,
        rate,
        queries,
        keys,
        values,
        d_attended,
        intervals.seen_begin,
        intervals.seen_end,
        *sums,
    )
    none: Any = None  # no gradient
    return (Given(d_queries[0], d_keys, d_values, none, none, none),)


_attend.defvjp(_forward, _backward)


class _Specs(NamedTuple):
    """Which part of an array a kernel's cell (row, head, block of positions) is given."""

    own: pl.BlockSpec
    whole: pl.BlockSpec
    own_places: pl.BlockSpec
    own_sums: pl.BlockSpec
    whole_sums: pl.BlockSpec
    scalar: pl.BlockSpec

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> "_Specs":
        _, length, _, width = shape
        return cls(
            own=pl.BlockSpec(
                (None, BLOCK, None, width), lambda row, head, block: (row, block, head, 0)
            ),
            whole=pl.BlockSpec(
                (None, length, None, width), lambda row, head, block: (row, 0, head, 0)
            ),
            own_places=pl.BlockSpec((None, BLOCK), lambda row, head, block: (row, block)),
            own_sums=pl.BlockSpec((None, None, BLOCK), lambda row, head, block: (row, head, block)),
            whole_sums=pl.BlockSpec((None, None, length), lambda row, head, block: (row, head, 0)),
            scalar=pl.BlockSpec((1,), lambda row, head, block: (0,)),
        )


def _call(
    kernel: Callable[..., None],
    form: Form,
    shape: tuple[int, ...],
    inputs: Any,
    outputs: Any,
    shapes: Any,
) -> Callable[..., Any]:
    """The kernel over all rows, heads and blocks of positions."""
    rows, length, heads, _ = shape
    return pl.pallas_call(
        functools.partial(kernel, form),
        grid=(rows, heads, length // BLOCK),
        in_specs=inputs,
        out_specs=outputs,
        out_shape=shapes,
        compiler_params=backend.compiler_params(NUM_WARPS, NUM_STAGES),
        interpret=backend.interpret(),
        name=f"packed_attention_{kernel.__name__}",
    )
