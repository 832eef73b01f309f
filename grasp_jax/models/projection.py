"""How the text vectors of a batch's items are projected: for each token, or once for the whole catalogue and then by lookup.

To project each distinct item of a batch once is not offered. It would save arithmetic only if a bound on their number were below the number
of tokens, but negatives are drawn uniformly, so nearly all ids of a batch are distinct.
"""

import jax
import jax.numpy as jnp

# ratio of items to ids of a batch; measured on two cores: at 0.3 steps are 1.4 times as fast, at 0.8 equally fast
TABLE_BELOW = 0.8


def choose_projection(num_items: int, num_ids: int) -> str:
    """ "token" or "table", whichever is cheaper for V items and a batch of `num_ids` history items and negatives."""
    return "table" if num_items < TABLE_BELOW * num_ids else "token"


@jax.custom_vjp
def take_rows(rows: jax.Array, index: jax.Array) -> jax.Array:
    """`rows[index]` for [U, ...] rows and [T] index, whose backward pass sorts and sums segments instead of scattering."""
    return rows[index]


def _take_forward(rows: jax.Array, index: jax.Array) -> tuple[jax.Array, tuple[jax.Array, int]]:
    return rows[index], (index, rows.shape[0])


def _take_backward(saved: tuple[jax.Array, int], gradient: jax.Array) -> tuple[jax.Array, None]:
    index, num_rows = saved
    order = jnp.argsort(index)
    summed = jax.ops.segment_sum(
        gradient[order], index[order], num_segments=num_rows, indices_are_sorted=True
    )
    return summed, None


take_rows.defvjp(_take_forward, _take_backward)
