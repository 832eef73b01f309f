"""The audit's figures about vectors, compared with values by hand or from full matrix products."""

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.knowledge.audit.categories import agreement, category_column
from grasp_jax.knowledge.audit.clusters import cluster_labels, clusters
from grasp_jax.knowledge.audit.vectors import cosines, neighbour_cosines, norms, uncentred
from grasp_jax.knowledge.encoders.geometry import Geometry, mean_direction, to_rows
from tests.refusal import assert_names, refusal


@pytest.fixture
def cone() -> np.ndarray:
    """[300, 8] unit vectors around one direction, as text embeddings lie."""
    vectors = np.random.default_rng(0).standard_normal((300, 8)) + 2.0 * np.eye(8)[0]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_norms_see_rows_without_a_vector() -> None:
    """A description that was lost on the way to the bank would go unseen."""
    table = np.array([[3, 4], [0, 0], [0, 1]], np.float16)
    found = norms(table)
    assert (found.smallest, found.mean, found.largest, found.zero_rows) == (
        0.0,
        pytest.approx(2.0),
        5.0,
        1,
    )
    assert norms(np.ones((2500, 4), np.float32)).mean == pytest.approx(2.0), "more than one block"


def test_the_centre_can_be_put_back(cone: np.ndarray) -> None:
    """The anisotropy before centring would be another than the encoder's; also with a centre of an earlier bank."""
    for known in (None, 0.5 * np.eye(8, dtype=np.float32)[1]):
        centre = mean_direction(lambda: iter([cone]), cone.shape[1]) if known is None else known
        rows = to_rows(cone, Geometry(centre))
        np.testing.assert_allclose(uncentred(rows, centre), cone, atol=1e-5)


def test_anisotropy(cone: np.ndarray) -> None:
    """The mean cosine would be of rows with themselves, or not change with the centre."""
    centre = mean_direction(lambda: iter([cone]), cone.shape[1])
    rows = to_rows(cone, Geometry(centre))
    found = cosines(rows, centre, None, 5000, 0)
    assert found.before is not None and len(found.after) == 5000 and not len(found.nearest)
    for vectors, sampled in ((cone, found.before), (rows, found.after)):
        every = vectors @ vectors.T
        exact = (every.sum() - np.trace(every)) / (every.size - len(every))
        assert sampled.mean() == pytest.approx(exact, abs=0.02)
        assert sampled.max() < 0.9999, "no row meets itself"
    assert found.before.mean() > 0.3 > 0.05 > abs(found.after.mean())
    assert cosines(cone, np.zeros(8), None, 50, 0).before is None, "nothing was taken out"
    again = cosines(rows, centre, None, 5000, 0)
    assert again.after.tolist() == found.after.tolist()


def test_neighbour_cosines() -> None:
    """A neighbour that there is not would be one with the last row."""
    table = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    found = neighbour_cosines(table, np.array([[1, 2], [2, -1]], np.int32), np.array([0, 1]))
    np.testing.assert_allclose(found, [[0.6, 0.0], [0.8, -1.0]], atol=1e-6)
    nearest = cosines(table, None, np.array([[1], [2], [-1]]), 10, 0).nearest
    np.testing.assert_allclose(nearest, [0.6, 0.8], atol=1e-6)


def test_clusters_of_near_duplicates() -> None:
    """Copies would be counted apart, a chain be broken, or rows below the threshold be joined."""
    angles = np.deg2rad([0, 10, 20, 90, 100, 200, 300])
    table = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    neighbours = np.array([[1], [2], [1], [4], [3], [2], [-1]], np.int32)
    labels = cluster_labels(
        table, neighbours, None, 0.98
    )  # cos 10 degrees is 0.985, cos 20 degrees 0.940
    assert [rows.tolist() for rows in clusters(labels)] == [[0, 1, 2], [3, 4]]
    copied = np.array([[k, k] for k in (0, 1, 2, 3, 4, 9, 9)], np.uint64)
    assert [
        rows.tolist() for rows in clusters(cluster_labels(table, neighbours, copied, 0.98))
    ] == [[0, 1, 2], [3, 4], [5, 6]]
    assert clusters(cluster_labels(table, neighbours, None, 0.999)) == []


def test_category_agreement() -> None:
    """Neighbours of another category would count, or items without one weigh on the share."""
    values = ["a", "a", "b", None, ["b", "c"], ["c"]]
    neighbours = np.array([[1, 2], [0, 3], [4, 0], [0, 1], [5, -1], [0, 4]], np.int32)
    found = agreement("category", values, neighbours, 5000, 0)
    assert (
        found is not None
        and found.first == pytest.approx(4 / 5)
        and found.all == pytest.approx(5 / 8)
    )
    assert found.chance == pytest.approx(
        3 / 10, abs=0.03
    )  # of 10 pairs of the five: a-a, b-bc, bc-c
    assert agreement("category", [None, None], neighbours[:2], 10, 0) is None
    assert agreement("category", ["a"], np.array([[-1]]), 10, 0) is None


def test_category_column() -> None:
    """Agreement would be measured on another column than the config names, or a mistyped name would be ignored."""
    config = KnowledgeConfig()
    items = AttributeTable(
        np.arange(2), {"title": ["x", "y"], "categories": [["a"], ["b"]], "brand": ["m", "n"]}
    )
    assert category_column(config, items) == "categories" and category_column(config, None) == ""
    assert category_column(config, AttributeTable(np.arange(1), {"title": ["x"]})) == ""
    config = config.with_fields({"group_column": "brand"})
    assert category_column(config, items) == "brand"
    config = config.with_fields({"audit.category_column": "colour"})
    assert_names(
        refusal(category_column, config, items),
        ("config.knowledge.audit.category_column: 'colour'", "title, categories, brand"),
    )
