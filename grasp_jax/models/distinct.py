"""Choosing how items of a batch meet the E-wide tables: each token by itself, each distinct item once, or the whole table.

Projecting distinct items saves arithmetic where a batch repeats items, at the price of a sort and of a gather whose backward adds
rows up; `choose_projection` counts which is cheaper.
"""

import jax
import jax.numpy as jnp
import numpy as np

DISTINCT_BELOW = 0.6  # share of distinct items under which sorting is taken to pay: a guess, not yet measured


def choose_projection(item_counts: np.ndarray, history_ids: int, negative_ids: int) -> str:
    """ "token", "distinct" or "table" from the expected number of distinct items of a batch.

    Args:
      item_counts: [V] training frequency; history ids are drawn in proportion, negatives uniformly.
      history_ids, negative_ids: ids of each kind in one batch.
    """
    total = history_ids + negative_ids
    share = item_counts / max(item_counts.sum(), 1)
    unseen = np.exp(history_ids * np.log1p(-np.minimum(share, 1 - 1e-9))) * (1 - 1 / len(item_counts)) ** negative_ids
    distinct = float((1 - unseen).sum())
    if distinct > DISTINCT_BELOW * total:
        return "token"
    return "table" if distinct > DISTINCT_BELOW * len(item_counts) else "distinct"


@jax.custom_vjp
def take_rows(rows: jax.Array, index: jax.Array) -> jax.Array:
    """`rows[index]` for [M, ...] rows and [T] index, whose backward sorts and sums segments instead of scattering."""
    return rows[index]


def _take_forward(rows: jax.Array, index: jax.Array) -> tuple[jax.Array, tuple[jax.Array, int]]:
    return rows[index], (index, rows.shape[0])


def _take_backward(saved: tuple[jax.Array, int], gradient: jax.Array) -> tuple[jax.Array, None]:
    index, num_rows = saved
    order = jnp.argsort(index)
    summed = jax.ops.segment_sum(gradient[order], index[order], num_segments=num_rows, indices_are_sorted=True)
    return summed, None


take_rows.defvjp(_take_forward, _take_backward)
