"""Layers of SASRec over packed rows as two kernels each, and the gradient of a layer as two more.

XLA compiles a layer to some sixty kernels, forward and backward, of a microsecond or two each, so their number determines the time of a
step. Here one kernel normalises and projects a block of positions, and a second one computes attention and the feed-forward layer. Nothing
of size [L, L] is stored. The backward pass computes both halves again from the layer's input and from the attended values. A kernel outputs
the gradients of parameters as one term for each block, and XLA adds them up.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from grasp_jax.kernels import backend
from grasp_jax.kernels import sasrec_layer_kernels as kernels
from grasp_jax.kernels.attention_blocks import BLOCK, attention_mask
from grasp_jax.kernels.counter_bits import SeededDropout, as_words
from grasp_jax.kernels.sasrec_layer_kernels import MATRICES, VECTORS, Finish, LayerForm, Project

NUM_WARPS, NUM_STAGES = 4, 2
# values of D: powers of two that a matrix product supports, small enough for three matrices in on-chip memory
WIDTHS = (16, 32, 64)

Layer = tuple[Project, Finish]


class LayersForm(NamedTuple):
    """Static settings that all layers share.

    Attributes:
      heads: n.
      causal: whether a position attends only to itself and to earlier positions.
      drops_input: whether the input of the first layer has dropout too.
    """

    heads: int
    causal: bool
    drops_input: bool = True


def fits(features: int, num_heads: int) -> bool:
    """Whether the kernels support D features in so many heads."""
    return features in WIDTHS and features % num_heads == 0


def sasrec_layers(
    x: jax.Array,
    layers: Sequence[Layer],
    segments: jax.Array,
    form: LayersForm,
    dropout: SeededDropout | None = None,
) -> jax.Array:
    """The published layers of SASRec and the norm that follows them, by kernels forward and backward.

    Args:
      x: [R, L, D] float32, D one of `WIDTHS`.
      layers: parameters of each layer; the parameters of the final norm are those of the last layer.
      segments: [R, L] int32; adjacent equal values are one user, -1 is empty. An empty position attends only to itself.
      form: static settings.
      dropout: of attention weights, hidden units and outputs, or None.

    Returns:
      [R, L, D] float32.

    Raises:
      ValueError: D is not in `WIDTHS`, or the number of heads does not divide it.
    """
    _check(x, form)
    parameters = jnp.stack([kernels.pack(half) for layer in layers for half in layer])
    forms = _forms(form, len(layers), dropout is not None)
    return _layers(forms, x, parameters, segments, *as_words(dropout))


def sasrec_layers_reference(
    x: jax.Array,
    layers: Sequence[Layer],
    segments: jax.Array,
    form: LayersForm,
    dropout: SeededDropout | None = None,
) -> jax.Array:
    """The result of `sasrec_layers`, computed with all attention weights [R, n, L, L], and the same bits of dropout."""
    _check(x, form)
    rows, length, width = x.shape
    allowed = attention_mask(segments, form.causal)[:, None]
    positions, num_heads = jnp.arange(length), form.heads
    word, rate = (jax.lax.stop_gradient(value[0]) for value in as_words(dropout))

    def of_row(
        form: LayerForm, layer: Layer, x: jax.Array, allowed: jax.Array, row: jax.Array
    ) -> jax.Array:
        keep = kernels.keep_factors(form, word, rate, row, positions, width)
        normalised, *projected = kernels.project(form, x, layer[0], keep)
        q, k, v = (given.reshape(length, num_heads, -1) for given in projected)
        scores = jnp.einsum("qnd,knd->nqk", q, k) * (width / num_heads) ** -0.5
        weights = jax.nn.softmax(jnp.where(allowed, scores, -jnp.inf), axis=-1)
        dropouts = [
            kernels.attention_dropout(form, word, rate, row, head) for head in range(num_heads)
        ]
        factors = [
            1.0 if dropout is None else dropout(positions[:, None], positions[None, :])
            for dropout in dropouts
        ]
        attended = jnp.einsum(
            "nqk,knd->qnd", weights * jnp.stack(jnp.broadcast_arrays(*factors, weights[0])[:-1]), v
        )
        return kernels.finish(form, normalised, attended.reshape(x.shape), layer[1], keep)

    for own, layer in zip(_forms(form, len(layers), dropout is not None), layers, strict=True):
        x = jax.vmap(functools.partial(of_row, own, layer))(x, allowed, jnp.arange(rows))
    return x


def _check(x: jax.Array, form: LayersForm) -> None:
    if not fits(x.shape[2], form.heads):
        raise ValueError(f"{x.shape[2]} features in {form.heads} heads; expected one of {WIDTHS}")


def _forms(form: LayersForm, layers: int, drops: bool) -> tuple[LayerForm, ...]:
    """The static settings of each layer."""
    return tuple(
        LayerForm(
            number,
            form.heads,
            form.causal,
            drops,
            form.drops_input and number == 0,
            last=number == layers - 1,
        )
        for number in range(layers)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layers(
    forms: tuple[LayerForm, ...],
    x: jax.Array,
    parameters: jax.Array,
    segments: jax.Array,
    seed: jax.Array,
    rate: jax.Array,
) -> jax.Array:
    """The output for x [R, L, D] and parameters from `kernels.pack`, two halves for each layer."""
    return _forward(forms, x, parameters, segments, seed, rate)[0]


def _forward(
    forms: tuple[LayerForm, ...],
    x: jax.Array,
    parameters: jax.Array,
    segments: jax.Array,
    seed: jax.Array,
    rate: jax.Array,
) -> tuple[jax.Array, Any]:
    call = _Call(forms[0].heads, *x.shape)
    block, row, scalars = call.block, call.row, [call.scalar] * 2
    length, computed = x.shape[1], []
    for form in forms:
        half = call.half(form, 0)
        projected = call(
            kernels.project_kernel,
            form,
            [*scalars, call.input(x), half],
            [block] * 4,
            [call.padded_shape] * 4,
        )(seed, rate, x, parameters)
        half = call.half(form, 1)
        output, attended, log_sums = call(
            kernels.finish_kernel,
            form,
            [*scalars, call.segments, block, block, row, row, half],
            [block, block, call.block_sums],
            [call.padded_shape, call.padded_shape, call.sums_shape],
        )(seed, rate, segments, *projected, parameters)
        computed.append((x, *projected, attended, log_sums))
        x = output
    return x[:, :length], (parameters, segments, seed, rate, computed)


def _backward(forms: tuple[LayerForm, ...], saved: Any, d_x: jax.Array) -> tuple[Any, ...]:
    parameters, segments, seed, rate, computed = saved
    call = _Call(forms[0].heads, *d_x.shape)
    block, row, shared = call.block, call.row, [call.scalar, call.scalar, call.segments]
    length = d_x.shape[1]
    # All kernels write into one array, each into its own part, so that one sum serves all parameters.
    terms = jnp.zeros((*parameters.shape[:1], *call.grid, *call.parameters), jnp.float32)
    for form, saved_of_layer in zip(reversed(forms), reversed(computed), strict=True):
        x, normalised, queries, keys, values, attended, log_sums = saved_of_layer
        half, part = call.half(form, 1), call.part(form, 1)
        d_normalised, d_attended, d_queries, products, terms = call(
            kernels.finish_gradient_kernel,
            form,
            [*shared, block, block, block, row, row, call.block_sums, half, call.input(d_x), part],
            [block, block, block, call.block_sums, part],
            [*[call.padded_shape] * 3, call.sums_shape, terms],
            {11: 4},
        )(
            *(seed, rate, segments, normalised, attended, queries, keys, values),
            *(log_sums, parameters, d_x, terms),
        )
        half, part = call.half(form, 0), call.part(form, 0)
        d_x, terms = call(
            kernels.project_gradient_kernel,
            form,
            [
                *shared,
                call.input(x),
                row,
                block,
                block,
                row,
                *[call.row_sums] * 2,
                block,
                block,
                half,
                part,
            ],
            [block, part],
            [call.padded_shape, terms],
            {13: 1},
        )(
            *(seed, rate, segments, x, queries, keys, values, d_attended),
            *(log_sums, products, d_normalised, d_queries, parameters, terms),
        )
    return d_x[:, :length], terms.sum(axis=(1, 2)), None, None, None


_layers.defvjp(_forward, _backward)


class _Call:
    """Calls kernels on [R, L, D] with a program for each (row, block of positions); its attributes are the block specs of arrays."""

    def __init__(self, heads: int, rows: int, length: int, width: int) -> None:
        blocks, height = pl.cdiv(length, BLOCK), MATRICES * width + VECTORS
        padded = blocks * BLOCK
        self.grid, self.parameters = (rows, blocks), (height, width)
        self.block = pl.BlockSpec((None, BLOCK, width), lambda row, block: (row, block, 0))
        self.row = pl.BlockSpec((None, padded, width), lambda row, block: (row, 0, 0))
        self.segments = pl.BlockSpec((None, length), lambda row, block: (row, 0))
        self.block_sums = pl.BlockSpec((None, heads, BLOCK), lambda row, block: (row, 0, block))
        self.row_sums = pl.BlockSpec((None, heads, padded), lambda row, block: (row, 0, 0))
        self.scalar = pl.BlockSpec((1,), lambda row, block: (0,))
        self.padded_shape = jax.ShapeDtypeStruct((rows, padded, width), jnp.float32)
        self.sums_shape = jax.ShapeDtypeStruct((rows, heads, padded), jnp.float32)

    def input(self, x: jax.Array) -> pl.BlockSpec:
        """For [R, L, D], whose L may be no multiple of BLOCK, the whole row; for padded [R, L', D] the block of the program."""
        if x.shape == self.padded_shape.shape:
            return self.block
        return pl.BlockSpec((None, *x.shape[1:]), lambda row, block: (row, 0, 0))

    def half(self, form: LayerForm, half: int) -> pl.BlockSpec:
        """The parameters of half a layer, the same for every program."""
        return pl.BlockSpec(
            (None, *self.parameters), lambda row, block: (2 * form.layer + half, 0, 0)
        )

    def part(self, form: LayerForm, half: int) -> pl.BlockSpec:
        """The part of the gradients of half a layer's parameters that a program writes."""
        return pl.BlockSpec(
            (None, None, None, *self.parameters),
            lambda row, block: (2 * form.layer + half, row, block, 0, 0),
        )

    def __call__(
        self,
        kernel: Callable[..., None],
        form: LayerForm,
        inputs: Any,
        outputs: Any,
        shapes: Any,
        aliases: dict[int, int] | None = None,
    ) -> Callable[..., Any]:
        """The kernel over all rows and blocks of positions; `aliases`: indices of inputs whose memory outputs use."""
        return pl.pallas_call(
            functools.partial(kernel, form),
            grid=self.grid,
            in_specs=inputs,
            out_specs=outputs,
            out_shape=[jax.ShapeDtypeStruct(shape.shape, shape.dtype) for shape in shapes],
            input_output_aliases=aliases or {},
            compiler_params=backend.compiler_params(NUM_WARPS, NUM_STAGES),
            interpret=backend.interpret(),
            name=f"sasrec_{kernel.__name__.removesuffix('_kernel')}",
        )
