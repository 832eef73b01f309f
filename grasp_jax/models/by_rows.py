"""Arrays stored row by row on a GPU, where XLA would store the transpose.

XLA's compiler for GPUs transposed the results of SASRec's small products. Then it wrote each bias as a whole matrix before the product, and
needed more kernels for each norm: a step had 10 to 12 more (docs/kernels.md). The values are the same.
"""

from typing import Any

import jax
from jax.experimental.layout import Layout, with_layout_constraint


def by_rows(x: jax.Array) -> jax.Array:
    """The same values, the last axis side by side in memory."""
    constrained: jax.Array = with_layout_constraint(x, Layout(tuple(range(x.ndim))))
    return constrained


def product_by_rows(
    left: jax.Array, right: jax.Array, dimensions: Any, **options: Any
) -> jax.Array:
    """`jax.lax.dot_general`, in the place of which `flax.linen.Dense` takes it."""
    return by_rows(jax.lax.dot_general(left, right, dimensions, **options))
