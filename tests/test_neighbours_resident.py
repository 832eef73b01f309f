"""The search of a table that lies on the devices: a shortlist in bfloat16 that never changes what is found."""

import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh

from grasp_jax.knowledge.neighbours import search_exact, search_resident
from grasp_jax.knowledge.neighbours.search_resident import Pieces, load
from tests.command_line import on_devices, run
from tests.test_neighbours import K, clustered, tied, unit_vectors

SMALL = Pieces(queries=16, keys=64, scored=8)
ROWS = 333


def resident(
    vectors: np.ndarray, labels: np.ndarray, rows: np.ndarray, k: int = K
) -> tuple[np.ndarray, np.ndarray]:
    mesh = Mesh(jax.local_devices(), ("queries",))
    table = load(vectors, labels, mesh, SMALL)
    return search_resident.search_resident(table, k, rows, mesh, None, SMALL)


def brute_force(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    scores = np.where(labels[:, None] == labels, -np.inf, wide @ wide.T)
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_what_is_certain_is_that_of_brute_force(dtype: type) -> None:
    """A neighbour would be lost to rounding, to the edge of a block of keys or to a label; or all rows be searched twice."""
    vectors, labels = unit_vectors(ROWS, 24).astype(dtype), np.arange(ROWS, dtype=np.int32)
    labels[40:50] = labels[7]
    rows = np.random.default_rng(1).permutation(ROWS)
    found, certain = resident(vectors, labels, rows)
    assert certain.mean() > 0.9
    expected = brute_force(vectors, labels)[rows]
    assert found.dtype == np.int32 and np.array_equal(found[certain], expected[certain])


def test_rounding_that_could_change_a_neighbour_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose cosines differ by less than bfloat16 shows would get whichever neighbours rounding prefers."""
    rng = np.random.default_rng(0)
    near = unit_vectors(1, 24) + 3e-4 * rng.standard_normal((ROWS, 24))
    near = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    labels = np.arange(ROWS, dtype=np.int32)
    monkeypatch.setattr(search_resident, "MORE_GROUPS", 0)
    search_resident._nearest.cache_clear()
    found, certain = resident(near, labels, labels)
    wrong = (found != brute_force(near, labels)).any(axis=1)
    assert wrong.any() and not certain[wrong].any()


@pytest.mark.parametrize("some", [False, True])
def test_search_is_the_one_of_blocks(some: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bank would depend on whether its table fits a GPU: of equals the first row comes first, whatever is searched a second time."""
    monkeypatch.setattr(search_exact, "fits", lambda *_: True)
    monkeypatch.setattr(search_exact, "load", lambda *given: load(*given, SMALL))
    monkeypatch.setattr(
        search_exact,
        "search_resident",
        lambda *given: search_resident.search_resident(*given, SMALL),
    )
    done: list[int] = []
    for vectors, labels, expected in (
        tied(ROWS),
        (own := clustered(ROWS), (ids := np.arange(ROWS, dtype=np.int32)), brute_force(own, ids)),
    ):
        rows = np.arange(0, ROWS, 5) if some else None
        found = search_exact.search_exact(vectors, K, labels, done.append, rows)
        assert np.array_equal(found, expected if rows is None else expected[rows])
    assert sum(done) == 2 * (ROWS if not some else len(np.arange(0, ROWS, 5)))


def test_fewer_rows_than_asked_for() -> None:
    """A row of padding, or one with the same text, would be a neighbour."""
    labels = np.array([0, 0, 0, 1, 2], np.int32)
    found, certain = resident(unit_vectors(5), labels, np.arange(5), k=3)
    assert certain.all()
    assert [sorted(row) for row in found.tolist()] == [
        [-1, 3, 4],
        [-1, 3, 4],
        [-1, 3, 4],
        *([sorted(row) for row in found[3:].tolist()]),
    ]
    assert (found[3:] >= 0).all() and not (found[3:] == np.array([[3], [4]])).any()


def test_highest_by_groups_are_the_highest() -> None:
    """A group with two of the highest scores would give one of them alone."""
    values = np.random.default_rng(3).standard_normal((7, 16 * 64)).astype(np.float32)
    values[0, :3] = 9.0, 8.0, 7.0
    best, places = search_resident.top(jnp.asarray(values), 4)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(best, np.take_along_axis(values, expected, axis=1))


def test_only_gpus_with_room_hold_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table would be copied to a device that it does not fit, or a CPU multiply in a type that it is slow in."""
    assert not search_resident.fits(50_000, 16, 4)

    class Gpu:
        platform = "gpu"

        def memory_stats(self) -> dict[str, int]:
            return {"bytes_limit": 1_000_000}

    monkeypatch.setattr(jax, "local_devices", lambda: [Gpu()])
    monkeypatch.setattr(search_resident, "LEAST_ROWS", 100)
    assert search_resident.fits(1000, 100, 4) and not search_resident.fits(1001, 100, 4)
    assert search_resident.fits(1500, 100, 2) and not search_resident.fits(99, 1, 4)


SPREAD = """
import jax, numpy as np
from jax.sharding import Mesh
from grasp_jax.knowledge.neighbours.search_resident import load, search_resident
from tests.test_neighbours import K, unit_vectors
from tests.test_neighbours_resident import SMALL, brute_force
vectors, labels = unit_vectors(333, 24), np.arange(333, dtype=np.int32)
mesh = Mesh(jax.local_devices(), ("queries",))
found, certain = search_resident(load(vectors, labels, mesh, SMALL), K, labels, mesh, None, SMALL)
assert jax.device_count() == 3 and certain.mean() > 0.9
assert np.array_equal(found[certain], brute_force(vectors, labels)[certain])
"""


def test_several_devices_share_the_queries() -> None:
    """What the other devices find would be lost, or stand in another order."""
    done = run([sys.executable, "-c", SPREAD], **on_devices(3))
    assert done.returncode == 0, done.stderr
