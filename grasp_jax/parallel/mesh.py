"""The devices of a run as a mesh, and functions that place arrays on it.

Batches are sharded over all devices. Rows of the item tables are sharded along the axis "table" and replicated along "data". All other
arrays are replicated, except for the user tables (`parallel.rows`). XLA decides which device computes what (jit and `NamedSharding`),
except for values that are computed on the device that has a row. A random draw depends on the position in the whole batch, never on the
device, so another mesh changes results only by the rounding of sums.

With several processes, each process has the whole host array and gives its own devices their parts.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from grasp_jax.core.errors import UserError

DATA, TABLE = "data", "table"
ALL = (DATA, TABLE)


def make_mesh(data: int = 1, table: int = 1) -> Mesh:
    """The first `data` x `table` devices. With several processes, 1 x 1 stands for all devices along "data".

    Raises:
      UserError: there are fewer, or a process would have none.
    """
    devices = jax.devices()
    shape = mesh_shape(data, table, len(devices), jax.process_count())
    return jax.make_mesh(
        shape, ALL, axis_types=(AxisType.Auto,) * 2, devices=devices[: shape[0] * shape[1]]
    )


def mesh_shape(data: int, table: int, available: int, processes: int) -> tuple[int, int]:
    """The devices along "data" and "table": as given, but all devices along "data" for 1 x 1 with several processes.

    Args:
      data, table: fields of `config.mesh`.
      available: number of devices of all processes.
      processes: number of processes.

    Raises:
      UserError: there are fewer devices, or a process would have none.
    """
    if processes > 1 and data == table == 1:
        return available, 1
    num_devices = data * table
    flags = f"--config.mesh.data={available} --config.mesh.table=1"
    if num_devices > available:
        kind = jax.default_backend()
        hint = (
            f"; XLA_FLAGS=--xla_force_host_platform_device_count={num_devices} emulates more"
            if kind == "cpu"
            else ""
        )
        raise UserError(
            f"config.mesh.data x config.mesh.table: {data} x {table}; expected at most {available} together, because there are no more "
            f"devices ({kind}), as with {flags}{hint}"
        )
    if processes > 1 and num_devices < available:
        raise UserError(
            f"config.mesh.data x config.mesh.table: {data} x {table}; expected {available} together, the number of devices of "
            f"the {processes} processes, as with {flags}"
        )
    return data, table


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Copies a tree of arrays to every device; leaves that are None stay."""
    return jax.tree.map(lambda leaf: put_sharded(leaf, NamedSharding(mesh, PartitionSpec())), tree)


def shard(mesh: Mesh, tree: Any, axis: int, process_local: bool = False) -> Any:
    """Splits the `axis` of each array of a tree over all devices, whose number must divide its size.

    With `process_local`, each of several processes passes only the part of its own devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, ALL))
    if process_local and not sharding.is_fully_addressable:
        return jax.tree.map(
            functools.partial(jax.make_array_from_process_local_data, sharding), tree
        )
    return jax.tree.map(lambda leaf: put_sharded(leaf, sharding), tree)


def constrain_replicated(mesh: Mesh, array: jax.Array) -> jax.Array:
    """Within jit: the array, replicated on every device."""
    replicated: jax.Array = jax.lax.with_sharding_constraint(
        array, NamedSharding(mesh, PartitionSpec())
    )
    return replicated


def put_sharded(array: Any, sharding: NamedSharding) -> jax.Array:
    """Puts an array on the devices with a sharding; with several processes, each must have the whole array."""
    if sharding.is_fully_addressable:
        placed: jax.Array = jax.device_put(array, sharding)
        return placed
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return _reshard(sharding)(array)
    on_this_host = np.asarray(array)
    return jax.make_array_from_callback(
        on_this_host.shape, sharding, lambda index: on_this_host[index]
    )


@functools.cache
def _reshard(sharding: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    """A function that changes the sharding of an array. There is one function for each sharding; otherwise every call would compile."""
    return jax.jit(lambda array: array, out_shardings=sharding)


def on_host(tree: Any) -> Any:
    """Copies a tree of arrays to NumPy arrays, each complete in every process."""
    return jax.device_get(jax.tree.map(_addressable, tree))


def _addressable(array: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return array
    assert isinstance(array.sharding, NamedSharding)
    return put_sharded(array, NamedSharding(array.sharding.mesh, PartitionSpec()))
