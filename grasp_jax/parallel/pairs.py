"""What is computed of pairs of a user's row and an item's row, which lie on different devices: where the two meet, and what travels.

Devices that differ along "table" alone are a group; they are neighbours, and together they hold every item. A user's row goes to the
others of the group of its device and no farther. Then the ids of a pair go to the device of that group that holds the item, and a few
numbers come back: 16 bytes a pair, where a row has 2E numbers. Nothing is sent of rows where each device holds all items.

Room decides the time of that and never its result: users and pairs that find none in an exchange wait for the next. Of what arrives a
device computes a block at a time, so that slots that stayed empty cost bytes and no arithmetic.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from grasp_jax.parallel.exchange import SPARE, by_owner, in_slots, ranks, slots, travel
from grasp_jax.parallel.mesh import ALL, TABLE, repeated
from grasp_jax.parallel.rows import ShardedRows, Table

Rows = tuple[jax.Array, ...]

TOGETHER = 32  # pairs that have one user and so one way; they make draws less even, and room wider
BLOCK = 1.25  # pairs that a device computes at a time, over an equal share of all


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AskedRows:
    """The rows of some tables that a step needs; none of these tables is on every device.

    Attributes:
      rows: a table [n * C, E] each, of the n devices.
      ids: [B] int32 the needed rows, as positions in `ShardedRows`; a value of `num_rows` or more means no row. None: all of `rows`, in
        their order, B / n of them on each device.
      num_rows: of the whole table.
    """

    rows: Rows
    ids: jax.Array | None
    num_rows: int = dataclasses.field(metadata={"static": True})
    mesh: Mesh = dataclasses.field(metadata={"static": True})

    @property
    def count(self) -> int:
        """B."""
        return int(self.rows[0].shape[0] if self.ids is None else self.ids.size)

    @property
    def room(self) -> int:
        """Rows that a device shows its group at once."""
        return room_of_rows(self.count, self.mesh.size, self.ids is not None)

    def everywhere(self) -> Rows:
        """[B, E] rows on every device, from each table: all E numbers of a row travel to all."""
        with jax.named_scope("users_rows"):
            if self.ids is None:
                return tuple(repeated(self.mesh, rows) for rows in self.rows)
            known = jnp.where(self.ids < self.num_rows, self.ids, 0)
            tables = (ShardedRows(rows, self.num_rows, self.mesh, ALL) for rows in self.rows)
            return tuple(table[known] for table in tables)


def asked_of_tables(tables: tuple[ShardedRows, ...], ids: jax.Array) -> AskedRows:
    """The rows [B] of tables that all devices share out."""
    first = tables[0]
    assert all(table.axes == ALL for table in tables)
    return AskedRows(tuple(table.rows for table in tables), ids, first.num_rows, first.mesh)


def room_of_rows(count: int, devices: int, drawn: bool) -> int:
    """Number of rows that a device sends to its group at once: an equal share of the `count` needed rows, and more if ids decide on which
    device they are.
    """
    return min(count, slots(count, 1, devices)) if drawn else count // devices


def room_of_pairs(count: int, devices: int) -> int:
    """Number of pairs that one device sends to another at once, if all devices together need `count`."""
    own = math.ceil(count / devices)
    mean = own / devices
    return min(own, math.ceil(mean + SPARE * math.sqrt(mean * TOGETHER)))


def from_pairs(
    compute: Callable[..., jax.Array],
    asked: AskedRows,
    tables: tuple[Table, ...],
    places: jax.Array,
    ids: jax.Array,
) -> jax.Array:
    """`compute(*(rows[places] for rows in asked), *(table[ids] for table in tables))`, computed on the devices that have the rows; without
    a gradient.

    Args:
      compute: of arrays [C, E], row by row -> [C, ...].
      asked: the needed rows of two tables or more.
      tables: rows of them are shared out along the axis "table", or lie on every device of a mesh that has one part of them.
      places: [...] int32 below the number of `asked`.
      ids: [...] int32 rows of `tables`.
    """
    mesh, count = asked.mesh, ids.size
    flat = [jnp.pad(x.ravel(), (0, -count % mesh.size)) for x in (places, ids)]
    room = room_of_pairs(count, mesh.size)
    block = min(math.ceil(BLOCK * flat[0].size / mesh.size), mesh.size * room)
    shares = mesh.shape[TABLE]
    device = _Device(compute, shares, mesh.size, asked.room, room, block, asked.num_rows)
    assert shares == 1 or all(isinstance(table, ShardedRows) for table in tables)
    by_rows = tuple(table.rows if isinstance(table, ShardedRows) else table for table in tables)
    specs = (P(ALL), P(), P(TABLE) if shares > 1 else P(), P(ALL), P(ALL))
    found = jax.shard_map(
        device.compute_pairs, mesh=mesh, in_specs=specs, out_specs=P(ALL), check_vma=False
    )(asked.rows, asked.ids, by_rows, *flat)
    return found[:count].reshape(*ids.shape, *found.shape[1:])


@dataclasses.dataclass(frozen=True)
class _Device:
    """What one device does, within `shard_map`.

    Attributes:
      compute: as of `from_pairs`.
      shares: devices of a group.
      devices: n.
      room_of_rows, room_of_pairs: as the functions say.
      block: pairs that are computed at a time.
      num_rows: as of `AskedRows`.
    """

    compute: Callable[..., jax.Array]
    shares: int
    devices: int
    room_of_rows: int
    room_of_pairs: int
    block: int
    num_rows: int

    def compute_pairs(
        self, rows: Rows, ids: jax.Array | None, tables: Rows, places: jax.Array, items: jax.Array
    ) -> jax.Array:
        """[K / n, ...] of this device's pairs: exchanges until all are done, first those of the users that find room first."""
        owner, rank, turns = self._users(rows, ids)
        turn = rank[places] // self.room_of_rows
        of_group = owner % self.shares * self.room_of_rows + rank % self.room_of_rows
        addresses = jnp.stack([of_group[places], items // self.shares], axis=1)
        to = owner[places] // self.shares * self.shares + items % self.shares

        def once(carry: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
            now, k, found = carry
            destination = jnp.where(turn == now, to, self.devices)
            order, begin, counts = by_owner(destination, self.devices)
            first = k * self.room_of_pairs
            chosen, there = in_slots(order, begin, counts, first, self.room_of_pairs)
            with jax.named_scope("users_rows"):
                group = self._group_rows(rows, ids, owner, rank, now)
            asked = travel(jnp.where(there[:, None], addresses[chosen], -1), self.devices, ALL)
            back = travel(self._answers(group, tables, asked), self.devices, ALL)
            slot = ranks(destination, order, begin) - first
            here = (turn == now) & (slot >= 0) & (slot < self.room_of_pairs)
            own = back[to * self.room_of_pairs + jnp.clip(slot, 0, self.room_of_pairs - 1)]
            found = jnp.where(here.reshape(-1, *[1] * (own.ndim - 1)), own, found)
            left = jax.lax.pmax(counts.max() - first - self.room_of_pairs, ALL)
            return jnp.where(left > 0, now, now + 1), jnp.where(left > 0, k + 1, 0), found

        answer = self._answer_of(rows, tables)
        found = jnp.zeros((len(places), *answer.shape[1:]), answer.dtype)
        zero = jnp.zeros((), jnp.int32)
        return jax.lax.while_loop(lambda carry: carry[0] < turns, once, (zero, zero, found))[2]

    def _users(
        self, rows: Rows, ids: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array | int]:
        """For the needed users: the device [B] that has the row, the position [B] among the needed users of this device, and the number of
        turns.
        """
        if ids is None:
            every = jnp.arange(self.devices * len(rows[0]), dtype=jnp.int32)
            return every // len(rows[0]), every % len(rows[0]), 1
        exists = ids < self.num_rows
        owner = jnp.where(exists, ids % self.devices, self.devices)
        order, begin, counts = by_owner(owner, self.devices)
        rank = jnp.where(exists, ranks(owner, order, begin), 0)
        nobody = jnp.arange(ids.size, dtype=ids.dtype) % self.devices  # as evenly as the others
        turns = jnp.maximum((counts.max() + self.room_of_rows - 1) // self.room_of_rows, 1)
        return jnp.where(exists, owner, nobody), rank, turns

    def _group_rows(
        self,
        rows: Rows,
        ids: jax.Array | None,
        owner: jax.Array,
        rank: jax.Array,
        turn: jax.Array,
    ) -> Rows:
        """[shares * room, E] rows of the users of this turn, those of the whole group."""
        own = rows
        if ids is not None:
            slot = rank - turn * self.room_of_rows
            mine = (owner == jax.lax.axis_index(ALL)) & (ids < self.num_rows) & (slot >= 0)
            empty = jnp.zeros(self.room_of_rows, ids.dtype)
            slot = jnp.where(mine, slot, self.room_of_rows)
            lie = empty.at[slot].set(ids // self.devices, mode="drop")
            own = tuple(table[lie] for table in rows)
        return tuple(jax.lax.all_gather(table, TABLE, tiled=True) for table in own)

    def _answers(self, group: Rows, tables: Rows, asked: jax.Array) -> jax.Array:
        """[n * room, ...] values for the addresses [n * room, 2] that other devices request from this one, -1 for none."""
        there = asked[:, 0] >= 0
        order = jnp.argsort(~there)
        padded = jnp.pad(order, (0, self.block), constant_values=len(order))
        answer = self._answer_of(group, tables)

        def once(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            first, found = carry
            slot = jax.lax.dynamic_slice_in_dim(padded, first, self.block)
            user, item = jnp.maximum(asked[jnp.minimum(slot, len(order) - 1)], 0).T
            computed = self.compute(*(x[user] for x in group), *(x[item] for x in tables))
            return first + self.block, found.at[slot].set(computed, mode="drop")

        start = jnp.zeros((), jnp.int32), jnp.zeros((len(asked), *answer.shape[1:]), answer.dtype)
        count = there.sum()
        return jax.lax.while_loop(lambda carry: carry[0] < count, once, start)[1]

    def _answer_of(self, rows: Rows, tables: Rows) -> jax.ShapeDtypeStruct:
        """Shape and type of what is computed of one pair."""
        one = functools.partial(jax.tree.map, lambda x: x[:1])
        found: jax.ShapeDtypeStruct = jax.eval_shape(self.compute, *one(rows), *one(tables))
        return found
