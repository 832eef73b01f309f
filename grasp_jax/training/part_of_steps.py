"""Some of the steps of a dispatch, as many as the host asks for: one compiled program for any number of them.

A program for each number of steps would differ from the others by rounding, because XLA fuses the body of another loop in another way.
Here the bounds of the loop are arguments. So k steps at once are, bit for bit, k1 and then the k2 that are left, and the host may choose
by the clock how many it gives.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

Carry = TypeVar("Carry")


class Part(NamedTuple):
    """Steps `first` to `end` (exclusive) of the S steps for which arrays were made.

    Attributes:
      first, end: [] int32.
      inputs: inputs of all S steps, `step_inputs.inputs_at_once`; None: they are drawn in each step.
    """

    first: Any
    end: Any
    inputs: Any = None


def run_part(
    body: Callable[[Carry, Any], tuple[Carry, jax.Array]], carry: Carry, by_step: Any, part: Part
) -> tuple[Carry, jax.Array]:
    """`jax.lax.scan` of the steps of a part.

    Args:
      body: function of the carry and one step's leaves of `by_step` that returns the new carry and a loss.
      carry: the carry before the first step.
      by_step: a tree of arrays [S, ...].
      part: the steps to run.

    Returns:
      The carry after the last step, and losses [S, ...], which are 0 for steps outside the part.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), by_step)
    loss = jax.eval_shape(body, carry, shapes)[1]
    steps = len(jax.tree.leaves(by_step)[0])

    def once(k: jax.Array, known: tuple[Carry, jax.Array]) -> tuple[Carry, jax.Array]:
        of_step = jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), by_step
        )
        carry, loss = body(known[0], of_step)
        return carry, jax.lax.dynamic_update_index_in_dim(known[1], loss, k, 0)

    start = carry, jnp.zeros((steps, *loss.shape), loss.dtype)
    ended: tuple[Carry, jax.Array] = jax.lax.fori_loop(part.first, part.end, once, start)
    return ended
