"""The four kernels of a layer of SASRec, each over (row, block of positions); `sasrec_layer` puts them together.

Before attention (`project`) and after it (`finish`) each position goes its own way, so those halves are plain functions of a block, and
their gradients are taken by autodiff within the kernel. Heads are columns of the features: a head's queries and keys are all D columns, of
which the others are zero, because a kernel cannot slice a value.
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
INPUT, ATTENTION, HIDDEN, OUTPUT = range(4)  # what drops out, as a counter of its bits
MATRICES, VECTORS = 3, 8  # places in an array that holds the parameters of half a layer

Keep = Callable[[int], Any]  # what drops out -> factors [T, D], or 1


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
    """Parameters of the half after attention: [D, D] matrices, then [D] vectors, the last two of the norm that follows all layers."""

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
    """What is fixed when a kernel is traced.

    Attributes:
      layer: its number, a counter of dropout's bits.
      heads: n.
      causal: whether a position sees only itself and what is before it.
      drops: whether anything drops out.
      drops_input: whether the layer's input does.
      last: whether the layer's output is normalised.
    """

    layer: int
    heads: int
    causal: bool
    drops: bool
    drops_input: bool
    last: bool


def pack(half: Project | Finish) -> jax.Array:
    """[3D + 8, D] the matrices, the vectors, and zeros: a kernel reads one array, for XLA would first copy each of many."""
    vectors = [vector[None] for vector in half[MATRICES:]]
    spare = jnp.zeros((VECTORS - len(vectors), len(half.scale)), half.scale.dtype)
    return jnp.concatenate([*half[:MATRICES], *vectors, spare])


def unpack_project(rows: Any) -> Project:
    """Of `pack`, which may be a kernel's ref."""
    return Project(*_unpacked(rows, len(Project._fields)))


def unpack_finish(rows: Any) -> Finish:
    """Of `pack`, which may be a kernel's ref."""
    return Finish(*_unpacked(rows, len(Finish._fields)))


def layer_norm(x: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
    """Over the last axis, with the variance as flax.linen.LayerNorm has it."""
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
    """Normalised positions and what they attended to, each [T, D] -> the layer's output [T, D]."""
    x = normalised + _dense(attended, given.out, given.out_bias)
    x = layer_norm(x, given.scale, given.offset)
    hidden = jnp.maximum(_dense(x, given.first, given.first_bias) * keep(HIDDEN), 0.0)
    x = x + _dense(hidden, given.second, given.second_bias) * keep(OUTPUT)
    return layer_norm(x, given.last_scale, given.last_offset) if form.last else x


def keep_of(
    form: LayerForm, seed: jax.Array, rate: jax.Array, row: jax.Array, places: jax.Array, width: int
) -> Keep:
    """Dropout's factors [T, D] of positions `places` [T] of a row; 1 where nothing drops out."""
    if not form.drops:
        return lambda site: 1.0
    feature = jnp.arange(width, dtype=jnp.int32)

    def keep(site: int) -> jax.Array:
        counters = _counter(form.layer), _counter(site), row, places[:, None], feature[None, :]
        return keep_scale(hash_counters(seed, *counters), rate)

    return keep


def draw_of(
    form: LayerForm, seed: jax.Array, rate: jax.Array, row: jax.Array, head: int
) -> Callable[[jax.Array, jax.Array], jax.Array] | None:
    """(query, key) -> dropout's factors of a head's attention weights; None where nothing drops out."""
    if not form.drops:
        return None
    counters = seed, _counter(form.layer), _counter(ATTENTION), row, _counter(head)
    return lambda query, key: keep_scale(hash_counters(*counters, query, key), rate)


def project_kernel(form: LayerForm, *refs: Any) -> None:
    """`project` of a block of positions."""
    seed, rate, x, parameters, *outputs = refs
    keep = _keep(form, seed, rate, x.shape[-1])
    found = project(form, _own(x), unpack_project(parameters), keep)
    for ref, value in zip(outputs, found, strict=True):
        ref[...] = value


def finish_kernel(form: LayerForm, *refs: Any) -> None:
    """Attention of a block of queries, and `finish`."""
    seed, rate, segments, normalised, queries, keys, values, parameters = refs[:8]
    output, attended, log_sums = refs[8:]
    own = queries[...]
    total = jnp.zeros(own.shape, jnp.float32)
    for head in range(form.heads):
        place, mask = _place(form, head, seed, rate, segments), _mask(form, head, own.shape[1])
        head_form = _of_head(form, own.shape[1])
        found, log_sum = attention.attended_by(head_form, place, own * mask, keys, values)
        total += found * mask
        log_sums[head, :] = log_sum
    attended[...] = total
    keep = _keep(form, seed, rate, own.shape[1])
    output[...] = finish(form, normalised[...], total, unpack_finish(parameters), keep)


def finish_gradient_kernel(form: LayerForm, *refs: Any) -> None:
    """Backward through `finish_kernel` for a block of queries: gradients of normalised, of attended values, and of queries."""
    seed, rate, segments, normalised, attended, queries, keys, values = refs[:8]
    log_sums, parameters, d_output, _, *outputs = refs[8:]
    d_normalised, d_attended, d_queries, products, d_parameters = outputs
    own, own_attended = queries[...], attended[...]
    keep = _keep(form, seed, rate, own.shape[1])
    _, pull_back = jax.vjp(
        lambda normalised, attended, given: finish(form, normalised, attended, given, keep),
        *(normalised[...], own_attended, unpack_finish(parameters)),
    )
    d_own_normalised, d_own, d_given = pull_back(_own(d_output))
    total = jnp.zeros(own.shape, jnp.float32)
    for head in range(form.heads):
        place, mask = _place(form, head, seed, rate, segments), _mask(form, head, own.shape[1])
        product = jnp.sum(own_attended * d_own * mask, axis=1)
        sums = [log_sums[head, :][:, None], product[:, None]]
        given = _of_head(form, own.shape[1]), place, own * mask, d_own * mask, keys, values
        total += mask * attention.gradient_of_queries(*given, sums)
        products[head, :] = product
    d_normalised[...], d_attended[...], d_queries[...] = d_own_normalised, d_own, total
    _store(d_parameters, d_given)


def project_gradient_kernel(form: LayerForm, *refs: Any) -> None:
    """Backward through attention for a block of keys, and through `project_kernel`."""
    seed, rate, segments, x, queries, keys, values, d_attended = refs[:8]
    log_sums, products, d_normalised, d_queries, parameters, _, d_x, d_parameters = refs[8:]
    own_key, own_value, width = keys[...], values[...], keys.shape[-1]
    d_key, d_value = (jnp.zeros(own_key.shape, jnp.float32) for _ in range(2))
    for head in range(form.heads):
        place, mask = _place(form, head, seed, rate, segments, True), _mask(form, head, width)

        def sums_of(stretch: Any, head: int = head) -> list[jax.Array]:
            return [log_sums[head, stretch], products[head, stretch]]

        given = _of_head(form, width), place, own_key * mask, own_value * mask
        more_key, more_value = attention.gradient_of_keys(*given, queries, d_attended, sums_of)
        d_key, d_value = d_key + more_key * mask, d_value + more_value * mask
    keep = _keep(form, seed, rate, width)
    _, pull_back = jax.vjp(
        lambda x, given: project(form, x, given, keep), _own(x), unpack_project(parameters)
    )
    d_own, d_given = pull_back((d_normalised[...], d_queries[...], d_key, d_value))
    d_x[...] = d_own
    _store(d_parameters, d_given)


def _unpacked(rows: Any, count: int) -> list[Any]:
    width = rows.shape[1]
    matrices = [rows[k * width : (k + 1) * width, :] for k in range(MATRICES)]
    return [*matrices, *(rows[MATRICES * width + k, :] for k in range(count - MATRICES))]


def _store(ref: Any, half: Project | Finish) -> None:
    """As `pack`."""
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


def _of_head(form: LayerForm, width: int) -> attention.Form:
    return attention.Form("softmax", form.drops, (width / form.heads) ** -0.5)


def _mask(form: LayerForm, head: int, width: int) -> jax.Array:
    """[1, D] float32: 1 in the columns of a head."""
    own, column = width // form.heads, jnp.arange(width, dtype=jnp.int32)
    return jnp.where((column >= head * own) & (column < (head + 1) * own), 1.0, 0.0)[None]


def _place(
    form: LayerForm, head: int, seed: Any, rate: Any, segments: Any, of_keys: bool = False
) -> attention.Place:
    """What the block of the cell meets of its row, whose segments are [L]: keys that it sees; `of_keys`, queries that see it."""
    number = pl.program_id(1)
    places, first = attention.positions_of(number), number * BLOCK
    own = _segments(segments, places)[:, None]

    def met(block: jax.Array) -> jax.Array:
        at = attention.positions_of(block)
        same = (own == _segments(segments, at)[None, :]) & (own >= 0)
        if form.causal:
            same &= at[None, :] >= places[:, None] if of_keys else at[None, :] <= places[:, None]
        return same | (at[None, :] == places[:, None])

    # A history is contiguous, so all that is met lies between the first and the last position of a history in the block.
    row = jnp.arange(pl.next_power_of_2(segments.shape[0]), dtype=jnp.int32)
    shared = (own == _segments(segments, row)[None, :]) & (own >= 0)
    begin, end = number, number + 1
    if of_keys or not form.causal:
        end = jnp.max(jnp.where(shared, row[None, :], first)) // BLOCK + 1
    if not of_keys or not form.causal:
        begin = jnp.min(jnp.where(shared, row[None, :], first)) // BLOCK
    draw = draw_of(form, seed[0], rate[0], pl.program_id(0), head)
    return attention.Place(places, begin, end, met, draw)


def _segments(ref: Any, places: jax.Array) -> jax.Array:
    """Segments at places of the row [L], -1 beyond it."""
    found: jax.Array = triton.load(ref.at[places], mask=places < ref.shape[0], other=-1)
    return found


def _own(ref: Any) -> jax.Array:
    """[BLOCK, D] rows of the cell, zeros beyond the row: of its own, or of the whole row [L, D]."""
    if ref.shape[0] == BLOCK:
        whole: jax.Array = ref[...]
        return whole
    places, column = attention.positions_of(pl.program_id(1)), jnp.arange(ref.shape[1])
    inside = jnp.broadcast_to((places < ref.shape[0])[:, None], (BLOCK, ref.shape[1]))
    found: jax.Array = triton.load(ref.at[places[:, None], column[None, :]], mask=inside, other=0.0)
    return found


def _keep(form: LayerForm, seed: Any, rate: Any, width: int) -> Keep:
    places = attention.positions_of(pl.program_id(1))
    return keep_of(form, seed[0], rate[0], pl.program_id(0), places, width)
