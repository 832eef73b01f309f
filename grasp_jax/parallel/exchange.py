"""Ids are sent to the devices that have their rows, and the results that are computed from the rows are sent back.

Everything runs in `shard_map`: each device has T / n ids, and the device at position s of the n along the axis "table" has the rows s, s +
n, ... Ids that find no room in an exchange wait for the next one. So the loop runs until the fullest device is done, nearly always after
one exchange. The backward pass sends gradients in the same direction as the ids, and computes the results again on the devices with the
rows, so that no array of width E is stored.
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

SPARE = (
    4.0  # standard deviations of an even draw above its mean for which an exchange of rows has room
)


def slots(num_ids: int, devices: int, table: int) -> int:
    """Number of ids that one device sends in an exchange to each of the `table` devices that share the rows, if all devices together need
    `num_ids`.
    """
    mean = num_ids / (devices * table)
    return math.ceil(mean + (SPARE * math.sqrt(mean) if table > 1 else 0))


def by_owner(owner: jax.Array, shares: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[K] owners, of which those of `shares` own -> order [K] by owner, and the first place in it [shares] and number [shares] of each."""
    order = jnp.argsort(owner)
    counts = (owner[:, None] == jnp.arange(shares)).sum(axis=0)
    return order, jnp.cumsum(counts) - counts, counts


def ranks(owner: jax.Array, order: jax.Array, begin: jax.Array) -> jax.Array:
    """[K] place of each among those of its owner, of the results of `by_owner`."""
    within = jnp.arange(owner.size) - begin[jnp.minimum(owner, begin.size - 1)[order]]
    return jnp.zeros_like(owner).at[order].set(within, unique_indices=True)


def in_slots(
    order: jax.Array, begin: jax.Array, counts: jax.Array, first: jax.Array, room: int
) -> tuple[jax.Array, jax.Array]:
    """Who fills slots [shares * room], `room` for each owner and from its `first` on; and whether there is one."""
    within = first + jnp.arange(room)
    there = within < counts[:, None]
    place = jnp.where(there, begin[:, None] + within, 0)
    return order[place].ravel(), there.ravel()


def travel(x: jax.Array, devices: int, axis: str | tuple[str, ...]) -> jax.Array:
    """[devices * room, ...] of slots for each device along an axis of the mesh -> those that each device has for this one."""
    parts = x.reshape(devices, -1, *x.shape[1:])
    arrived: jax.Array = jax.lax.all_to_all(parts, axis, 0, 0)
    return arrived.reshape(x.shape)


def exchange(compute: Compute, mesh: Mesh, room: int) -> Compute:
    """The function of (operands, rows, ids [T], *sides [T]) -> [T, ...], with a gradient by the operands alone.

    Args:
      compute: of (operands, *rows [C, E], *sides [C]) -> [C, ...], row by row.
      mesh: T must be a multiple of its devices.
      room: ids that go from one device to one other at once.
    """
    device = _Device(compute, mesh.shape[TABLE], room)

    def on_mesh(function: Callable[..., Any], num_shared: int, out: P) -> Callable[..., Any]:
        def run(operands: Any, rows: Any, *shared: jax.Array) -> Any:
            specs = (P(), P(TABLE), *[P(ALL)] * num_shared)
            return jax.shard_map(
                function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False
            )(operands, rows, *shared)

        return run

    @jax.custom_vjp
    def exchanged(operands: Any, rows: Rows, ids: jax.Array, *sides: jax.Array) -> jax.Array:
        found: jax.Array = on_mesh(device.forward, 1 + len(sides), P(ALL))(
            operands, rows, ids, *sides
        )
        return found

    def exchanged_forward(operands: Any, rows: Any, *shared: jax.Array) -> tuple[jax.Array, Any]:
        return exchanged(operands, rows, *shared), (operands, rows, shared)

    def exchanged_backward(saved: Any, gradient: jax.Array) -> Any:
        operands, rows, shared = saved
        by_operands = on_mesh(device.backward, 1 + len(shared), P())(
            operands, rows, gradient, *shared
        )
        return (by_operands, *[None] * (1 + len(shared)))

    exchanged.defvjp(exchanged_forward, exchanged_backward)
    return exchanged


@dataclasses.dataclass(frozen=True)
class _Device:
    """What one device does of an exchange, within `shard_map`.

    Attributes:
      compute: as of `exchange`.
      shares: n, the devices along the axis "table".
      room: as of `exchange`.
    """

    compute: Compute
    shares: int
    room: int

    def travel(self, x: jax.Array) -> jax.Array:
        """`travel` between the devices that share the rows."""
        return travel(x, self.shares, TABLE)

    def sorted_by_owner(self, ids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Order of ids by owner; first place and number of each owner's; exchanges that the fullest device needs."""
        order, begin, counts = by_owner(ids % self.shares, self.shares)
        exchanges = jax.lax.pmax((counts.max() + self.room - 1) // self.room, ALL)
        return order, begin, counts, exchanges

    def answered(
        self, rows: Rows, ids: jax.Array, sides: tuple[jax.Array, ...], chosen: jax.Array
    ) -> list[jax.Array]:
        """The arguments of `compute` for the ids that other devices request from this one."""
        asked, *given = (self.travel(x[chosen]) for x in (ids // self.shares, *sides))
        return [*(table[asked] for table in rows), *given]

    def forward(self, operands: Any, rows: Rows, ids: jax.Array, *sides: jax.Array) -> jax.Array:
        """[T / n, ...] what is computed of this device's ids."""
        room = self.room
        order, begin, counts, exchanges = self.sorted_by_owner(ids)
        owner = ids % self.shares
        rank = ranks(owner, order, begin)

        def once(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            k, found = carry
            chosen, _ = in_slots(order, begin, counts, k * room, room)
            back = self.travel(self.compute(operands, *self.answered(rows, ids, sides, chosen)))
            slot = rank - k * room
            here = (slot >= 0) & (slot < room)
            own = back[owner * room + jnp.clip(slot, 0, room - 1)]
            return k + 1, jnp.where(here.reshape(-1, *[1] * (own.ndim - 1)), own, found)

        width = jax.eval_shape(self.compute, operands, *(table[ids] for table in rows), *sides)
        start = jnp.zeros((), jnp.int32), jnp.zeros(width.shape, width.dtype)
        return jax.lax.while_loop(lambda carry: carry[0] < exchanges, once, start)[1]

    def backward(
        self, operands: Any, rows: Rows, gradient: jax.Array, ids: jax.Array, *sides: jax.Array
    ) -> Any:
        """The gradient by the operands, the sum over all devices."""
        order, begin, counts, exchanges = self.sorted_by_owner(ids)

        def once(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
            k, total = carry
            chosen, there = in_slots(order, begin, counts, k * self.room, self.room)
            reached = there.reshape(-1, *[1] * (gradient.ndim - 1))
            wanted = self.travel(jnp.where(reached, gradient[chosen], 0.0))
            given = self.answered(rows, ids, sides, chosen)
            (more,) = jax.vjp(lambda operands: self.compute(operands, *given), operands)[1](wanted)
            return k + 1, jax.tree.map(jnp.add, total, more)

        start = jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, operands)
        total = jax.lax.while_loop(lambda carry: carry[0] < exchanges, once, start)[1]
        return jax.lax.psum(total, ALL)
