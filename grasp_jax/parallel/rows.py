"""Frozen tables whose rows are not on every device, and computations on the device that has a row.

The device at position s of the axis "table" has the rows s, s + n, s + 2n, ... of an item table [V, E]. A step needs T rows, T / n of them
on each device, and only a small result for each: a projection, a logit. So ids are sent to the devices with the rows (all-to-all), and the
results are sent back: 3H numbers instead of 2E. The capacity of the exchange changes only its time, never its result
(`parallel.exchange`).
"""

import dataclasses
import math
import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from grasp_jax.parallel.exchange import exchange, id_capacity
from grasp_jax.parallel.mesh import ALL, constrain_replicated

READERS = 8  # threads that read a host table
ROWS_OF_A_READER = 1024  # rows at a time
FAR_APART = 8  # rows are far apart if they span more than so many rows of the table for each row that is read


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ShardedRows:
    """A table [V, E] whose rows are split over the devices along `axes`; each device has every n-th row.

    Attributes:
      rows: [n * ceil(V / n), E], the rows of the first device first; padded with zeros.
      num_rows: V.
      axes: the mesh axes.
    """

    rows: jax.Array
    num_rows: int = dataclasses.field(metadata={"static": True})
    mesh: Mesh = dataclasses.field(metadata={"static": True})
    axes: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    @property
    def shares(self) -> int:
        """n."""
        return math.prod(self.mesh.shape[axis] for axis in self.axes)

    @property
    def shape(self) -> tuple[int, int]:
        return self.num_rows, self.rows.shape[1]

    def __getitem__(self, ids: jax.Array) -> jax.Array:
        """[..., E] rows, replicated on every device: all E numbers of each row are sent."""
        rows_per_device = self.rows.shape[0] // self.shares
        gathered = self.rows[ids % self.shares * rows_per_device + ids // self.shares]
        return constrain_replicated(self.mesh, gathered)


class HostRows:
    """A table that stays in host memory or in a memory-mapped file. For JAX it is a tree without arrays, so jit does not read it."""

    def __init__(self, table: np.ndarray, dtype: Any, mesh: Mesh) -> None:
        self.table, self.dtype, self.mesh = table, dtype, mesh

    @property
    def shape(self) -> tuple[int, ...]:
        return self.table.shape

    def read(self, rows: np.ndarray) -> np.ndarray:
        """[..., E] rows. The pages of a file that were read do not stay in this process's memory.

        Several threads read, because one thread would wait for each page of the file. If rows are far apart, the system is told not to read
        the pages around theirs.
        """
        flat = rows.ravel()
        result = np.empty((len(flat), self.shape[1]), self.dtype)
        table, mapped = np.asarray(self.table), getattr(self.table, "_mmap", None)
        if mapped is not None and len(flat) and np.ptp(flat) > FAR_APART * len(flat):
            mapped.madvise(mmap.MADV_RANDOM)

        def read(start: int) -> None:
            block = slice(start, start + ROWS_OF_A_READER)
            # `take` lets other threads run while it copies; with "wrap", -1 is the last row, as in indexing.
            result[block] = table.take(flat[block], axis=0, mode="wrap")

        starts = range(0, len(flat), ROWS_OF_A_READER)
        if len(starts) == 1:
            read(0)
        else:
            with ThreadPoolExecutor(READERS) as readers:
                list(readers.map(read, starts))
        if mapped is not None:
            mapped.madvise(mmap.MADV_NORMAL)
            mapped.madvise(mmap.MADV_DONTNEED)
        return result.reshape(*rows.shape, self.shape[1])

    def on_devices(self, rows: np.ndarray) -> jax.Array:
        """[..., B, E] rows, with B split over all devices; each process reads only the rows of its own devices."""
        sharding = NamedSharding(self.mesh, P(*[None] * (rows.ndim - 1), ALL))

        def part(index: Any) -> np.ndarray:
            return self.read(rows[index[:-1]])

        return jax.make_array_from_callback((*rows.shape, self.shape[-1]), sharding, part)


jax.tree_util.register_pytree_node(HostRows, lambda rows: ((), rows), lambda rows, _: rows)

DeviceTable = jax.Array | ShardedRows
PlacedRows = DeviceTable | HostRows  # a frozen table, placed as the config says


def shard_rows(mesh: Mesh, table: np.ndarray, dtype: Any, axes: tuple[str, ...]) -> ShardedRows:
    """A host table, sharded by rows; no more than one device's part is copied at a time."""
    shares = math.prod(mesh.shape[axis] for axis in axes)
    rows_per_device = -(-len(table) // shares)

    def part(index: Any) -> np.ndarray:
        first = (index[0].start or 0) // rows_per_device
        padded = np.zeros((rows_per_device, table.shape[1]), dtype)
        rows = table[first::shares]
        padded[: len(rows)] = rows
        return padded

    sharding = NamedSharding(mesh, P(axes))
    shape = rows_per_device * shares, table.shape[1]
    rows = jax.make_array_from_callback(shape, sharding, part)
    return ShardedRows(rows, len(table), mesh, axes)


def from_all_rows(
    compute: Callable[..., jax.Array], operands: Any, tables: tuple[DeviceTable, ...]
) -> jax.Array:
    """`compute(operands, *tables)` [V, ...] for all rows. If tables are sharded, each device computes its rows, and all devices get all
    results.
    """
    sharded = [table for table in tables if isinstance(table, ShardedRows)]
    if len(sharded) < len(tables):
        return compute(operands, *tables)
    first, computed = sharded[0], compute(operands, *(table.rows for table in sharded))
    in_order = (
        computed.reshape(first.shares, -1, *computed.shape[1:])
        .swapaxes(0, 1)
        .reshape(computed.shape)[: first.num_rows]
    )
    return constrain_replicated(first.mesh, in_order)


def from_rows(
    compute: Callable[..., jax.Array],
    operands: Any,
    tables: tuple[DeviceTable, ...],
    ids: jax.Array,
    *sides: jax.Array,
) -> jax.Array:
    """`compute(operands, *(table[ids] for table in tables), *sides)`, computed on the devices that have the rows.

    Args:
      compute: function of the operands and of arrays that begin with the shape of `ids` (flat, if rows are sharded), row by row.
      operands: a tree of arrays that are on every device; the result is differentiable only with respect to these.
      tables: tables with the same V and E.
      ids: [...] int32 rows.
      sides: [...] further arrays with a value for each id.
    """
    sharded = [table for table in tables if isinstance(table, ShardedRows)]
    if len(sharded) < len(tables):
        with jax.named_scope("gather"):
            rows = [table[ids] for table in tables]
        return compute(operands, *rows, *sides)
    first = sharded[0]
    flat = [x.ravel() for x in (ids, *sides)]
    padded = [jnp.pad(x, (0, -x.size % first.mesh.size)) for x in flat]
    capacity = id_capacity(ids.size, first.mesh.size, first.shares)
    results = exchange(compute, first.mesh, capacity)(
        operands, tuple(table.rows for table in sharded), *padded
    )
    return results[: ids.size].reshape(*ids.shape, *results.shape[1:])
