"""Retrieval against brute force in NumPy."""

import pathlib
import sys

import numpy as np
import pytest

from grasp_jax.knowledge.encoders.geometry import unit_rows
from grasp_jax.knowledge.neighbours import (
    NONE,
    labels_for_search,
    pooling,
    search_clusters,
    search_exact,
    search_scann,
    search_state,
)
from grasp_jax.knowledge.neighbours import search as neighbours
from grasp_jax.knowledge.neighbours.pooling import nearest_of
from grasp_jax.knowledge.neighbours.search import recall, top_neighbours
from grasp_jax.knowledge.neighbours.search_scann import drop_same
from tests.command_line import on_devices, run
from tests.refusal import assert_names, refusal

ROWS, WIDTH, K = 101, 9, 5


def unit_vectors(rows: int = ROWS, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((rows, width))).astype(np.float32)


def clustered(rows: int) -> np.ndarray:
    """Forty clusters, as texts about the same thing are."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16))
    return unit_rows(
        centres[rng.integers(40, size=rows)] + 0.3 * rng.standard_normal((rows, 16))
    ).astype(np.float32)


def mean_of_neighbours(
    vectors: np.ndarray, found: np.ndarray, by_similarity: bool = False
) -> np.ndarray:
    pooled = np.empty_like(vectors)
    pooling.mean_of_neighbours(vectors, found, pooled, by_similarity)
    return pooled


def cosines(vectors: np.ndarray) -> np.ndarray:
    """[rows, rows] float64, the diagonal out of reach."""
    scores = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(scores, -np.inf)
    return scores


def check_exact(vectors: np.ndarray, found: np.ndarray, k: int) -> None:
    """K different rows each, never itself, nearest first, and none left out that is nearer."""
    rows, scores = len(vectors), cosines(vectors)
    assert found.shape == (rows, k) and found.dtype == np.int32
    assert not (found == np.arange(rows)[:, None]).any(), "self"
    assert all(len(set(row)) == k for row in found.tolist()), "twice"
    assert found.min() >= 0 and found.max() < rows
    expected = np.sort(scores, axis=1)[:, ::-1][:, :k]
    np.testing.assert_allclose(np.take_along_axis(scores, found, axis=1), expected, atol=1e-6)


@pytest.mark.parametrize(
    "query_block, key_block",
    [
        pytest.param(1024, 16384, id="one block of each"),
        pytest.param(16, 32, id="several, both with a rest"),
        pytest.param(101, 101, id="exactly one of each"),
        pytest.param(100, 100, id="a rest of one row"),
        pytest.param(7, 3, id="key blocks smaller than K"),
    ],
)
def test_exact_equals_brute_force(
    query_block: int, key_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break retrieval: a block, the padding of the last one, or the running top-K across blocks; among all rows and for some."""
    monkeypatch.setattr(search_exact, "QUERY_BLOCK", query_block)
    monkeypatch.setattr(search_exact, "SCORED_QUERIES", 16)
    monkeypatch.setattr(search_exact, "KEY_BLOCK", key_block)
    vectors, done = unit_vectors(), []
    expected = np.argsort(-cosines(vectors), axis=1)[:, :K]
    found = top_neighbours(vectors, K, "exact", done.append)
    check_exact(vectors, found, K)
    assert np.array_equal(found, expected), "random vectors have no ties"
    assert sum(done) == ROWS and (len(done) > 1) == (query_block < ROWS)
    rows, some = np.array([3, 100, 50, 7] * 10), []
    found = search_exact.search_exact(
        vectors, K, np.arange(ROWS, dtype=np.int32), some.append, rows
    )
    assert (
        np.array_equal(found, expected[rows])
        and sum(some) == len(rows)
        and (len(some) > 1) == (query_block < len(rows))
    )


def tied(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of small whole numbers, whose products are exact and often equal; labels, some of them shared; and the K neighbours."""
    rng = np.random.default_rng(5)
    vectors, labels = (
        rng.integers(-2, 3, (rows, 3)).astype(np.float32),
        np.arange(rows, dtype=np.int32),
    )
    labels[rows // 2 :: 7] = labels[1]
    labels = labels_for_search(vectors, labels)
    assert (labels == NONE).any() or rows < 333, "some are zeros"
    scores = np.where(labels[:, None] == labels[None, :], -np.inf, vectors @ vectors.T)
    scores[labels == NONE] = scores[:, labels == NONE] = -np.inf
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    there = np.take_along_axis(scores, nearest, axis=1) > -np.inf
    return vectors, labels, np.where(there, nearest, NONE)


@pytest.mark.parametrize(
    "rows, query_block, scored", [(333, 8192, 1024), (333, 64, 32), (333, 64, 16), (63, 1, 1)]
)
def test_of_equals_the_first_row_comes_first(
    rows: int, query_block: int, scored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bank would depend on the size of the blocks, or on which side of a pair of blocks a row stands."""
    monkeypatch.setattr(search_exact, "QUERY_BLOCK", query_block)
    monkeypatch.setattr(search_exact, "SCORED_QUERIES", scored)
    vectors, labels, expected = tied(rows)
    assert np.array_equal(search_exact.search_exact(vectors, K, labels), expected)


SPREAD = """
import jax, numpy as np
from grasp_jax.knowledge.neighbours import search_exact
from tests.test_neighbours import K, tied
search_exact.QUERY_BLOCK, search_exact.SCORED_QUERIES = 32, 16
vectors, labels, expected = tied(333)
assert jax.device_count() == 3 and np.array_equal(search_exact.search_exact(vectors, K, labels), expected)
"""


def test_highest_are_those_of_a_stable_sort() -> None:
    """In a small group, rows of equal cosine would take each other's places, or one below zero lead."""
    vectors = unit_vectors()
    vectors[50:60] = vectors[:10]
    vectors[90:] = 0.0
    scores = vectors @ vectors.T
    scores[3, ::2], scores[3, 1::2], scores[4] = -0.0, 0.0, -np.inf
    for k in (1, K, ROWS):
        found = neighbours._highest(scores, k)
        np.testing.assert_array_equal(found, np.argsort(-scores, axis=1, kind="stable")[:, :k])
        assert found.dtype == np.int32


def test_several_devices_find_the_same() -> None:
    """What the devices find for the rows of a later block would be lost, or stand in another order."""
    done = run([sys.executable, "-c", SPREAD], **on_devices(3))
    assert done.returncode == 0, done.stderr


def test_padding_is_never_a_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break the last block: three rows in blocks of two leave a row of zeros, nearer than any real one."""
    monkeypatch.setattr(search_exact, "KEY_BLOCK", 2)
    monkeypatch.setattr(search_exact, "QUERY_BLOCK", 2)
    angles = np.array([0.0, 2.1, 4.2])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert cosines(vectors).max() < 0
    check_exact(vectors, top_neighbours(vectors, 2), 2)
    check_exact(
        vectors,
        search_exact.search_exact(vectors, 2, np.arange(3, dtype=np.int32), rows=np.arange(3)),
        2,
    )


@pytest.mark.parametrize("method", ["exact", "scann"])
def test_self_is_dropped_by_id(method: str) -> None:
    """Would break duplicates: equal texts are each other's nearest neighbours, and only the row itself is left out."""
    if method == "scann":
        pytest.importorskip("scann", reason="scann is not installed")
    vectors = unit_vectors()
    vectors[[50, 80]] = vectors[3]
    found = top_neighbours(vectors, K, method)
    check_exact(vectors, found, K)
    assert [set(found[row, :2].tolist()) for row in (3, 50, 80)] == [{50, 80}, {3, 80}, {3, 50}]
    same = np.repeat(
        unit_vectors(1), 30, axis=0
    )  # more duplicates than K: the row itself may not be among the first at all
    found = top_neighbours(same, K, method)
    assert not (found == np.arange(30)[:, None]).any() and all(
        len(set(row)) == K for row in found.tolist()
    )


@pytest.mark.parametrize("rows", [500, 4500])
def test_scann_recall(rows: int) -> None:
    """Would break the approximate index: below 4096 rows it is brute force, above a tree with hashing and re-ordering."""
    pytest.importorskip("scann", reason="scann is not installed")
    vectors, done = clustered(rows), []
    found = top_neighbours(vectors, 10, "scann", done.append)
    exact = top_neighbours(vectors, 10)
    assert found.shape == (rows, 10) and found.dtype == np.int32 and sum(done) == rows
    assert not (found == np.arange(rows)[:, None]).any()
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]) >= (
        0.999 if rows < 4096 else 0.9
    )


def test_scann_searches_as_few_leaves_as_find_enough() -> None:
    """Most of the time of a large catalogue would go to leaves that hold nothing, or too few be searched for the floor."""
    pytest.importorskip("scann", reason="scann is not installed")
    vectors, labels = clustered(4500), np.arange(4500, dtype=np.int32)
    searcher = search_scann.build(vectors, K + 1 + search_scann.SPARE)
    searched = search_scann.choose_leaves(searcher, vectors, K, labels, 0.9)
    assert searched is not None and 1 < searched < search_scann.leaves_of(4500)[1]
    few, enough, usual = (
        recall(
            vectors,
            search_scann.search_built(searcher, vectors, K, labels, None, leaves),
            None,
            1000,
        )
        for leaves in (1, searched, None)
    )
    # on other rows than those it was chosen on; ScaNN draws its leaves by chance, so one leaf may find nearly enough
    assert few < enough < usual and enough > 0.87
    assert search_scann.choose_leaves(searcher, vectors[:500], K, labels[:500], 0.9) is None
    out_of_reach = search_scann.choose_leaves(searcher, vectors, K, labels, 1.1)
    assert out_of_reach == search_scann.leaves_of(4500)[1]


def test_drop_same() -> None:
    """Would break ScaNN's answers: the row itself wherever it stands, padding with distance NaN, and answers that are too short."""
    ids = np.array([[7, 1, 2, 3], [4, 8, 5, 0], [1, 2, 3, 9]])
    distances = np.array([[1.0, 0.9, 0.8, 0.7], [0.9, 0.9, 0.8, np.nan], [1.0, 0.9, 0.8, 0.7]])
    labels = np.arange(21)
    found = drop_same(ids, distances, labels, np.array([7, 8, 20]), 3)
    assert found.tolist() == [[1, 2, 3], [4, 5, NONE], [1, 2, 3]]
    labels[[2, 3]] = 7
    assert drop_same(ids[:1], distances[:1], labels, np.array([7]), 3).tolist() == [[1, NONE, NONE]]


@pytest.mark.parametrize("method", ["exact", "scann"])
def test_neighbours_of_the_own_group(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row would get neighbours of another category, and a category smaller than K rows that are not there."""
    if method == "scann":
        pytest.importorskip("scann", reason="scann is not installed")
    vectors, done = unit_vectors(), []
    groups = np.random.default_rng(1).choice([3, 7, 8], ROWS, p=[0.6, 0.37, 0.03])
    groups[groups == 8] = 7
    groups[[10, 20]], groups[30] = 8, 9  # two of a kind, and one alone
    for small in (2048, 10):
        monkeypatch.setattr(neighbours, "SMALL", small)
        found = top_neighbours(vectors, K, method, done.append, groups=groups)
        scores = np.where(groups[:, None] == groups[None, :], cosines(vectors), -np.inf)
        for row in range(ROWS):
            expected = [
                other for other in np.argsort(-scores[row]) if scores[row, other] > -np.inf
            ][:K]
            assert found[row].tolist() == expected + [NONE] * (K - len(expected))
    assert sum(done) == 2 * ROWS


def test_a_killed_search_within_groups_resumes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours would be searched again, or the groups of another day, or of other vectors, be taken for finished."""
    monkeypatch.setattr(search_state, "SECONDS", 0.0)
    monkeypatch.setattr(search_state, "WRITE_SHARE", 0)
    vectors, groups = unit_vectors(), np.arange(ROWS) % 7
    state, searched = neighbours.Approximation(state=tmp_path / "on"), list[int]()
    whole = neighbours._search_small

    def search(own: np.ndarray, of: np.ndarray, most: int = ROWS) -> np.ndarray:
        """Ends with an error once more than `most` rows are done."""
        done = list[int]()

        def progress(rows: int) -> None:
            done.append(rows)
            if sum(done) > most:
                raise KeyboardInterrupt

        searched.clear()
        found = top_neighbours(own, K, "exact", progress, groups=of, approximation=state)
        assert sum(done) == ROWS
        return found

    monkeypatch.setattr(
        neighbours, "_search_small", lambda *given: (searched.append(1), whole(*given))[1]
    )
    with pytest.raises(KeyboardInterrupt):
        search(vectors, groups, ROWS // 2)
    before = len(searched)
    found, left = search(vectors, groups), len(searched)
    assert 0 < before < 7 and left == 7 - before
    assert np.array_equal(found, top_neighbours(vectors, K, groups=groups))
    for own, of in ((vectors[::-1].copy(), groups), (vectors, groups[::-1].copy())):
        found, compared = search(own, of), len(searched)
        assert compared == 7 and np.array_equal(found, top_neighbours(own, K, groups=of))


@pytest.mark.parametrize("method", ["exact", "scann"])
def test_rows_with_the_same_text_are_no_neighbours(method: str) -> None:
    """Copies of one text would fill each other's lists, and the mean of similar items be the item."""
    if method == "scann":
        pytest.importorskip("scann", reason="scann is not installed")
    vectors = unit_vectors()
    labels = np.arange(ROWS)
    labels[20:50] = 20
    vectors[20:50] = vectors[20]
    found = top_neighbours(vectors, K, method, labels=labels)
    scores = np.where(
        labels[:, None] == labels[None, :], -np.inf, vectors.astype(np.float64) @ vectors.T
    )
    np.testing.assert_allclose(
        np.take_along_axis(scores, found, axis=1),
        np.sort(scores, axis=1)[:, ::-1][:, :K],
        atol=1e-6,
    )
    assert (labels[found] != labels[:, None]).all()


def apart(rows: int = 40, empty: int = 6) -> np.ndarray:
    """Vectors of which no two have a cosine above 0, and rows of zeros among them, to which each has one of 0."""
    rng = np.random.default_rng(3)
    vectors = np.eye(rows) - 1 / rows + 1e-3 * rng.standard_normal((rows, rows))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (vectors @ vectors.T - 2 * np.eye(rows)).max() < 0
    with_empty = np.insert(vectors, np.linspace(0, rows, empty).astype(int), 0.0, axis=0)
    return with_empty.astype(np.float32)


def nearest_with_text(vectors: np.ndarray, k: int) -> np.ndarray:
    """[rows, k] by brute force; rows of zeros have none and are nobody's."""
    text = vectors.any(axis=1)
    scores = np.where(text[:, None] & text, vectors.astype(np.float64) @ vectors.T, -np.inf)
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(scores, nearest, axis=1) > -np.inf, nearest, NONE)


@pytest.mark.parametrize("method", ["exact", "in groups", "clusters", "scann"])
def test_a_row_without_text_is_nobodys_neighbour(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items without text would take the places of neighbours wherever all others point away, and shorten the means."""
    if method == "scann":
        pytest.importorskip("scann", reason="scann is not installed")
    monkeypatch.setattr(search_clusters, "FEWEST_ROWS", 0)
    vectors = apart()
    groups = np.zeros(len(vectors), np.int32) if method == "in groups" else None
    found = top_neighbours(
        vectors, K, "exact" if groups is not None else method, None, groups, None
    )
    assert np.array_equal(found, nearest_with_text(vectors, K))
    assert recall(vectors, found, None, 100, groups) == 1.0
    few = vectors[:4]  # fewer with text than neighbours
    assert few[1:].any(axis=1).all() and not few[0].any()
    assert np.array_equal(top_neighbours(few, 3, "exact"), nearest_with_text(few, 3))


def test_a_new_row_has_no_neighbour_without_text() -> None:
    """The text of a new item would be mixed with zeros, or an item without text with the first rows of the bank."""
    vectors = apart()
    found = nearest_of(vectors[[0, 1, 2]], vectors, K, ~np.eye(3, len(vectors), dtype=bool))
    expected = nearest_with_text(vectors, K)[:3]
    assert np.array_equal(found, expected) and (found[0] == NONE).all()


def test_recall_counts_true_neighbours() -> None:
    """A bad index would pass for a good one."""
    vectors = unit_vectors()
    exact = top_neighbours(vectors, K)
    assert recall(vectors, exact, None, sample=40) == 1.0
    half = exact.copy()
    half[:, : K // 2 + 1] = NONE
    assert recall(vectors, half, None, sample=1000) == pytest.approx((K - K // 2 - 1) / K)


@pytest.mark.parametrize("k", [-1, 0, ROWS, ROWS + 7])
def test_k_out_of_range(k: int) -> None:
    """Would break small catalogues: K rows that are not there would be row 0, or NaN."""
    message = refusal(top_neighbours, unit_vectors(), k)
    assert_names(message, (f"config.knowledge.num_neighbours: {k};", f"expected 1 to {ROWS - 1}"))


def test_every_other_row_may_be_asked_for() -> None:
    """Would break the largest K: all rows but the row itself."""
    vectors = unit_vectors(6)
    assert [sorted(row) for row in top_neighbours(vectors, 5).tolist()] == [
        [n for n in range(6) if n != row] for row in range(6)
    ]


@pytest.mark.parametrize("method", ["exact", "scann"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_must_be_finite(method: str, value: float) -> None:
    """Would break with neighbour 0 for everybody, or with ScaNN's abort of the whole process."""
    vectors = unit_vectors()
    vectors[17, 3] = value
    assert "not finite" in refusal(top_neighbours, vectors, K, method)


def test_unknown_method() -> None:
    """Would break with a KeyError on a typing error in the config."""
    message = refusal(top_neighbours, unit_vectors(), K, "faiss")
    assert_names(
        message, ("config.knowledge.retrieval: 'faiss'", "expected one of exact, clusters, scann")
    )


@pytest.mark.parametrize("block", [1024, 101, 16])
def test_mean_of_neighbours(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break Eq. 2: the plain mean of the K rows, in blocks of any size."""
    monkeypatch.setattr(pooling, "BLOCK", block)
    vectors = unit_vectors()
    found = np.random.default_rng(1).integers(0, ROWS, (ROWS, K)).astype(np.int32)
    pooled = mean_of_neighbours(vectors, found)
    assert pooled.dtype == np.float32 and pooled.shape == vectors.shape
    for row in range(ROWS):
        expected = sum(vectors[other].astype(np.float64) for other in found[row]) / K
        np.testing.assert_allclose(pooled[row], expected, atol=1e-6)


def test_mean_of_fewer_neighbours() -> None:
    """A neighbour that is not there would pull the mean to the last row, or nobody at all give NaN."""
    vectors = unit_vectors()
    found = np.full((ROWS, K), NONE, np.int32)
    found[0, :2] = 5, 9
    for by_similarity in (False, True):
        pooled = mean_of_neighbours(vectors, found, by_similarity)
        assert not pooled[1:].any() and np.isfinite(pooled).all()
    np.testing.assert_allclose(
        mean_of_neighbours(vectors, found)[0], (vectors[5] + vectors[9]) / 2, rtol=1e-6
    )


def test_neighbours_weighted_by_similarity() -> None:
    """A near neighbour would count no more than a far one, an opposite one would be subtracted, or nobody near give NaN."""
    angles = np.deg2rad([0, 30, 60, 170, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    neighbours = np.array([[1, 2, 3], [0, 2, 4], [1, 0, 3], [4, 2, 1], [0, 1, 2]])
    pooled = mean_of_neighbours(vectors, neighbours, by_similarity=True)
    near = np.cos(angles[1]) * vectors[1] + np.cos(angles[2]) * vectors[2]
    np.testing.assert_allclose(pooled[0], near / (np.cos(angles[1]) + np.cos(angles[2])), rtol=1e-5)
    np.testing.assert_allclose(pooled[4], vectors[:3].mean(axis=0), rtol=1e-5)


def test_recall_within_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad index over large categories would pass, for small ones are searched exactly; or be held against other categories' rows."""
    monkeypatch.setattr(neighbours, "SMALL", 20)
    vectors, groups = unit_vectors(), np.repeat([3, 5, 9], [50, 41, 10])
    exact = top_neighbours(vectors, K, groups=groups)
    assert recall(vectors, exact, None, 1000, groups) == 1.0
    wrong = exact.copy()
    wrong[groups == 9] = NONE
    assert recall(vectors, wrong, None, 1000, groups) == 1.0
    wrong[groups == 3] = NONE
    assert recall(vectors, wrong, None, 1000, groups) == pytest.approx(41 / 91)
