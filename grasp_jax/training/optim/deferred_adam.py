"""Adam for an ID table of which a step reads few rows: the result of dense Adam on all rows, at the cost of the rows that are read.

A row without a gradient still moves under Adam, by a momentum that decays. From step t, its last one with a gradient, to step t + k it
moves by

    -lr m / (sqrt(v) + e sqrt(1 - b2^t))  sum_{j=1..k} r^j c(t+j),    r = b1 / sqrt(b2),  c(s) = sqrt(1 - b2^s) / (1 - b1^s),

which follows from Kingma and Ba, 2015 (arXiv 1412.6980), Algorithm 1 with its epsilon e fixed at step t; a movement changes by a share of
e / sqrt(v) at most. The sum is F(t) - r^k F(t+k), where F(t) = r (c(t+1) + F(t+1)) is tabulated. So rows are brought up to date when a step
reads them, and all rows after the last step of a dispatch (`with_table`). Updates are deferred but never skipped, unlike in "lazy" or
"sparse" Adam.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from grasp_jax.models.batch import Params
from grasp_jax.models.id_table_params import pop_id_table, put_id_table

B1, B2 = 0.9, 0.999  # optax's defaults
DECAY = B1 / np.sqrt(B2)
SETTLED = 20_000  # from this step on c(s) is 1 in float32
Rate = float | jax.Array  # learning rate; an array [] if each of several models has its own
# ratio of items to ids of a batch from which it pays on two cores (measured at c4c522a); on a GPU from some 30
DEFER_ABOVE = 12


class DeferredTable(NamedTuple):
    """An ID table and its moments; the updates of some rows are deferred.

    Attributes:
      rows: [V, 3D] parameters, first and second moments side by side, so that a step gathers and scatters once.
      updated: [V] int32 the number of steps that were applied to each row.
    """

    rows: jax.Array
    updated: jax.Array


@functools.cache
def _tail_sums() -> np.ndarray:
    """[SETTLED + 1] float32 F(t); computed once, because every trace of a step reads it."""
    steps = np.arange(1, SETTLED + 2, dtype=np.float64)
    correction = np.sqrt(1 - B2**steps) / (1 - B1**steps)
    sums = np.empty(SETTLED + 1)
    after = DECAY / (1 - DECAY)
    for t in range(SETTLED, -1, -1):
        sums[t] = after = DECAY * (correction[t] + after)
    tail_sums = sums.astype(np.float32)
    tail_sums.flags.writeable = False
    return tail_sums


def without_table(
    params: Params, adam: optax.ScaleByAdamState
) -> tuple[Params, optax.ScaleByAdamState, DeferredTable]:
    """Removes the table from the parameters and from Adam's state; all its rows must be up to date."""
    (params, table), (mu, first), (nu, second) = (
        pop_id_table(tree) for tree in (params, adam.mu, adam.nu)
    )
    rows = jnp.concatenate([table, first, second], axis=-1)
    return (
        params,
        adam._replace(mu=mu, nu=nu),
        DeferredTable(rows, jnp.full(len(rows), adam.count, jnp.int32)),
    )


def with_table(
    params: Params,
    adam: optax.ScaleByAdamState,
    table: DeferredTable,
    learning_rate: Rate,
    epsilon: float,
) -> tuple[Params, optax.ScaleByAdamState]:
    """Brings all rows up to date and puts the table back."""
    parts = jnp.split(
        _catch_up(table.rows, table.updated, adam.count, learning_rate, epsilon), 3, axis=-1
    )
    params, mu, nu = (
        put_id_table(tree, part)
        for tree, part in zip((params, adam.mu, adam.nu), parts, strict=True)
    )
    return params, adam._replace(mu=mu, nu=nu)


def defers(num_items: int, num_ids: int) -> bool:
    """Whether deferred updates are faster, for V items and a batch of `num_ids` history items and negatives."""
    return num_items > DEFER_ABOVE * num_ids


def distinct(ids: jax.Array, num_items: int) -> tuple[jax.Array, jax.Array]:
    """[T] ids -> [T] the distinct ids, padded with V; and [T] the position of each id among them."""
    rows, inverse = jnp.unique(ids, return_inverse=True, size=len(ids), fill_value=num_items)
    return rows, inverse


def parameters(rows: jax.Array) -> jax.Array:
    """[U, 3D] -> [U, D]."""
    return rows[:, : rows.shape[1] // 3]


def read_rows(
    table: DeferredTable, rows: jax.Array, steps: jax.Array, learning_rate: Rate, epsilon: float
) -> jax.Array:
    """[U, 3D] up-to-date parameters and moments of the [U] rows after `steps` steps; rows out of bounds read as 0."""
    read = table.rows.at[rows].get(mode="fill", fill_value=0.0)
    return _catch_up(
        read, table.updated.at[rows].get(mode="fill", fill_value=0), steps, learning_rate, epsilon
    )


def update_rows(
    table: DeferredTable,
    rows: jax.Array,
    read: jax.Array,
    gradient: jax.Array,
    steps: jax.Array,
    learning_rate: Rate,
    epsilon: float,
) -> DeferredTable:
    """Adam's step number `steps` on the rows from `read_rows`, with their [U, D] gradient; rows out of bounds are dropped."""
    parameters, first, second = jnp.split(read, 3, axis=-1)
    first = B1 * first + (1 - B1) * gradient
    second = B2 * second + (1 - B2) * gradient**2
    correction_1, correction_2 = (
        1 - B1 ** steps.astype(jnp.float32),
        1 - B2 ** steps.astype(jnp.float32),
    )
    parameters -= (
        learning_rate * (first / correction_1) / (jnp.sqrt(second / correction_2) + epsilon)
    )
    new = jnp.concatenate([parameters, first, second], axis=-1)
    return DeferredTable(
        table.rows.at[rows].set(new, mode="drop", unique_indices=True),
        table.updated.at[rows].set(steps, mode="drop", unique_indices=True),
    )


def _catch_up(
    rows: jax.Array, updated: jax.Array, steps: jax.Array, learning_rate: Rate, epsilon: float
) -> jax.Array:
    """The result of dense Adam on rows [U, 3D] without a gradient, from step `updated` [U] to `steps` []."""
    parameters, first, second = jnp.split(rows, 3, axis=-1)
    missed = (steps - updated).astype(jnp.float32)[:, None]
    tail_sums = jnp.asarray(_tail_sums())
    sums = (
        tail_sums[jnp.minimum(updated, SETTLED)][:, None]
        - DECAY**missed * tail_sums[jnp.minimum(steps, SETTLED)]
    )
    t = jnp.maximum(updated, 1).astype(jnp.float32)[:, None]
    parameters -= learning_rate * first / (jnp.sqrt(second) + epsilon * jnp.sqrt(1 - B2**t)) * sums
    return jnp.concatenate([parameters, B1**missed * first, B2**missed * second], axis=-1)
