"""Tables whose rows lie on several devices, against tables that lie on one."""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.parallel import rows as module
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.parallel.rows import HostRows
from tests.command_line import on_devices, run

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

PAIRS = """
import jax, jax.numpy as jnp, numpy as np
from grasp_jax.models.gates import pair_logits
from grasp_jax.parallel.mesh import ALL, TABLE, make_mesh, shard
from grasp_jax.parallel.pairs import RequestedRows, requested_rows, from_pairs
from grasp_jax.parallel.rows import shard_rows

rng = np.random.default_rng(0)
N, V, E, B, K = 61, 41, 6, 21, 53
users, items = rng.standard_normal((2, N, E)).astype(np.float32), rng.standard_normal((2, V, E)).astype(np.float32)


def of_devices(sharded_users, tables, requested, index, ids):  # of two models
    of_model = lambda rows, user, item: from_pairs(pair_logits, requested_rows(sharded_users, rows), tables, user, item)
    return jax.vmap(of_model)(requested, index, ids)


def of_host(rows, tables, index, ids):
    of_model = lambda rows, user, item: from_pairs(pair_logits, RequestedRows(rows, None, N, mesh), tables, user, item)
    return jax.vmap(of_model)(rows, index, ids)


for data, shares in ((2, 4), (8, 1)):
    mesh = make_mesh(data, shares)
    tables = tuple(shard_rows(mesh, own, np.float32, (TABLE,)) if shares > 1 else jnp.asarray(own) for own in items)
    sharded_users = tuple(shard_rows(mesh, own, np.float32, ALL) for own in users)
    drawn, hosted = jax.jit(of_devices), jax.jit(of_host)
    for among in (np.arange(N), np.arange(0, N, 8)):  # as they fall, and all on one device: more turns and exchanges than one
        requested = np.stack([np.sort(rng.choice(among, min(B, len(among)), replace=False)) for _ in range(2)]).astype(np.int32)
        index = rng.integers(0, requested.shape[1], (2, K), dtype=np.int32)
        index[1] = 0  # all pairs have one user
        ids = rng.integers(0, V, (2, K), dtype=np.int32)
        requested = np.pad(requested, ((0, 0), (0, B - requested.shape[1])), constant_values=N)
        known = np.minimum(requested, N - 1)
        of_pairs = np.take_along_axis(known, index, 1)
        expected = pair_logits(*users[:, of_pairs], *items[:, ids])
        np.testing.assert_allclose(drawn(sharded_users, tables, requested, index, ids), expected, rtol=1e-5, atol=1e-5)
        filled = np.pad(known, ((0, 0), (0, -B % mesh.size)), mode="edge")
        rows = tuple(shard(mesh, own[filled], axis=1) for own in users)
        np.testing.assert_allclose(hosted(rows, tables, index, ids), expected, rtol=1e-5, atol=1e-5)
        for own in (requested_rows(sharded_users, known[0]), RequestedRows(tuple(x[0] for x in rows), None, N, mesh)):
            whole = jax.jit(lambda own: own.on_every_device())(own)
            np.testing.assert_array_equal(np.stack(whole)[:, :B], users[:, known[0]])
print("all equal")
"""


def test_what_is_computed_of_pairs() -> None:
    """A pair would get the row of another user, or be lost if a device has more users or pairs than fit into an exchange."""
    _on_eight_devices(PAIRS)


def test_what_is_computed_where_rows_lie() -> None:
    """A row would be taken for another, an id beyond the capacity of an exchange be lost, or a gradient miss a device's rows."""
    _on_eight_devices(PROGRAM)


def _on_eight_devices(program: str) -> None:
    """Runs a program that says "all equal"."""
    result = run([sys.executable, "-c", program], **on_devices(8))
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


@pytest.mark.parametrize("size", [0, 5, 64])
def test_rows_are_read_by_several_threads(
    size: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread's rows would be lost at the border to the next one's, or the last row, -1, be another."""
    monkeypatch.setattr(module, "ROWS_OF_A_READER", 5)
    table = np.random.default_rng(1).standard_normal((5000, 3)).astype(np.float16)
    np.save(tmp_path / "users.npy", table)
    mapped = np.load(tmp_path / "users.npy", mmap_mode="r")
    ids = np.random.default_rng(2).integers(-1, 5000, (2, size))
    for held in (mapped, table):
        rows = HostRows(held, jnp.float32, make_mesh())
        found = rows.read(ids)
        assert found.shape == (2, size, 3) and found.dtype == np.float32
        np.testing.assert_array_equal(found, table[ids].astype(np.float32))
