"""The devices of a run as a mesh, and what lies where on it.

Batches are shared out along the axis "data"; all else is on every device. Which device computes what is left to XLA (jit and
`NamedSharding`): every draw is a function of a global place, never of a device, so a mesh changes sums by rounding alone.
"""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from grasp_jax.errors import UserError

DATA = "data"


def make_mesh(data: int = 1) -> Mesh:
    """The first `data` devices.

    Raises:
      UserError: there are fewer.
    """
    devices = jax.devices()
    if data > len(devices):
        kind = devices[0].platform
        more = f"; XLA_FLAGS=--xla_force_host_platform_device_count={data} emulates more" if kind == "cpu" else ""
        raise UserError(f"config.mesh.data: {data}; expected at most {len(devices)}, for there are no more devices ({kind}){more}")
    return jax.make_mesh((data,), (DATA,), axis_types=(AxisType.Auto,), devices=devices[:data])


def everywhere(mesh: Mesh, tree: Any) -> Any:
    """A tree of arrays with a copy on every device; leaves that are None stay."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shared_out(mesh: Mesh, tree: Any, axis: int) -> Any:
    """A tree of arrays whose `axis` is cut into as many parts as there are devices, of which each holds one; it must divide."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA)))
