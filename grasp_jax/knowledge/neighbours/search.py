"""Top-K neighbours by cosine, the row itself excluded (Eq. 2): exact, within clusters, or by ScaNN, behind one function."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.neighbours import NONE, labels_for_search
from grasp_jax.knowledge.neighbours.search_clusters import search_clusters
from grasp_jax.knowledge.neighbours.search_exact import search_exact
from grasp_jax.knowledge.neighbours.search_scann import import_scann, search_scann
from grasp_jax.knowledge.neighbours.search_state import SearchState

CHECK_BLOCK = 65_536  # rows that are checked at a time
SMALL = 2048  # rows of a group that NumPy searches in one product: a compiled search has one shape per group
METHODS = ("exact", "clusters", "scann")


@dataclasses.dataclass(frozen=True)
class Approximation:
    """Settings of an approximate search.

    Attributes:
      target: the recall that it must reach on a sample of rows.
      index: folder in which ScaNN's index over all rows is saved.
      state: folder in which a search by clusters, or within groups, saves its state, so that it can be resumed.
    """

    target: float = 0.95
    index: pathlib.Path | None = None
    state: pathlib.Path | None = None


ANY = Approximation()


def top_neighbours(
    unit_vectors: np.ndarray,
    k: int,
    method: str = "exact",
    progress: Callable[[int], object] | None = None,
    groups: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    approximation: Approximation = ANY,
) -> np.ndarray:
    """The K nearest rows of each row.

    Args:
      unit_vectors: [rows, E] rows of unit length, so that dot products are cosines; or zeros, which are nobody's neighbour and have none.
      k: K, below the number of rows.
      method: one of `METHODS`.
      progress: called with the number of rows done since the last call.
      groups: [rows] int: neighbours are of the row's own group (the paper's Sec. 3.4).
      labels: [rows] int: neighbours have another label than the row, such as another text; by default only the row itself is excluded.
      approximation: the target and the folders of an approximate search.

    Returns:
      [rows, K] int32, nearest first, `NONE` where a group, the other labels or the rows that are not zeros are fewer.

    Raises:
      UserError: K out of range, an unknown method, or values that are not finite (which abort ScaNN).
    """
    rows = len(unit_vectors)
    check_search(rows, k, method)
    if not all(
        np.isfinite(unit_vectors[start : start + CHECK_BLOCK]).all()
        for start in range(0, rows, CHECK_BLOCK)
    ):
        raise UserError("neighbours: the vectors hold a value that is not finite")
    labels = labels_for_search(unit_vectors, labels)
    if groups is None:
        return _search(unit_vectors, k, method, labels, progress, approximation)
    return _search_groups(unit_vectors, k, method, labels, groups, progress, approximation)


def _search_groups(
    unit_vectors: np.ndarray,
    k: int,
    method: str,
    labels: np.ndarray,
    groups: np.ndarray,
    progress: Callable[[int], object] | None,
    approximation: Approximation,
) -> np.ndarray:
    """Neighbours within groups, group by group; an interrupted search resumes with the first group that was not saved."""
    of = np.stack([labels, groups])
    state = SearchState(
        approximation.state, unit_vectors, ("groups", k, method, approximation.target), of
    )
    within, rows = Approximation(approximation.target), len(unit_vectors)
    # No scores: those of a finished group are not needed again.
    (scores, found), done = state.best(
        lambda: (np.empty(0, np.float32), np.full((rows, k), NONE, np.int32))
    )
    order = np.argsort(groups, kind="stable")
    rows_of_groups = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    for number, group in enumerate(rows_of_groups):
        most = min(k, len(group) - 1)
        if most and number >= done:
            if len(group) <= SMALL:
                own = _search_small(unit_vectors[group], most, labels[group])
            else:
                own = _search(unit_vectors[group], most, method, labels[group], None, within)
            found[group, :most] = np.where(own == NONE, NONE, group[own])
            if state.is_due():
                state.save((scores, found), number + 1)
        if progress:
            progress(len(group))
    return found


def check_search(rows: int, k: int, method: str) -> None:
    """Raises UserError where K neighbours of so many rows cannot be found by this method."""
    if not 1 <= k < rows:
        raise UserError(
            f"config.knowledge.num_neighbours: {k}; expected 1 to {rows - 1}, one less than the rows"
        )
    if method not in METHODS:
        raise UserError(
            f"config.knowledge.retrieval: {method!r}; expected one of {', '.join(METHODS)}"
        )
    if method == "scann":
        import_scann()


def recall(
    unit_vectors: np.ndarray,
    found: np.ndarray,
    labels: np.ndarray | None,
    sample: int,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> float:
    """Recall of `found` [rows, K] on `sample` random rows; 1 if every group was searched exactly."""
    rows, k = found.shape
    labels = labels_for_search(unit_vectors, labels)
    groups = np.zeros(rows, np.int32) if groups is None else groups
    numbers, sizes = np.unique(groups, return_counts=True)
    approximate = np.isin(groups, numbers[(sizes > SMALL) | (len(numbers) == 1)])
    rng = np.random.default_rng(seed)
    sampled = np.sort(rng.permutation(np.flatnonzero(approximate))[:sample])
    hits = num_true = 0
    for number in np.unique(groups[sampled]):
        group, own = np.flatnonzero(groups == number), sampled[groups[sampled] == number]
        vectors = unit_vectors if len(group) == rows else unit_vectors[group]
        true = search_exact(
            vectors, min(k, len(group) - 1), labels[group], rows=np.searchsorted(group, own)
        )
        exists = true != NONE
        hits += ((group[true][:, :, None] == found[own][:, None, :]).any(axis=2) & exists).sum()
        num_true += exists.sum()
    return float(hits / num_true) if num_true else 1.0


def _search(
    unit_vectors: np.ndarray,
    k: int,
    method: str,
    labels: np.ndarray,
    progress: Callable[[int], object] | None,
    approximation: Approximation,
) -> np.ndarray:
    if method == "exact":
        return search_exact(unit_vectors, k, labels, progress)
    target = approximation.target
    if method == "clusters":
        found = search_clusters(unit_vectors, k, labels, target, progress, approximation.state)
    else:
        found = search_scann(unit_vectors, k, labels, target, progress, approximation.index)
    short = np.flatnonzero((found == NONE).any(axis=1) & (labels != NONE))
    if len(short):  # an approximate search may find fewer than K
        found[short] = search_exact(unit_vectors, k, labels, rows=short)
    return found


def _search_small(unit_vectors: np.ndarray, k: int, labels: np.ndarray) -> np.ndarray:
    unit_vectors = unit_vectors.astype(np.float32)
    scores = unit_vectors @ unit_vectors.T
    scores[labels[:, None] == labels[None, :]] = -np.inf
    scores[labels == NONE] = scores[:, labels == NONE] = -np.inf
    found = _highest(scores, k)
    return np.where(np.take_along_axis(scores, found, axis=1) == -np.inf, NONE, found)


def _highest(scores: np.ndarray, k: int) -> np.ndarray:
    """[rows, k] int32 columns of the highest of [rows, columns] float32 scores, best first, of equals the first column first.

    As the first k of a stable argsort, in a fifth of its time: a score and its column make one whole number, so that partition
    knows no ties.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # -0 becomes 0
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # in the order of the scores, those below 0 too
    keys = np.arange(scores.shape[1], dtype=np.int64) - (bits.astype(np.int64) << 32)
    keys.partition(k - 1, axis=1)
    found = np.sort(keys[:, :k], axis=1) & np.int64(0xFFFFFFFF)
    return found.astype(np.int32)
