"""A range of the steps of a chunk, with bounds that the host chooses: one compiled program for any number of steps.

Separate programs for different numbers of steps would differ by rounding, because XLA fuses the body of each loop in its own way. Here the
bounds of the loop are arguments. So k = k1 + k2 steps in one call have bit for bit the result of k1 and then k2 steps, and the host may
choose the number of steps by the clock.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

Carry = TypeVar("Carry")


class StepBounds(NamedTuple):
    """Steps `first` to `end` (exclusive) of the S steps for which arrays were made.

    Attributes:
      first, end: [] int32.
      inputs: inputs of all S steps, `step_inputs.inputs_at_once`; None: they are drawn in each step.
    """

    first: Any
    end: Any
    inputs: Any = None


def run_within(
    body: Callable[[Carry, Any], tuple[Carry, jax.Array]], carry: Carry, xs: Any, bounds: StepBounds
) -> tuple[Carry, jax.Array]:
    """`jax.lax.scan` over the steps within bounds.

    Args:
      body: function of the carry and one step's leaves of `xs` that returns the new carry and a loss.
      carry: the carry before the first step.
      xs: a tree of arrays [S, ...].
      bounds: the steps to run.

    Returns:
      The carry after the last step, and losses [S, ...], which are 0 for the other steps.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
    loss = jax.eval_shape(body, carry, shapes)[1]
    steps = len(jax.tree.leaves(xs)[0])

    def one_step(k: jax.Array, state: tuple[Carry, jax.Array]) -> tuple[Carry, jax.Array]:
        carry, losses = state
        x = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, k, keepdims=False), xs)
        carry, loss = body(carry, x)
        return carry, jax.lax.dynamic_update_index_in_dim(losses, loss, k, 0)

    start = carry, jnp.zeros((steps, *loss.shape), loss.dtype)
    result: tuple[Carry, jax.Array] = jax.lax.fori_loop(bounds.first, bounds.end, one_step, start)
    return result
