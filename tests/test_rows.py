"""Tables whose rows lie on several devices, against tables that lie on one."""

import os
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np

from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.parallel.rows import HostRows
from tests.command_line import ROOT

# In a process of its own, for devices are counted once.
PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from grasp_jax.parallel.mesh import ALL, TABLE, make_mesh
from grasp_jax.parallel.rows import from_all_rows, from_rows, shard_rows

rng = np.random.default_rng(0)
V, E, H, T = 41, 6, 5, 37
table, other = rng.standard_normal((2, V, E)).astype(np.float32)
kernels = rng.standard_normal((3, 2, E, H)).astype(np.float32)  # of three models
sides = rng.standard_normal((3, T)).astype(np.float32)


def compute(kernels, row, other, side):
    return jnp.tanh(row @ kernels[0] + other @ kernels[1]) * side[..., None]


def both(tables, kernels, ids, sides):
    def loss(kernels, ids, sides):
        found = from_rows(compute, kernels, tables, ids, sides)
        return (found**2).sum(), found

    return jax.vmap(jax.value_and_grad(loss, has_aux=True))(kernels, ids, sides)


for data, shares in ((1, 8), (4, 2), (8, 1)):
    mesh = make_mesh(data, shares)
    sharded = tuple(shard_rows(mesh, whole, np.float32, (TABLE,)) for whole in (table, other))
    assert {shard.data.shape for shard in sharded[0].rows.addressable_shards} == {(-(-V // shares), E)}
    for low, high in ((0, V), (8, 9)):  # even draws, and one row that everyone wants: more exchanges than one
        ids = rng.integers(low, high, (3, T), dtype=np.int32)
        expected = both((jnp.asarray(table), jnp.asarray(other)), kernels, jnp.asarray(ids), sides)
        found = jax.jit(both)(sharded, kernels, ids, sides)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), expected, found)
    whole = jax.jit(lambda tables: from_all_rows(lambda k, i, j: i @ k[0] + j @ k[1], kernels[0], tables))(sharded)
    np.testing.assert_allclose(whole, table @ kernels[0, 0] + other @ kernels[0, 1], rtol=1e-5, atol=1e-5)
    over_all = shard_rows(mesh, table, np.float32, ALL)
    np.testing.assert_array_equal(jax.jit(lambda rows, ids: rows[ids])(over_all, ids), table[ids])
print("all equal")
"""


def test_what_is_computed_where_rows_lie() -> None:
    """A row would be taken for another, an id beyond the room of an exchange be lost, or a gradient miss a device's rows."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0 and "all equal" in result.stdout, result.stderr[-3000:]


def test_rows_are_read_from_a_file(tmp_path: pathlib.Path) -> None:
    """Rows of a memory-mapped table would come in another order or type, or not reach the devices."""
    table = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float16)
    np.save(tmp_path / "users.npy", table)
    rows = HostRows(np.load(tmp_path / "users.npy", mmap_mode="r"), jnp.float32, make_mesh())
    ids = np.array([[3, 49, 3], [0, 1, 2]])
    placed = rows.on_devices(ids)
    assert placed.dtype == jnp.float32
    np.testing.assert_array_equal(placed, table[ids].astype(np.float32))
