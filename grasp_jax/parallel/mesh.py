"""The devices of a run as a mesh, and what lies where on it.

Batches are shared out over all devices. Rows of the item tables are shared out along the axis "table" and repeated along "data"; all else
is on every device, but for what `parallel.rows` says of users. Which device computes what is left to XLA (jit and `NamedSharding`), but
for what is computed where a row lies: every draw is a function of a global place, never of a device, so a mesh changes sums by rounding
alone.

Where several processes share the mesh, each holds the whole of what is put on it here and gives its devices their part.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from grasp_jax.errors import UserError

DATA, TABLE = "data", "table"
ALL = (DATA, TABLE)


def make_mesh(data: int = 1, table: int = 1) -> Mesh:
    """The first `data` x `table` devices.

    Raises:
      UserError: there are fewer, or a process would have none.
    """
    devices, wanted = jax.devices(), data * table
    if wanted > len(devices):
        kind = devices[0].platform
        more = (
            f"; XLA_FLAGS=--xla_force_host_platform_device_count={wanted} emulates more"
            if kind == "cpu"
            else ""
        )
        raise UserError(
            f"config.mesh.data x config.mesh.table: {data} x {table}; expected at most {len(devices)} together, because there are no more "
            f"devices ({kind}){more}"
        )
    if jax.process_count() > 1 and wanted < len(devices):
        raise UserError(
            f"config.mesh.data x config.mesh.table: {data} x {table}; expected {len(devices)} together, the number of devices of "
            f"the {jax.process_count()} processes"
        )
    return jax.make_mesh(
        (data, table), ALL, axis_types=(AxisType.Auto,) * 2, devices=devices[:wanted]
    )


def everywhere(mesh: Mesh, tree: Any) -> Any:
    """A tree of arrays with a copy on every device; leaves that are None stay."""
    return jax.tree.map(lambda leaf: placed(leaf, NamedSharding(mesh, PartitionSpec())), tree)


def shared_out(mesh: Mesh, tree: Any, axis: int, in_parts: bool = False) -> Any:
    """A tree of arrays whose `axis` is split into as many parts as there are devices, one for each; the number of devices must divide it.

    With `in_parts`, each of several processes gives the part of its devices alone.
    """
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, ALL))
    if in_parts and not sharding.is_fully_addressable:
        return jax.tree.map(
            functools.partial(jax.make_array_from_process_local_data, sharding), tree
        )
    return jax.tree.map(lambda leaf: placed(leaf, sharding), tree)


def repeated(mesh: Mesh, array: jax.Array) -> jax.Array:
    """Within jit: an array that every device must have completely."""
    whole: jax.Array = jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec()))
    return whole


def placed(array: Any, sharding: NamedSharding) -> jax.Array:
    """An array laid out as `sharding` says; of several processes each holds the whole of it."""
    if sharding.is_fully_addressable:
        there: jax.Array = jax.device_put(array, sharding)
        return there
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return _layer(sharding)(array)
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


@functools.cache
def _layer(sharding: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    """Changes the layout of an array. There is one function for each layout; otherwise every call would compile."""
    return jax.jit(lambda array: array, out_shardings=sharding)


def on_host(tree: Any) -> Any:
    """A tree of NumPy arrays, whole in every process."""
    return jax.device_get(jax.tree.map(_readable, tree))


def _readable(array: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return array
    assert isinstance(array.sharding, NamedSharding)
    return placed(array, NamedSharding(array.sharding.mesh, PartitionSpec()))
