"""The four kernels of a layer of SASRec, each with a program for each (row, block of positions); `sasrec_layer` calls them.

The computations before attention (`project`) and after it (`finish`) are independent for each position. So these halves are functions of a
block, and autodiff within the kernel computes their gradients. A head is a range of the D columns. Because a kernel cannot slice a value,
the queries and keys of a head have all D columns, and those of other heads are zero.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from grasp_jax.kernels import attention_blocks as attention
from grasp_jax.kernels.attention_blocks import BLOCK
from grasp_jax.kernels.counter_bits import hash_counters, keep_scale

EPSILON = 1e-8  # of layer normalisation
INPUT, ATTENTION, HIDDEN, OUTPUT = range(4)  # sites of dropout, counters of its bits
# numbers of matrices and of vectors in an array with the parameters of half a layer
MATRICES, VECTORS = 3, 8

Keep = Callable[[int], Any]  # function from a site of dropout to its factors [T, D], or 1


class Project(NamedTuple):
    """Parameters of the half before attention: [D, D] matrices, then [D] vectors."""

    query: Any
    key: Any
    value: Any
    query_bias: Any
    key_bias: Any
    value_bias: Any
    scale: Any
    offset: Any


class Finish(NamedTuple):
    """Parameters of the half after attention: [D, D] matrices, then [D] vectors; the last two belong to the norm after all layers."""

    out: Any
    first: Any
    second: Any
    out_bias: Any
    first_bias: Any
    second_bias: Any
    scale: Any
    offset: Any
    last_scale: Any
    last_offset: Any


class LayerForm(NamedTuple):
    """Static settings of a kernel.

    Attributes:
      layer: number of the layer, a counter of the bits of dropout.
      heads: n.
      causal: whether a position attends only to itself and to earlier positions.
      drops: whether there is dropout.
      drops_input: whether the layer's input has dropout.
      last: whether the layer's output is normalised.
    """

    layer: int
    heads: int
    causal: bool
    drops: bool
    drops_input: bool
    last: bool


def pack(half: Project | Finish) -> jax.Array:
    """[3D + 8, D] the matrices, the vectors, and zeros. A kernel reads one array, because XLA would copy each of several arrays first."""
    vectors = [vector[None] for vector in half[MATRICES:]]
    spare = jnp.zeros((VECTORS - len(vectors), len(half.scale)), half.scale.dtype)
    return jnp.concatenate([*half[:MATRICES], *vectors, spare])


def unpack_project(rows: Any) -> Project:
    """The inverse of `pack`; `rows` may be a kernel's ref."""
    return Project(*_unpacked(rows, len(Project._fields)))


def unpack_finish(rows: Any) -> Finish:
    """The inverse of `pack`; `rows` may be a kernel's ref."""
    return Finish(*_unpacked(rows, len(Finish._fields)))


def layer_norm(x: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
    """Layer normalisation over the last axis, with the variance of flax.linen.LayerNorm."""
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.maximum(jnp.mean(x * x, axis=-1, keepdims=True) - mean * mean, 0.0)
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * scale[None] + offset[None]


def project(
    form: LayerForm, x: jax.Array, given: Project, keep: Keep
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Positions [T, D] -> normalised, queries, keys and values, each [T, D]."""
    x = x * keep(INPUT) if form.drops_input else x
    normalised = layer_norm(x, given.scale, given.offset)
    return (
        normalised,
        _dense(normalised, given.query, given.query_bias),
        _dense(x, given.key, given.key_bias),
        _dense(x, given.value, given.value_bias),
    )


def finish(
    form: LayerForm, normalised: jax.Array, attended: jax.Array, given: Finish, keep: Keep
) -> jax.Array:
    """Normalised positions and their attended values, each [T, D] -> the layer's output [T, D]."""
    x = normalised + _dense(attended, given.out, given.out_bias)
    x = layer_norm(x, given.scale, given.offset)
    hidden = jnp.maximum(_dense(x, given.first, given.first_bias) * keep(HIDDEN), 0.0)
    x = x + _dense(hidden, given.second, given.second_bias) * keep(OUTPUT)
    return layer_norm(x, given.last_scale, given.last_offset) if form.last else x


def keep_factors(
    form: LayerForm,
    seed: jax.Array,
    rate: jax.Array,
    row: jax.Array,
    positions: jax.Array,
    width: int,
) -> Keep:
    """The factors [T, D] of dropout for positions [T] of a row; 1 without dropout."""
    if not form.drops:
        return lambda site: 1.0
    feature = jnp.arange(width, dtype=jnp.int32)

    def keep(site: int) -> jax.Array:
        counters = _counter(form.layer), _counter(site), row, positions[:, None], feature[None, :]
        return keep_scale(hash_counters(seed, *counters), rate)

    return keep


def attention_dropout(
    form: LayerForm, seed: jax.Array, rate: jax.Array, row: jax.Array, head: int
) -> Callable[[jax.Array, jax.Array], jax.Array] | None:
    """Function of (query, key) positions that returns the factors of dropout for a head's attention weights; None without dropout."""
    if not form.drops:
        return None
    counters = seed, _counter(form.layer), _counter(ATTENTION), row, _counter(head)
    return lambda query, key: keep_scale(hash_counters(*counters, query, key), rate)


def project_kernel(form: LayerForm, *refs: Any) -> None:
    """`project` of a block of positions."""
    seed, rate, x, parameters, *outputs = refs
    keep = _block_factors(form, seed, rate, x.shape[-1])
    projected = project(form, _load_block(x), unpack_project(parameters), keep)
    for ref, value in zip(outputs, projected, strict=True):
        ref[...] = value


def finish_kernel(form: LayerForm, *refs: Any) -> None:
    """Attention of a block of queries, and `finish`."""
    seed, rate, segments, normalised, queries, keys, values, parameters = refs[:8]
    output, attended, log_sums = refs[8:]
    query_block, width = queries[...], queries.shape[-1]
    total = jnp.zeros(query_block.shape, jnp.float32)
    for head in range(form.heads):
        mask, columns = _block_mask(form, head, seed, rate, segments), _columns(form, head, width)
        head_queries = query_block * columns
        head_attended, log_sum = attention.attended_by(
            _attention_form(form, width), mask, head_queries, keys, values
        )
        total += head_attended * columns
        log_sums[head, :] = log_sum
    attended[...] = total
    keep = _block_factors(form, seed, rate, width)
    output[...] = finish(form, normalised[...], total, unpack_finish(parameters), keep)


def finish_gradient_kernel(form: LayerForm, *refs: Any) -> None:
    """Backward through `finish_kernel` for a block of queries: gradients of normalised, of attended values, and of queries."""
    seed, rate, segments, normalised, attended, queries, keys, values = refs[:8]
    log_sums, parameters, d_output, _, *outputs = refs[8:]
    d_normalised, d_attended, d_queries, products, d_parameters = outputs
    query_block, attended_block, width = queries[...], attended[...], queries.shape[-1]
    keep = _block_factors(form, seed, rate, width)
    _, vjp = jax.vjp(
        lambda normalised, attended, half: finish(form, normalised, attended, half, keep),
        *(normalised[...], attended_block, unpack_finish(parameters)),
    )
    d_normalised_block, d_attended_block, d_half = vjp(_load_block(d_output))
    total = jnp.zeros(query_block.shape, jnp.float32)
    for head in range(form.heads):
        mask, columns = _block_mask(form, head, seed, rate, segments), _columns(form, head, width)
        product = jnp.sum(attended_block * d_attended_block * columns, axis=1)
        sums = [log_sums[head, :][:, None], product[:, None]]
        head_form, head_queries = _attention_form(form, width), query_block * columns
        arguments = head_form, mask, head_queries, d_attended_block * columns, keys, values
        total += columns * attention.gradient_of_queries(*arguments, sums)
        products[head, :] = product
    d_normalised[...], d_attended[...] = d_normalised_block, d_attended_block
    d_queries[...] = total
    _store(d_parameters, d_half)


def project_gradient_kernel(form: LayerForm, *refs: Any) -> None:
    """Backward through attention for a block of keys, and through `project_kernel`."""
    seed, rate, segments, x, queries, keys, values, d_attended = refs[:8]
    log_sums, products, d_normalised, d_queries, parameters, _, d_x, d_parameters = refs[8:]
    key_block, value_block, width = keys[...], values[...], keys.shape[-1]
    d_keys, d_values = (jnp.zeros(key_block.shape, jnp.float32) for _ in range(2))
    for head in range(form.heads):
        mask = _block_mask(form, head, seed, rate, segments, of_keys=True)
        columns = _columns(form, head, width)

        def sums_of(rows: Any, head: int = head) -> list[jax.Array]:
            return [log_sums[head, rows], products[head, rows]]

        arguments = _attention_form(form, width), mask, key_block * columns, value_block * columns
        d_head_keys, d_head_values = attention.gradient_of_keys(
            *arguments, queries, d_attended, sums_of
        )
        d_keys, d_values = d_keys + d_head_keys * columns, d_values + d_head_values * columns
    keep = _block_factors(form, seed, rate, width)
    _, vjp = jax.vjp(
        lambda x, half: project(form, x, half, keep), _load_block(x), unpack_project(parameters)
    )
    d_block, d_half = vjp((d_normalised[...], d_queries[...], d_keys, d_values))
    d_x[...] = d_block
    _store(d_parameters, d_half)


def _unpacked(rows: Any, count: int) -> list[Any]:
    width = rows.shape[1]
    matrices = [rows[k * width : (k + 1) * width, :] for k in range(MATRICES)]
    return [*matrices, *(rows[MATRICES * width + k, :] for k in range(count - MATRICES))]


def _store(ref: Any, half: Project | Finish) -> None:
    """Writes half a layer's parameters to a ref, in the order of `pack`."""
    width = ref.shape[1]
    for k in range(MATRICES):
        ref[k * width : (k + 1) * width, :] = half[k]
    for k in range(VECTORS):
        vector = half[MATRICES + k] if MATRICES + k < len(half) else jnp.zeros(width, ref.dtype)
        ref[MATRICES * width + k, :] = vector


def _dense(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    return jnp.dot(x, kernel, preferred_element_type=jnp.float32) + bias[None]


def _counter(number: int) -> jax.Array:
    return jnp.asarray(number, jnp.int32)


def _attention_form(form: LayerForm, width: int) -> attention.Form:
    return attention.Form("softmax", form.drops, (width / form.heads) ** -0.5)


def _columns(form: LayerForm, head: int, width: int) -> jax.Array:
    """[1, D] float32: 1 in the columns of a head."""
    size, column = width // form.heads, jnp.arange(width, dtype=jnp.int32)
    return jnp.where((column >= head * size) & (column < (head + 1) * size), 1.0, 0.0)[None]


def _block_mask(
    form: LayerForm, head: int, seed: Any, rate: Any, segments: Any, of_keys: bool = False
) -> attention.BlockMask:
    """The mask of the program's block of queries, from the segments [L] of its row; with `of_keys`, of its block of keys."""
    number = pl.program_id(1)
    positions, first = attention.positions_of(number), number * BLOCK
    block_segments = _segments(segments, positions)[:, None]

    def visible(block: jax.Array) -> jax.Array:
        others = attention.positions_of(block)
        same = (block_segments == _segments(segments, others)[None, :]) & (block_segments >= 0)
        others = others[None, :]
        if form.causal:
            same &= others >= positions[:, None] if of_keys else others <= positions[:, None]
        return same | (others == positions[:, None])

    # A history is contiguous, so all visible positions are between the first and the last position of the block's histories.
    row = jnp.arange(pl.next_power_of_2(segments.shape[0]), dtype=jnp.int32)
    shared = (block_segments == _segments(segments, row)[None, :]) & (block_segments >= 0)
    begin, end = number, number + 1
    if of_keys or not form.causal:
        end = jnp.max(jnp.where(shared, row[None, :], first)) // BLOCK + 1
    if not of_keys or not form.causal:
        begin = jnp.min(jnp.where(shared, row[None, :], first)) // BLOCK
    dropout = attention_dropout(form, seed[0], rate[0], pl.program_id(0), head)
    return attention.BlockMask(positions, begin, end, visible, dropout)


def _segments(ref: Any, positions: jax.Array) -> jax.Array:
    """Segments at positions of the row [L], -1 beyond it."""
    segments: jax.Array = triton.load(ref.at[positions], mask=positions < ref.shape[0], other=-1)
    return segments


def _load_block(ref: Any) -> jax.Array:
    """[BLOCK, D] the positions of the program's block, zeros beyond the row; `ref` has the block or the whole row [L, D]."""
    if ref.shape[0] == BLOCK:
        block: jax.Array = ref[...]
        return block
    positions, column = attention.positions_of(pl.program_id(1)), jnp.arange(ref.shape[1])
    inside = jnp.broadcast_to((positions < ref.shape[0])[:, None], (BLOCK, ref.shape[1]))
    loaded: jax.Array = triton.load(
        ref.at[positions[:, None], column[None, :]], mask=inside, other=0.0
    )
    return loaded


def _block_factors(form: LayerForm, seed: Any, rate: Any, width: int) -> Keep:
    """`keep_factors` of the program's block."""
    positions = attention.positions_of(pl.program_id(1))
    return keep_factors(form, seed[0], rate[0], pl.program_id(0), positions, width)
