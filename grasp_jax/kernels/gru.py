"""The recurrence of a gated recurrent unit over packed rows as one kernel, with the loop over positions inside the kernel.

In a scan, each position is a launch that reads the recurrent weights again and multiplies a few rows by them. Here each program of the
kernel keeps the state of a block of rows on the chip, and the weights if they fit, during its loop over positions (persistent RNNs: Diamos
et al., 2016). The backward pass loops over the positions in reverse and computes the gates again from the saved states.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from grasp_jax.kernels import backend

BLOCK = 16  # rows: the least that a matrix product takes
# bytes of weights that a kernel holds: D=64 in float32; the smallest GPUs have 99 KiB for them and for all else
ON_CHIP = 2**16
_NUM_STAGES = 1  # the loop carries a state, so there is nothing to load ahead of it
_RESET, _UPDATE, _NEW = range(3)  # thirds of `from_input` and `recurrent`


def gru(
    from_input: jax.Array, recurrent: jax.Array, first: jax.Array, start: jax.Array
) -> jax.Array:
    """States of one layer: r, z = sigmoid(x W + h U), n = tanh(x W_n + r (h U_n)), h' = (1 - z) n + z h, by kernels forward and backward.

    Args:
      from_input: [R, L, 3D] input shares x W in the order r, z, n; float32 or bfloat16. Matrix products are in its type.
      recurrent: [D, 3D] weights U of the state.
      first: [R, L] bool where a history begins.
      start: [D] float32 state before that, and before each row.

    Returns:
      [R, L, D] float32; R and L may be 0.
    """
    rows, length, _ = from_input.shape
    features = recurrent.shape[0]
    if not rows or not length:  # a kernel has at least one program and one position
        return jnp.zeros((rows, length, features), jnp.float32)
    extra_features = max(16, pl.next_power_of_2(features)) - features
    extra_rows = -rows % BLOCK
    # A kernel cannot slice a value, so the thirds have a separate axis. Padded features have states of zero.
    shares = jnp.pad(
        from_input.reshape(rows, length, 3, features),
        ((0, extra_rows), (0, 0), (0, 0), (0, extra_features)),
    )
    weights = jnp.pad(
        recurrent.reshape(features, 3, features), ((0, extra_features), (0, 0), (0, extra_features))
    )
    begins = jnp.pad(first, ((0, extra_rows), (0, 0))).at[:, 0].set(True).astype(jnp.int32)
    start = jnp.pad(start, (0, extra_features))
    states = _unroll(shares, weights.astype(from_input.dtype), begins, start)
    return states[:rows, :, :features]


def gru_scan(
    from_input: jax.Array, recurrent: jax.Array, first: jax.Array, start: jax.Array, unroll: int = 1
) -> jax.Array:
    """[R, L, D] float32, the result of `gru` for the same arguments, by a scan over positions, `unroll` of them in an iteration, with
    gradients by autodiff.
    """
    rows, _, width = from_input.shape
    features = width // 3
    recurrent = recurrent.astype(from_input.dtype)

    def step(state: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        share, begins = inputs
        state = jnp.where(begins[:, None], start, state)
        from_state = jnp.matmul(
            state.astype(recurrent.dtype), recurrent, preferred_element_type=jnp.float32
        )
        r, z = jnp.split(
            jax.nn.sigmoid(share[:, : 2 * features] + from_state[:, : 2 * features]), 2, axis=1
        )
        n = jnp.tanh(share[:, 2 * features :] + r * from_state[:, 2 * features :])
        state = (1.0 - z) * n + z * state
        return state, state

    inputs = (from_input.astype(jnp.float32).swapaxes(0, 1), first.T)
    states: jax.Array = jax.lax.scan(
        step, jnp.broadcast_to(start, (rows, features)), inputs, unroll=unroll
    )[1]
    return states.swapaxes(0, 1)


@jax.custom_vjp
def _unroll(
    shares: jax.Array, weights: jax.Array, begins: jax.Array, start: jax.Array
) -> jax.Array:
    """States [R, L, D] of shares [R, L, 3, D], weights [D, 3, D], begins [R, L] int32, which is 1 at the first position, and start [D].

    R is a multiple of BLOCK, D a power of two from 16 on; weights have the type of shares.
    """
    rows, length, _, features = shares.shape
    share, whole, begin, state, vector = _specs(length, features)
    states: jax.Array = pl.pallas_call(
        _forward_kernel,
        grid=(rows // BLOCK,),
        in_specs=[share, whole, begin, vector],
        out_specs=state,
        out_shape=jax.ShapeDtypeStruct((rows, length, features), jnp.float32),
        compiler_params=backend.compiler_params(_num_warps(features), _NUM_STAGES),
        interpret=backend.interpret(),
        name="gru_forward",
    )(shares, weights, begins, start)
    return states


def _forward(
    shares: jax.Array, weights: jax.Array, begins: jax.Array, start: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    states = _unroll(shares, weights, begins, start)
    return states, (shares, weights, begins, start, states)


def _backward(saved: tuple[jax.Array, ...], d_states: jax.Array) -> tuple[Any, ...]:
    shares, weights, begins, start, states = saved
    rows, length, _, features = shares.shape
    share, whole, begin, state, _ = _specs(length, features)
    # Products that need no recurrence are not in the kernel: one product over all positions uses the whole device, and the kernel needs the
    # weights in one layout only.
    earlier = jnp.pad(states[:, :-1], ((0, 0), (1, 0), (0, 0)))
    earlier = jnp.where(begins[:, :, None] > 0, start, earlier)
    lowered = earlier.astype(weights.dtype)
    from_states = jnp.einsum("rld,dte->rlte", lowered, weights, preferred_element_type=jnp.float32)
    d_shares, d_products, d_start = pl.pallas_call(
        _backward_kernel,
        grid=(rows // BLOCK,),
        in_specs=[share, share, whole, begin, state, state],
        out_specs=[share, share, pl.BlockSpec((None, features), lambda block: (block, 0))],
        out_shape=[
            jax.ShapeDtypeStruct(shares.shape, shares.dtype),
            jax.ShapeDtypeStruct(shares.shape, shares.dtype),
            jax.ShapeDtypeStruct((rows // BLOCK, features), jnp.float32),
        ],
        compiler_params=backend.compiler_params(_num_warps(features), _NUM_STAGES),
        interpret=backend.interpret(),
        name="gru_backward",
    )(shares, from_states, weights, begins, earlier, d_states)
    d_weights = jnp.einsum("rld,rlte->dte", lowered, d_products, preferred_element_type=jnp.float32)
    return d_shares, d_weights.astype(weights.dtype), None, d_start.sum(axis=0)


_unroll.defvjp(_forward, _backward)


def _specs(length: int, features: int) -> tuple[pl.BlockSpec, ...]:
    """Of a block of rows: shares, all weights, begins, states and the start vector."""
    return (
        pl.BlockSpec((BLOCK, length, 3, features), lambda block: (block, 0, 0, 0)),
        pl.BlockSpec((features, 3, features), lambda block: (0, 0, 0)),
        pl.BlockSpec((BLOCK, length), lambda block: (block, 0)),
        pl.BlockSpec((BLOCK, length, features), lambda block: (block, 0, 0)),
        pl.BlockSpec((features,), lambda block: (0,)),
    )


def _num_warps(features: int) -> int:
    """So many that the weights' share of a thread fits its registers."""
    return 4 if features <= 64 else 8


def _thirds(weights: Any) -> Callable[[int], jax.Array]:
    """Third -> [D, D] weights: read once where they fit on the chip, or else where they are used, from a cache."""
    if math.prod(weights.shape) * weights.dtype.itemsize > ON_CHIP:
        return lambda third: weights[:, third, :]
    return [weights[:, third, :] for third in range(3)].__getitem__


def _gates(
    from_input: list[jax.Array], from_state: list[jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """r, z and n of the thirds of x W and h U, each [BLOCK, D] float32."""
    r = jax.nn.sigmoid(from_input[_RESET] + from_state[_RESET])
    z = jax.nn.sigmoid(from_input[_UPDATE] + from_state[_UPDATE])
    return r, z, jnp.tanh(from_input[_NEW] + r * from_state[_NEW])


def _forward_kernel(shares: Any, weights: Any, begins: Any, start: Any, states: Any) -> None:
    third_of = _thirds(weights)
    initial = jnp.broadcast_to(start[...][None, :], (BLOCK, start.shape[0]))

    def step(position: jax.Array, state: jax.Array) -> jax.Array:
        state = jnp.where(begins[:, position][:, None] > 0, initial, state)
        lowered = state.astype(weights.dtype)
        from_state = [
            jnp.dot(lowered, third_of(third), preferred_element_type=jnp.float32)
            for third in range(3)
        ]
        _, z, n = _gates(
            [shares[:, position, third, :].astype(jnp.float32) for third in range(3)], from_state
        )
        state = (1.0 - z) * n + z * state
        states[:, position, :] = state
        return state

    jax.lax.fori_loop(0, states.shape[1], step, initial)


def _backward_kernel(*refs: Any) -> None:
    """From h U and h; `d_products` is the gradient of h U, whose first two thirds are the input shares' own."""
    shares, from_states, weights, begins, earlier, d_states, d_shares, d_products, d_start = refs
    third_of = _thirds(weights)
    _, length, features = earlier.shape

    def step(back: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        d_state, d_initial = carry
        position = length - 1 - back
        from_state = [from_states[:, position, third, :] for third in range(3)]
        r, z, n = _gates(
            [shares[:, position, third, :].astype(jnp.float32) for third in range(3)], from_state
        )
        d_state += d_states[:, position, :]
        d_new = d_state * (1.0 - z) * (1.0 - n * n)
        d_update = d_state * (earlier[:, position, :] - n) * z * (1.0 - z)
        d_reset = d_new * from_state[_NEW] * r * (1.0 - r)
        d_product = [given.astype(d_shares.dtype) for given in (d_reset, d_update, d_new * r)]
        d_share = [*d_product[:_NEW], d_new.astype(d_shares.dtype)]
        for third in range(3):
            d_shares[:, position, third, :] = d_share[third]
            d_products[:, position, third, :] = d_product[third]
        d_earlier = d_state * z
        for third in range(3):
            d_earlier += jnp.dot(
                d_product[third], third_of(third).T, preferred_element_type=jnp.float32
            )
        begin = begins[:, position][:, None] > 0
        return jnp.where(begin, 0.0, d_earlier), d_initial + jnp.where(begin, d_earlier, 0.0)

    nothing = jnp.zeros((BLOCK, features))
    _, d_initial = jax.lax.fori_loop(0, length, step, (nothing, nothing))
    d_start[...] = jnp.sum(d_initial, axis=0)
