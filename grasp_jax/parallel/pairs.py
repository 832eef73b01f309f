"""Computes values of (user, item) pairs whose two rows are on different devices.

Devices that differ only along the axis "table" are a group; they are neighbours in the mesh, and together they have all items. A user's row
is sent only to the other devices of the group that has it. Then the two ids of each pair are sent to the device of this group that has the
item, and a few numbers are sent back: 16 bytes a pair, while a row has 2E numbers. If each device has all items, no rows are sent.

The capacity of an exchange changes its time but never its result: users and pairs beyond it wait for the next exchange. A device computes
the pairs that it receives in blocks, and skips empty slots.
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

from grasp_jax.parallel.exchange import (
    CAPACITY_DEVIATIONS,
    all_to_all,
    entries_to_send,
    id_capacity,
    rank_within_owner,
    sort_by_owner,
)
from grasp_jax.parallel.mesh import ALL, TABLE, constrain_replicated
from grasp_jax.parallel.rows import DeviceTable, ShardedRows

Rows = tuple[jax.Array, ...]

# Pairs of one user are sent to few devices, so their numbers vary more than at random: by the root of so many pairs more.
PAIRS_OF_USER = 32
BLOCK = 1.25  # pairs that a device computes at a time, relative to an equal share of all


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RequestedRows:
    """The rows of some tables that a step needs; none of these tables is on every device.

    Attributes:
      rows: tables [n * C, E], split over the n devices.
      ids: [B] int32 the needed rows, as positions in `ShardedRows`; a value of `num_rows` or more means no row. None: all of `rows`, in
        their order, B / n of them on each device.
      num_rows: number of rows of the whole table.
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
    def capacity(self) -> int:
        """Number of rows that a device sends to its group at once."""
        return row_capacity(self.count, self.mesh.size, self.ids is not None)

    def on_every_device(self) -> Rows:
        """[B, E] rows of each table, replicated on every device: all E numbers of each row are sent."""
        with jax.named_scope("users_rows"):
            if self.ids is None:
                return tuple(constrain_replicated(self.mesh, rows) for rows in self.rows)
            existing = jnp.where(self.ids < self.num_rows, self.ids, 0)
            tables = (ShardedRows(rows, self.num_rows, self.mesh, ALL) for rows in self.rows)
            return tuple(table[existing] for table in tables)


def requested_rows(tables: tuple[ShardedRows, ...], ids: jax.Array) -> RequestedRows:
    """The rows `ids` [B] of tables that are sharded over all devices."""
    first = tables[0]
    assert all(table.axes == ALL for table in tables)
    return RequestedRows(tuple(table.rows for table in tables), ids, first.num_rows, first.mesh)


def row_capacity(count: int, devices: int, by_id: bool) -> int:
    """Number of rows that a device sends to its group at once: an equal share of the `count` needed rows, and more if the id of a row
    determines its device (`by_id`).
    """
    return min(count, id_capacity(count, 1, devices)) if by_id else count // devices


def pair_capacity(count: int, devices: int) -> int:
    """Number of pairs that one device sends to another at once, if all devices together need `count`."""
    num_local = math.ceil(count / devices)
    mean = num_local / devices
    return min(num_local, math.ceil(mean + CAPACITY_DEVIATIONS * math.sqrt(mean * PAIRS_OF_USER)))


def from_pairs(
    compute: Callable[..., jax.Array],
    requested: RequestedRows,
    tables: tuple[DeviceTable, ...],
    users: jax.Array,
    items: jax.Array,
) -> jax.Array:
    """`compute(*(rows[users] for rows in requested), *(table[items] for table in tables))`, computed on the devices that have the rows;
    without a gradient.

    Args:
      compute: function of arrays [C, E], row by row -> [C, ...].
      requested: the needed user rows of two tables or more.
      tables: item tables, sharded along the axis "table" or, on a mesh with one part of them, replicated.
      users: [...] int32 positions in `requested`.
      items: [...] int32 rows of `tables`.
    """
    mesh, count = requested.mesh, items.size
    flat = [jnp.pad(x.ravel(), (0, -count % mesh.size)) for x in (users, items)]
    capacity = pair_capacity(count, mesh.size)
    block = min(math.ceil(BLOCK * flat[0].size / mesh.size), mesh.size * capacity)
    shares = mesh.shape[TABLE]
    device = _PairDevice(
        compute=compute,
        shares=shares,
        devices=mesh.size,
        row_capacity=requested.capacity,
        pair_capacity=capacity,
        block=block,
        num_rows=requested.num_rows,
    )
    assert shares == 1 or all(isinstance(table, ShardedRows) for table in tables)
    item_rows = tuple(table.rows if isinstance(table, ShardedRows) else table for table in tables)
    specs = (P(ALL), P(), P(TABLE) if shares > 1 else P(), P(ALL), P(ALL))
    results = jax.shard_map(
        device.compute_pairs, mesh=mesh, in_specs=specs, out_specs=P(ALL), check_vma=False
    )(requested.rows, requested.ids, item_rows, *flat)
    return results[:count].reshape(*items.shape, *results.shape[1:])


@dataclasses.dataclass(frozen=True)
class _PairDevice:
    """The computation of one device, within `shard_map`.

    Attributes:
      compute: as in `from_pairs`.
      shares: number of devices of a group.
      devices: n.
      row_capacity, pair_capacity: results of the functions with these names.
      block: pairs that are computed at a time.
      num_rows: as in `RequestedRows`.
    """

    compute: Callable[..., jax.Array]
    shares: int
    devices: int
    row_capacity: int
    pair_capacity: int
    block: int
    num_rows: int

    def compute_pairs(
        self, rows: Rows, ids: jax.Array | None, tables: Rows, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """[pairs of this device, ...] their results: one or more exchanges of pairs for each round of user rows."""
        owner, rank, rounds = self._rounds(rows, ids)
        round_of = rank[users] // self.row_capacity
        in_group = owner % self.shares * self.row_capacity + rank % self.row_capacity
        addresses = jnp.stack([in_group[users], items // self.shares], axis=1)
        device_of = owner[users] // self.shares * self.shares + items % self.shares

        def one_exchange(carry: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
            round_, k, results = carry
            destination = jnp.where(round_of == round_, device_of, self.devices)
            order, begin, counts = sort_by_owner(destination, self.devices)
            first = k * self.pair_capacity
            sent, filled = entries_to_send(order, begin, counts, first, self.pair_capacity)
            with jax.named_scope("users_rows"):
                group = self._group_rows(rows, ids, owner, rank, round_)
            requests = all_to_all(
                jnp.where(filled[:, None], addresses[sent], -1), self.devices, ALL
            )
            received = all_to_all(
                self._compute_requests(group, tables, requests), self.devices, ALL
            )
            slot = rank_within_owner(destination, order, begin) - first
            was_sent = (round_of == round_) & (slot >= 0) & (slot < self.pair_capacity)
            slot = jnp.clip(slot, 0, self.pair_capacity - 1)
            new = received[device_of * self.pair_capacity + slot]
            results = jnp.where(was_sent.reshape(-1, *[1] * (new.ndim - 1)), new, results)
            left = jax.lax.pmax(counts.max() - first - self.pair_capacity, ALL)
            return jnp.where(left > 0, round_, round_ + 1), jnp.where(left > 0, k + 1, 0), results

        result = self._result_shape(rows, tables)
        results = jnp.zeros((len(users), *result.shape[1:]), result.dtype)
        zero = jnp.zeros((), jnp.int32)
        start = (zero, zero, results)
        return jax.lax.while_loop(lambda carry: carry[0] < rounds, one_exchange, start)[2]

    def _rounds(
        self, rows: Rows, ids: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array | int]:
        """For the needed users: the device [B] that has the row, the position [B] among the needed users of this device, and the number of
        rounds in which devices send rows to their group.
        """
        if ids is None:
            index = jnp.arange(self.devices * len(rows[0]), dtype=jnp.int32)
            return index // len(rows[0]), index % len(rows[0]), 1
        exist = ids < self.num_rows
        owner = jnp.where(exist, ids % self.devices, self.devices)
        order, begin, counts = sort_by_owner(owner, self.devices)
        rank = jnp.where(exist, rank_within_owner(owner, order, begin), 0)
        # padding is spread evenly over the devices
        padding_owner = jnp.arange(ids.size, dtype=ids.dtype) % self.devices
        rounds = jnp.maximum((counts.max() + self.row_capacity - 1) // self.row_capacity, 1)
        return jnp.where(exist, owner, padding_owner), rank, rounds

    def _group_rows(
        self,
        rows: Rows,
        ids: jax.Array | None,
        owner: jax.Array,
        rank: jax.Array,
        round_: jax.Array,
    ) -> Rows:
        """[shares * row_capacity, E] the rows of this round, from all devices of the group."""
        local_rows = rows
        if ids is not None:
            slot = rank - round_ * self.row_capacity
            is_local = (owner == jax.lax.axis_index(ALL)) & (ids < self.num_rows) & (slot >= 0)
            slot = jnp.where(is_local, slot, self.row_capacity)
            empty = jnp.zeros(self.row_capacity, ids.dtype)
            local_ids = empty.at[slot].set(ids // self.devices, mode="drop")
            local_rows = tuple(table[local_ids] for table in rows)
        return tuple(jax.lax.all_gather(table, TABLE, tiled=True) for table in local_rows)

    def _compute_requests(self, group: Rows, tables: Rows, requests: jax.Array) -> jax.Array:
        """[n * capacity, ...] results for the addresses [n * capacity, 2] that other devices request from this one, -1 for none."""
        filled = requests[:, 0] >= 0
        order = jnp.argsort(~filled)
        padded = jnp.pad(order, (0, self.block), constant_values=len(order))
        result = self._result_shape(group, tables)

        def one_block(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            first, results = carry
            slot = jax.lax.dynamic_slice_in_dim(padded, first, self.block)
            user, item = jnp.maximum(requests[jnp.minimum(slot, len(order) - 1)], 0).T
            computed = self.compute(*(x[user] for x in group), *(x[item] for x in tables))
            return first + self.block, results.at[slot].set(computed, mode="drop")

        results = jnp.zeros((len(requests), *result.shape[1:]), result.dtype)
        count = filled.sum()
        start = jnp.zeros((), jnp.int32), results
        return jax.lax.while_loop(lambda carry: carry[0] < count, one_block, start)[1]

    def _result_shape(self, rows: Rows, tables: Rows) -> jax.ShapeDtypeStruct:
        """Shape [1, ...] and dtype of the result for one pair."""
        one_row = functools.partial(jax.tree.map, lambda x: x[:1])
        shape: jax.ShapeDtypeStruct = jax.eval_shape(self.compute, *one_row(rows), *one_row(tables))
        return shape
