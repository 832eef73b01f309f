"""Neighbours within clusters, against exact search."""

import pathlib

import numpy as np
import pytest

from grasp_jax.knowledge.neighbours import NONE, clusters, search_clusters, search_state
from grasp_jax.knowledge.neighbours.search import Approximation, recall, top_neighbours
from grasp_jax.knowledge.neighbours.search_exact import search_exact
from grasp_jax.knowledge.neighbours.search_state import SearchState
from tests.test_neighbours import clustered, tied, unit_vectors

ROWS, K = 333, 5


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are searched by clusters too, in blocks so small that there are many."""
    monkeypatch.setattr(search_clusters, "FEWEST_ROWS", 0)
    monkeypatch.setattr(search_clusters, "ENTRIES", 500)
    monkeypatch.setattr(search_clusters, "QUERIES", (16, 64))
    monkeypatch.setattr(search_clusters, "KEYS", (8, 16))
    monkeypatch.setattr(clusters, "BLOCK", 50)


def within(
    vectors: np.ndarray, k: int, labels: np.ndarray, centres: np.ndarray, searched: int
) -> np.ndarray:
    """[rows, k] neighbours by so many clusters of each row."""
    lists = clusters.nearest_clusters(vectors, centres, searched)
    state = SearchState(None, vectors, (), labels)
    progress = search_clusters.StageProgress(len(vectors), None)
    return search_clusters.search_lists(vectors, k, labels, lists, progress, state)


def hits(true: np.ndarray, found: np.ndarray) -> float:
    """Share of the true neighbours [n, K] in found [n, K]."""
    there = true != NONE
    return float(((true[:, :, None] == found[:, None, :]).any(axis=2) & there).sum() / there.sum())


@pytest.mark.parametrize("k", [1, K, 40, ROWS - 1])
@pytest.mark.usefixtures("small")
def test_all_clusters_find_what_exact_search_finds(k: int) -> None:
    """A block, its padding, a pair that is met from both sides, or K above a cluster's rows would lose or repeat neighbours."""
    vectors, labels, _ = tied(ROWS)  # whole numbers, whose products are exact and often equal
    vectors += np.random.default_rng(6).integers(-9, 10, vectors.shape) / 1024
    centres = clusters.make_centres(vectors, 20)
    found = within(vectors, k, labels, centres, len(centres))
    true = search_exact(vectors, k, labels)
    scores = vectors.astype(np.float64) @ vectors.T
    of_found, of_true = (
        np.where(own == NONE, -np.inf, np.take_along_axis(scores, own.astype(np.int64), axis=1))
        for own in (found, true)
    )
    np.testing.assert_array_equal(of_found, of_true)  # of equals, others may be the last ones
    assert all(len(set(own[own >= 0])) == (own >= 0).sum() for own in found), "twice"
    assert not ((labels[found] == labels[:, None]) & (found >= 0)).any()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.usefixtures("small")
def test_as_few_clusters_are_searched_as_find_enough(dtype: str) -> None:
    """The bank would miss more than it may, or be searched for longer than needed; a look from one side alone needs more clusters."""
    vectors = clustered(1500).astype(dtype)
    labels = np.arange(1500, dtype=np.int32)
    labels[::10] = 0  # a text of many rows
    chosen = search_clusters.choose(vectors, K, labels, 0.9)
    centres, searched = chosen["centres"], int(chosen["searched"])
    sample = np.sort(np.random.default_rng(1).choice(1500, search_clusters.SAMPLED_ROWS, False))
    true = search_exact(vectors, K, labels, rows=sample)
    assert 1 < searched < len(centres) / 4
    enough, fewer = (
        hits(true, within(vectors, K, labels, centres, own)[sample])
        for own in (searched, searched - 1)
    )
    assert fewer < 0.9 <= enough
    lists = clusters.nearest_clusters(vectors, centres, searched)
    one_sided = (lists[sample][:, None, :] == lists[true][:, :, :1]).any(axis=2)[true >= 0].mean()
    assert one_sided < enough


@pytest.mark.usefixtures("small")
def test_a_whole_search(tmp_path: pathlib.Path) -> None:
    """Progress would not add up, or a row with too few neighbours in its clusters not be completed."""
    vectors, done = clustered(1500), []
    labels = np.arange(1500, dtype=np.int32)
    labels[:300] = 0
    vectors[:300] = vectors[0]  # these find nothing in their cluster
    found = top_neighbours(vectors, 10, "clusters", done.append, None, labels, Approximation(0.9))
    assert found.shape == (1500, 10) and found.dtype == np.int32 and found.min() >= 0
    assert sum(done) == 1500 and len(done) > 10
    assert 0.85 < recall(vectors, found, labels, 1000) < 1.0
    assert (labels[found] != labels[:, None]).all()


def test_few_rows_and_high_targets_are_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small catalogue would lose neighbours for nothing, and a target that needs all clusters cost more than all pairs."""
    vectors, done = unit_vectors(), []
    assert np.array_equal(top_neighbours(vectors, K, "clusters"), top_neighbours(vectors, K))
    monkeypatch.setattr(search_clusters, "FEWEST_ROWS", 0)
    monkeypatch.setattr(search_clusters, "search_lists", lambda *_: pytest.fail("by clusters"))
    found = top_neighbours(vectors, K, "clusters", done.append, approximation=Approximation(1.0))
    assert np.array_equal(found, top_neighbours(vectors, K)) and sum(done) == len(vectors)


@pytest.mark.usefixtures("small")
def test_a_killed_search_goes_on(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours would be searched again, a half-done state be taken for a whole one, or that of other vectors or settings be used."""
    monkeypatch.setattr(search_state, "SECONDS", 0.0)
    monkeypatch.setattr(search_state, "WRITE_SHARE", 0)
    vectors, labels = clustered(600), np.arange(600, dtype=np.int32)

    def search(own: np.ndarray = vectors, k: int = K, most: int = 600) -> tuple[np.ndarray, int]:
        """Ends with an error once more than `most` rows are done; the neighbours, and how many blocks were compared."""
        done, blocks = [], []

        def progress(rows: int) -> None:
            done.append(rows)
            if sum(done) > most:
                raise KeyboardInterrupt

        whole = search_clusters._merged
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                search_clusters, "_merged", lambda *all_of: (blocks.append(1), whole(*all_of))[1]
            )
            found = search_clusters.search_clusters(own, k, labels, 0.9, progress, tmp_path / "on")
        assert sum(done) == 600
        return found, len(blocks)

    expected = search_clusters.search_clusters(vectors, K, labels, 0.9)
    with pytest.raises(KeyboardInterrupt):
        search(most=500)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_clusters, "choose", lambda *_: pytest.fail("chosen again"))
        patch.setattr(search_clusters, "nearest_clusters", lambda *_: pytest.fail("found again"))
        found, left = search()
    assert np.array_equal(found, expected) and left > 0
    for path in (tmp_path / "on").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    found, all_of = search()
    assert np.array_equal(found, expected) and all_of > 2 * left
    other = vectors.copy()
    other[0] = vectors[1]
    for own, k in ((other, K), (vectors, K - 1)):
        found, compared = search(own, k)
        assert compared > left and found.shape[1] == k


def test_a_large_cluster_is_split() -> None:
    """Most texts of a shop are alike: each would be compared with all others, which is exact search at a higher price."""
    rng = np.random.default_rng(0)
    vectors = unit_vectors(4000, 16)
    vectors[:3500] = vectors[0] + 0.02 * rng.standard_normal((3500, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centres = clusters.make_centres(vectors, 64)
    sizes = np.bincount(clusters.nearest_clusters(vectors, centres, 1)[:, 0])
    assert sizes.max() < 500 and len(centres) <= 64
    alike = np.repeat(unit_vectors(1), 300, axis=0)  # which nothing can split
    assert len(clusters.make_centres(alike, 8)) >= 1


def test_ranks_are_those_of_the_lists() -> None:
    """The number of clusters would be chosen by another order than that in which they are searched."""
    vectors = unit_vectors(60)
    centres = clusters.make_centres(vectors, 12)
    lists = clusters.nearest_clusters(vectors, centres, len(centres))
    expected = np.broadcast_to(np.arange(len(centres)), lists.shape)
    assert np.array_equal(clusters.ranks(vectors, lists, centres), expected)
    assert np.array_equal(clusters.make_centres(vectors, 12), centres), "another at each call"


def test_a_damaged_state_is_begun_again(tmp_path: pathlib.Path) -> None:
    """One wrong bit would end every further call in the same traceback."""
    vectors, labels = np.eye(8, dtype=np.float32), np.arange(8, dtype=np.int32)
    state = SearchState(tmp_path, vectors, (), labels)
    state.stage("lists", lambda: {"lists": labels})
    path = tmp_path / "lists.npz"
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        found = state.stage("lists", lambda: {"lists": labels})["lists"]
        np.testing.assert_array_equal(found, labels)
