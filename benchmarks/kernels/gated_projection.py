"""Gather, gate and projection of holistic attention (the first layer of Eq. 5, factorised) in one pass over the frozen tables.

    x[t] = g1[t] (i[t] Wa) + g2[t] (ibar[t] Wb) + g3[t] (i[t] Wc + ibar[t] Wd) + bias
    i[t] = items[ids[t]], ibar[t] = items_similar[ids[t]]

XLA writes the gathered [T, E] rows of both tables and the [T, 3, H] projections to memory and reads them again. Here a program takes
tiles of the rows straight from the tables while it goes over E, with its sums in registers: neither array is ever stored. But each tile of
64 tokens reads the weights again, and each tile of 64 columns the rows. No GPU has timed it, so the package does not use it.

Legend: T tokens, V items, E width of the text embeddings, H width of the first layer.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from grasp_jax.kernels import backend

SMALLEST = 16  # Triton's matrix product wants 16 of each dimension
TILE = 64  # output rows and columns of a program: three or four float32 sums of 64 x 64 still fit the registers
TOKENS = 32  # tokens that a step of the weights' gradient takes in
STEP_BYTES = 128  # bytes of a row that a step over E takes in: a cache line
WARPS = 8  # with four, the sums of the larger tiles spill
PROGRAMS = 128  # about the multiprocessors of a large GPU; with fewer programs, tiles are halved

Arrays = tuple[jax.Array, ...]


class Tokens(NamedTuple):
    """What is read of the frozen tables; in a kernel, the refs of these arrays.

    Attributes:
      items, items_similar: [V, E] tables, float32, bfloat16 or float16.
      ids: [T] int32 item rows; one outside [0, V) reads a row of zeros.
    """

    items: Any
    items_similar: Any
    ids: Any


class Weights(NamedTuple):
    """Parameters of the first layer, or their gradients; in a kernel, the refs of these arrays.

    Attributes:
      own, similar: [2, E, H] Wa and Wc, and Wb and Wd; both float32 or both bfloat16: the type of the matrix products, whose sums are
        float32.
      bias: [H], floating.
    """

    own: Any
    similar: Any
    bias: Any


def gated_projection_reference(tokens: Tokens, gates: jax.Array, weights: Weights) -> jax.Array:
    """What `gated_projection` computes, with the gradients of autodiff; arguments and result are the same."""

    def rows(table: jax.Array) -> jax.Array:
        table = jax.lax.stop_gradient(table)
        taken: jax.Array = table.at[tokens.ids].get(
            mode="fill", fill_value=0, wrap_negative_indices=False
        )
        return taken.astype(weights.own.dtype)

    own, similar = (
        jnp.einsum("te,peh->pth", rows(table), kernel, preferred_element_type=jnp.float32)
        for table, kernel in zip(tokens[:2], weights[:2], strict=True)
    )
    g1, g2, g3 = gates.astype(jnp.float32).T[:, :, None]
    bias = weights.bias.astype(jnp.float32)
    x: jax.Array = g1 * own[0] + g2 * similar[0] + g3 * (own[1] + similar[1]) + bias
    return x


@jax.custom_vjp
def gated_projection(tokens: Tokens, gates: jax.Array, weights: Weights) -> jax.Array:
    """First-layer output of T tokens, straight from the tables.

    Source: Eq. 4-5 of the paper, factorised as in `models.encoders.holistic`. Tables are frozen: they get no gradient, as with
    `stop_gradient`. A separate kernel computes the gates' gradient; `jit` removes it if the gradient is not used. Not differentiable twice.

    Args:
      tokens: the tables and the rows that are read.
      gates: [T, 3], floating.
      weights: of the layer. Products of float32 have the precision of `jax_default_matmul_precision`; if it is not set, a GPU rounds
        their operands to TF32, as XLA does.

    Returns:
      [T, H] float32. Gradients have the types of what they are gradients of.

    Raises:
      ValueError: shapes or types that do not fit.
    """
    _check(tokens, gates, weights)
    num_tokens, hidden = tokens.ids.shape[0], weights.own.shape[-1]
    columns = _block(hidden, TILE)
    blocks = (
        _filling(num_tokens, pl.cdiv(hidden, columns)),
        _step_over_width(tokens.items, weights.own),
        columns,
    )
    launch = _launcher(
        functools.partial(_forward_program, blocks),
        jax.ShapeDtypeStruct((num_tokens, hidden), jnp.float32),
        grid=(pl.cdiv(num_tokens, blocks[0]), pl.cdiv(hidden, columns)),
        num_stages=2,
    )
    x: jax.Array = launch(*tokens, gates, *weights)
    return x


def _forward(*arguments: Any) -> tuple[jax.Array, tuple[Any, ...]]:
    return gated_projection(*arguments), arguments


def _backward(saved: tuple[Any, ...], gradient: jax.Array) -> tuple[Any, ...]:
    tokens, gates, weights = saved
    d_own, d_similar = _kernel_gradients(tokens, gates, gradient, weights.own.dtype)
    d_bias = gradient.sum(axis=0).astype(weights.bias.dtype)
    d_gates = _gate_gradients(tokens, weights, gradient).astype(gates.dtype)
    # None for the tables is a symbolic zero: zeros would be arrays of their size.
    return None, d_gates, Weights(d_own, d_similar, d_bias)


gated_projection.defvjp(_forward, _backward)


def _kernel_gradients(
    tokens: Tokens,
    gates: jax.Array,
    gradient: jax.Array,
    dtype: jnp.dtype,
) -> Sequence[jax.Array]:
    """dWa = sum_t g1 i^T d and so on: two arrays [2, E, H]. A program owns a tile of all four and goes over the tokens."""
    width, hidden = tokens.items.shape[1], gradient.shape[1]
    columns = _block(hidden, TILE)
    blocks = _block(tokens.ids.shape[0], TOKENS), _filling(width, pl.cdiv(hidden, columns)), columns
    shape = jax.ShapeDtypeStruct((2, width, hidden), dtype)
    launch = _launcher(
        functools.partial(_kernel_gradient_program, blocks),
        (shape, shape),
        grid=(pl.cdiv(width, blocks[1]), pl.cdiv(hidden, columns)),
        num_stages=3,  # the rows' addresses are themselves read in the loop, so they are one stage behind
    )
    gradients: Sequence[jax.Array] = launch(*tokens, gates, gradient)
    return gradients


def _gate_gradients(tokens: Tokens, weights: Weights, gradient: jax.Array) -> jax.Array:
    """dg1 = d . (i Wa) and so on, [T, 3] float32. Programs are those of the forward; each gives the share of its columns."""
    num_tokens, hidden = gradient.shape
    columns = _block(hidden, TILE)
    parts = pl.cdiv(hidden, columns)
    blocks = _filling(num_tokens, parts), _step_over_width(tokens.items, weights.own), columns
    launch = _launcher(
        functools.partial(_gate_gradient_program, blocks),
        jax.ShapeDtypeStruct((parts, 3, num_tokens), jnp.float32),
        grid=(pl.cdiv(num_tokens, blocks[0]), parts),
        num_stages=2,
    )
    of_columns: jax.Array = launch(*tokens, *weights, gradient)
    return of_columns.sum(axis=0).T


def _launcher(
    program: Callable[..., None], out_shape: Any, grid: tuple[int, int], num_stages: int
) -> Callable[..., Any]:
    """The kernel as a function of arrays."""
    # Dead-code elimination never drops a pallas_call, whoever uses its result or not; a jit around it, it does.
    return jax.jit(
        pl.pallas_call(
            program,
            out_shape=out_shape,
            grid=grid,
            compiler_params=backend.compiler_params(num_warps=WARPS, num_stages=num_stages),
            interpret=backend.interpret(),
        )
    )


def _forward_program(blocks: tuple[int, int, int], *refs: Any) -> None:
    tokens, gates, weights, out = Tokens(*refs[:3]), refs[3], Weights(*refs[4:7]), refs[7]
    places, columns = _own_range(0, blocks[0]), _own_range(1, blocks[2])
    own, similar, both = _projections(blocks, tokens, weights, places, columns)
    g1, g2, g3 = (_gate(gates, places, part) for part in range(3))
    inside = columns < weights.bias.shape[0]
    offset = triton.load(weights.bias.at[columns], mask=inside, other=0).astype(jnp.float32)
    _store(out, places, columns, g1 * own + g2 * similar + g3 * both + offset[None, :])


def _gate_gradient_program(blocks: tuple[int, int, int], *refs: Any) -> None:
    tokens, weights, (gradient, out) = Tokens(*refs[:3]), Weights(*refs[3:6]), refs[6:]
    places, columns = _own_range(0, blocks[0]), _own_range(1, blocks[2])
    d = _load(gradient, places, columns)
    for part, x in enumerate(_projections(blocks, tokens, weights, places, columns)):
        triton.store(
            out.at[pl.program_id(1), part, places], (d * x).sum(axis=1), mask=places < out.shape[2]
        )


def _kernel_gradient_program(blocks: tuple[int, int, int], *refs: Any) -> None:
    tokens, (gates, gradient, d_own, d_similar) = Tokens(*refs[:3]), refs[3:]
    width, columns = _own_range(0, blocks[1]), _own_range(1, blocks[2])

    def step(k: jax.Array, sums: Arrays) -> Arrays:
        places = k * blocks[0] + jnp.arange(blocks[0])
        d = _load(gradient, places, columns)
        d1, d2, d3 = ((_gate(gates, places, part) * d).astype(d_own.dtype) for part in range(3))
        i, ibar = _rows(tokens, places, width, d_own.dtype)
        pairs = ((i, d1), (i, d3), (ibar, d2), (ibar, d3))
        return tuple(
            total + _product(rows, own, contract=0)
            for total, (rows, own) in zip(sums, pairs, strict=True)
        )

    zero = jnp.zeros((blocks[1], blocks[2]), jnp.float32)
    da, dc, db, dd = jax.lax.fori_loop(
        0, pl.cdiv(tokens.ids.shape[0], blocks[0]), step, (zero,) * 4
    )
    for ref, pair in ((d_own, (da, dc)), (d_similar, (db, dd))):
        for part, value in enumerate(pair):
            _store(ref, width, columns, value, part)


def _projections(
    blocks: tuple[int, int, int],
    tokens: Tokens,
    weights: Weights,
    places: jax.Array,
    columns: jax.Array,
) -> Arrays:
    """Tiles of i Wa, ibar Wb and i Wc + ibar Wd, float32."""

    def step(k: jax.Array, sums: Arrays) -> Arrays:
        own, similar, both = sums
        width = k * blocks[1] + jnp.arange(blocks[1])
        i, ibar = _rows(tokens, places, width, weights.own.dtype)
        wa, wc = (_load(weights.own, width, columns, part) for part in range(2))
        wb, wd = (_load(weights.similar, width, columns, part) for part in range(2))
        return (
            own + _product(i, wa),
            similar + _product(ibar, wb),
            both + _product(i, wc) + _product(ibar, wd),
        )

    zero = jnp.zeros((blocks[0], blocks[2]), jnp.float32)
    sums: Arrays = jax.lax.fori_loop(
        0, pl.cdiv(tokens.items.shape[1], blocks[1]), step, (zero,) * 3
    )
    return sums


def _product(left: jax.Array, right: jax.Array, contract: int = 1) -> jax.Array:
    """Matrix product over axis `contract` of `left` and axis 0 of `right`, summed in float32."""
    return jax.lax.dot_general(
        left, right, (((contract,), (0,)), ((), ())), preferred_element_type=jnp.float32
    )


def _rows(tokens: Tokens, places: jax.Array, width: jax.Array, dtype: jnp.dtype) -> Arrays:
    """Tiles of the rows of both tables for the tokens at `places`; zeros where there is no token."""
    own = triton.load(tokens.ids.at[places], mask=places < tokens.ids.shape[0], other=-1)
    return tuple(_load(table, own, width).astype(dtype) for table in tokens[:2])


def _gate(gates: Any, places: jax.Array, part: int) -> jax.Array:
    return triton.load(gates.at[places, part], mask=places < gates.shape[0], other=0).astype(
        jnp.float32
    )[:, None]


def _load(ref: Any, rows: jax.Array, columns: jax.Array, *lead: int) -> jax.Array:
    """`ref[*lead, rows, columns]` as a tile, zero outside of the array."""
    # Index arrays instead of slices: positions outside the array are never accessed, interpreted or not.
    return triton.load(
        ref.at[*lead, rows[:, None], columns[None, :]], mask=_inside(ref, rows, columns), other=0
    )


def _store(ref: Any, rows: jax.Array, columns: jax.Array, value: jax.Array, *lead: int) -> None:
    triton.store(
        ref.at[*lead, rows[:, None], columns[None, :]],
        value.astype(ref.dtype),
        mask=_inside(ref, rows, columns),
    )


def _inside(ref: Any, rows: jax.Array, columns: jax.Array) -> jax.Array:
    inside: jax.Array = ((rows >= 0) & (rows < ref.shape[-2]))[:, None] & (columns < ref.shape[-1])[
        None, :
    ]
    return inside


def _own_range(axis: int, block: int) -> jax.Array:
    """Indices of this program along a grid axis."""
    return pl.program_id(axis) * block + jnp.arange(block)


def _block(size: int, largest: int) -> int:
    """The power of two that covers `size`, between the smallest block and `largest`."""
    return max(SMALLEST, min(largest, pl.next_power_of_2(size)))


def _filling(size: int, others: int) -> int:
    """A block of at most `TILE`, halved while its programs, times `others` along the other axis, leave multiprocessors idle."""
    block = _block(size, TILE)
    while block > SMALLEST and pl.cdiv(size, block) * others < PROGRAMS:
        block //= 2
    return block


def _step_over_width(items: jax.Array, kernel: jax.Array) -> int:
    return _block(items.shape[1], STEP_BYTES // max(items.dtype.itemsize, kernel.dtype.itemsize))


def _check(tokens: Tokens, gates: jax.Array, weights: Weights) -> None:
    (num_tokens,), width, hidden = tokens.ids.shape, tokens.items.shape[1], weights.bias.shape[0]
    kernels = (2, width, hidden)
    for name, given, shape in (
        ("items_similar", tokens.items_similar, tokens.items.shape),
        ("gates", gates, (num_tokens, 3)),
        ("own", weights.own, kernels),
        ("similar", weights.similar, kernels),
    ):
        if given.shape != shape:
            raise ValueError(
                f"{name} has shape {given.shape}; with ids, items and bias given, expected {shape}"
            )
    own, similar = (kernel.dtype for kernel in weights[:2])
    if own not in (jnp.float32, jnp.bfloat16) or similar != own:
        raise ValueError(
            f"own and similar are {own} and {similar}; expected both float32 or both bfloat16"
        )
