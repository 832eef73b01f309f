"""Sends ids to the devices that have their rows, and sends back the results that are computed from the rows (all-to-all).

Everything runs in `shard_map`: each device has T / n ids, and the device at position s of the n along the axis "table" has the rows s, s +
n, ... An exchange has a capacity, as for the experts of a mixture of experts; ids beyond it wait for the next exchange. So the loop runs
until the device with the most ids is done, nearly always after one exchange. The backward pass sends gradients in the same direction as
the ids, and computes the results again on the devices with the rows, so that no array of width E is stored.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from grasp_jax.parallel.mesh import ALL, TABLE

Rows = tuple[jax.Array, ...]
Compute = Callable[..., jax.Array]

# An exchange has capacity for so many standard deviations above the mean number of ids, if these are spread evenly at random.
CAPACITY_DEVIATIONS = 4.0


def id_capacity(num_ids: int, devices: int, table: int) -> int:
    """Number of ids that one device sends in an exchange to each of the `table` devices that share the rows, if all devices together need
    `num_ids`.
    """
    mean = num_ids / (devices * table)
    return math.ceil(mean + (CAPACITY_DEVIATIONS * math.sqrt(mean) if table > 1 else 0))


def sort_by_owner(owner: jax.Array, num_owners: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sorts entries by the device that has their row.

    Args:
      owner: [entries] int32; those with `num_owners` or more come last.
      num_owners: number of devices.

    Returns:
      The order [entries]; and for each owner [num_owners] the first position in the order, and the number of its entries.
    """
    order = jnp.argsort(owner)
    counts = (owner[:, None] == jnp.arange(num_owners)).sum(axis=0)
    return order, jnp.cumsum(counts) - counts, counts


def rank_within_owner(owner: jax.Array, order: jax.Array, begin: jax.Array) -> jax.Array:
    """[entries] position of each entry among the entries of its owner, from the results of `sort_by_owner`."""
    rank = jnp.arange(owner.size) - begin[jnp.minimum(owner, begin.size - 1)[order]]
    return jnp.zeros_like(owner).at[order].set(rank, unique_indices=True)


def entries_to_send(
    order: jax.Array, begin: jax.Array, counts: jax.Array, first: jax.Array, capacity: int
) -> tuple[jax.Array, jax.Array]:
    """The entries of one exchange: `capacity` for each owner, from its entry `first` on.

    Returns:
      [num_owners * capacity] index of an entry for each slot, and bool, whether the slot is filled.
    """
    rank = first + jnp.arange(capacity)
    filled = rank < counts[:, None]
    position = jnp.where(filled, begin[:, None] + rank, 0)
    return order[position].ravel(), filled.ravel()


def all_to_all(x: jax.Array, devices: int, axis: str | tuple[str, ...]) -> jax.Array:
    """[devices * capacity, ...] slots for each device along an axis of the mesh -> the slots that each device has sent to this one."""
    parts = x.reshape(devices, -1, *x.shape[1:])
    received: jax.Array = jax.lax.all_to_all(parts, axis, 0, 0)
    return received.reshape(x.shape)


def exchange(compute: Compute, mesh: Mesh, capacity: int) -> Compute:
    """Makes the function of (operands, rows, ids [T], *sides [T]) -> [T, ...], which is differentiable only with respect to the operands.

    Args:
      compute: function of (operands, *rows [C, E], *sides [C]) -> [C, ...], row by row.
      mesh: its number of devices must divide T.
      capacity: number of ids that one device sends to each other device in an exchange.
    """
    device = _ExchangeDevice(compute, mesh.shape[TABLE], capacity)

    def on_mesh(function: Callable[..., Any], num_shared: int, out: P) -> Callable[..., Any]:
        def run(operands: Any, rows: Any, *shared: jax.Array) -> Any:
            specs = (P(), P(TABLE), *[P(ALL)] * num_shared)
            return jax.shard_map(
                function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False
            )(operands, rows, *shared)

        return run

    @jax.custom_vjp
    def exchanged(operands: Any, rows: Rows, ids: jax.Array, *sides: jax.Array) -> jax.Array:
        results: jax.Array = on_mesh(device.forward, 1 + len(sides), P(ALL))(
            operands, rows, ids, *sides
        )
        return results

    def exchanged_forward(operands: Any, rows: Any, *shared: jax.Array) -> tuple[jax.Array, Any]:
        return exchanged(operands, rows, *shared), (operands, rows, shared)

    def exchanged_backward(saved: Any, gradient: jax.Array) -> Any:
        operands, rows, shared = saved
        d_operands = on_mesh(device.backward, 1 + len(shared), P())(
            operands, rows, gradient, *shared
        )
        return (d_operands, *[None] * (1 + len(shared)))

    exchanged.defvjp(exchanged_forward, exchanged_backward)
    return exchanged


@dataclasses.dataclass(frozen=True)
class _ExchangeDevice:
    """The computation of one device in an exchange, within `shard_map`.

    Attributes:
      compute: as in `exchange`.
      shares: n, the number of devices along the axis "table".
      capacity: as in `exchange`.
    """

    compute: Compute
    shares: int
    capacity: int

    def all_to_all(self, x: jax.Array) -> jax.Array:
        """`all_to_all` between the devices that share the rows."""
        return all_to_all(x, self.shares, TABLE)

    def sort_by_owner(self, ids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """The results of `sort_by_owner` for ids, and the number of exchanges until the device with the most ids is done."""
        order, begin, counts = sort_by_owner(ids % self.shares, self.shares)
        exchanges = jax.lax.pmax((counts.max() + self.capacity - 1) // self.capacity, ALL)
        return order, begin, counts, exchanges

    def requested_arguments(
        self, rows: Rows, ids: jax.Array, sides: tuple[jax.Array, ...], sent: jax.Array
    ) -> list[jax.Array]:
        """The arguments of `compute` for the ids that other devices request from this one; `sent`: this device's entries to send."""
        requested, *side_values = (self.all_to_all(x[sent]) for x in (ids // self.shares, *sides))
        return [*(table[requested] for table in rows), *side_values]

    def forward(self, operands: Any, rows: Rows, ids: jax.Array, *sides: jax.Array) -> jax.Array:
        """[T / n, ...] the results for this device's ids."""
        capacity = self.capacity
        order, begin, counts, exchanges = self.sort_by_owner(ids)
        owner = ids % self.shares
        rank = rank_within_owner(owner, order, begin)

        def one_exchange(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            k, results = carry
            sent, _ = entries_to_send(order, begin, counts, k * capacity, capacity)
            arguments = self.requested_arguments(rows, ids, sides, sent)
            received = self.all_to_all(self.compute(operands, *arguments))
            slot = rank - k * capacity
            was_sent = (slot >= 0) & (slot < capacity)
            new = received[owner * capacity + jnp.clip(slot, 0, capacity - 1)]
            return k + 1, jnp.where(was_sent.reshape(-1, *[1] * (new.ndim - 1)), new, results)

        shape = jax.eval_shape(self.compute, operands, *(table[ids] for table in rows), *sides)
        start = jnp.zeros((), jnp.int32), jnp.zeros(shape.shape, shape.dtype)
        return jax.lax.while_loop(lambda carry: carry[0] < exchanges, one_exchange, start)[1]

    def backward(
        self, operands: Any, rows: Rows, gradient: jax.Array, ids: jax.Array, *sides: jax.Array
    ) -> Any:
        """The gradient with respect to the operands, the sum over all devices."""
        order, begin, counts, exchanges = self.sort_by_owner(ids)

        def one_exchange(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
            k, total = carry
            sent, filled = entries_to_send(order, begin, counts, k * self.capacity, self.capacity)
            filled = filled.reshape(-1, *[1] * (gradient.ndim - 1))
            received = self.all_to_all(jnp.where(filled, gradient[sent], 0.0))
            arguments = self.requested_arguments(rows, ids, sides, sent)
            _, vjp = jax.vjp(lambda operands: self.compute(operands, *arguments), operands)
            return k + 1, jax.tree.map(jnp.add, total, vjp(received)[0])

        start = jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, operands)
        total = jax.lax.while_loop(lambda carry: carry[0] < exchanges, one_exchange, start)[1]
        return jax.lax.psum(total, ALL)
