"""Approximate top-K by cosine: each row is compared exactly with the rows of its few nearest clusters, in both directions.

A row probes the clusters nearest to it. Each product serves both rows: a pair is found if either row probes the other's cluster. On real
texts this needs less than half the probes of a search from one side. The number of probes is tuned on a sample of rows, whose true
neighbours are searched exactly.

Memory: for each row K scores and ids (8 K bytes), the clusters that it probes (2 bytes each) and its label (4 bytes). Besides, independent
of the number of rows, `ENTRIES` pairs of a row and a cluster, a block of `QUERIES` and one of `KEYS` vectors, and the blocks of `clusters`.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.core.log import logger
from grasp_jax.knowledge.neighbours import NONE
from grasp_jax.knowledge.neighbours.clusters import (
    clusters_for,
    make_centres,
    nearest_clusters,
    ranks,
)
from grasp_jax.knowledge.neighbours.search_exact import (
    Best,
    best_of,
    best_of_columns,
    empty_best,
    joined,
    search_exact,
)
from grasp_jax.knowledge.neighbours.search_resident import no_pair
from grasp_jax.knowledge.neighbours.search_state import SearchState

FEWEST_ROWS = 16_384  # below, exact search is as fast
SAMPLED_ROWS = 1024  # rows on which the number of probes is tuned
LIST_BLOCK = 2**18  # rows whose clusters are written to one file
ENTRIES = 2**23  # pairs of a row and a cluster that are sorted at a time
# sizes of a block of rows that probe a cluster: a program is compiled for each
QUERIES = (512, 2048)
LISTING_SHARE = 0.5  # of the work, roughly, is to find the clusters that the rows probe
# sizes of a block of a cluster's rows, likewise
KEYS = (32, 64, 128, 192, 256, 384, 512, 768, 1024)

# [n, E] vectors, [n] labels and [n] ids, -1 of padding
Rows = tuple[jax.Array, jax.Array, jax.Array]


def search_clusters(
    unit_vectors: np.ndarray,
    k: int,
    labels: np.ndarray,
    target: float,
    progress: Callable[[int], object] | None = None,
    folder: pathlib.Path | None = None,
) -> np.ndarray:
    """As `search_exact` among all rows, approximately; -1 also where the clusters searched have too few rows with another label.

    If there are few rows, or if most clusters would have to be searched, the search is exact.

    Args:
      unit_vectors: [rows, E] of any float type, scored in float32; they may be memory-mapped.
      k: K, below the number of rows.
      labels: [rows] int32.
      target: the recall to reach.
      progress: called with the number of rows done since the last call; unfinished work counts as the rows that it is worth.
      folder: folder in which the state is saved from time to time; an interrupted search of the same vectors resumes from it.

    Returns:
      [rows, K] int32, nearest first, of equals the first row first.
    """
    rows = len(unit_vectors)
    if rows < FEWEST_ROWS:
        return search_exact(unit_vectors, k, labels, progress)
    state = SearchState(folder, unit_vectors, (k, target), labels)
    chosen = state.stage("clusters", lambda: choose(unit_vectors, k, labels, target))
    centres, searched = chosen["centres"], int(chosen["searched"])
    if 2 * (searched + len(centres) ** 2 / rows) >= len(centres):  # exact scores a pair once
        logger.info(
            f"neighbours: {searched:,} of {len(centres):,} clusters would have to be searched, so all rows are searched exactly"
        )
        return search_exact(unit_vectors, k, labels, progress)
    logger.info(f"neighbours: {searched:,} of {len(centres):,} clusters are searched for each row")
    stages = StageProgress(rows, progress)

    def add(done: int) -> None:
        stages.add(LISTING_SHARE * done / rows)

    def listed(begin: int) -> dict[str, np.ndarray]:
        block = unit_vectors[begin : begin + LIST_BLOCK]
        return {"lists": nearest_clusters(block, centres, searched, add)}

    parts = [
        state.stage(f"lists-{begin}", functools.partial(listed, begin))["lists"]
        for begin in range(0, rows, LIST_BLOCK)
    ]
    return search_lists(unit_vectors, k, labels, np.concatenate(parts), stages, state)


def choose(
    unit_vectors: np.ndarray, k: int, labels: np.ndarray, target: float
) -> dict[str, np.ndarray]:
    """Clusters, and how many of them each row must probe.

    Args:
      unit_vectors: [rows, E].
      k: K.
      labels: [rows] int32.
      target: share of the true neighbours of a sample that is to be found.

    Returns:
      "centres" [C, E] float32; "searched", the smallest number of probes of each row that reaches the target.
    """
    rows = len(unit_vectors)
    centres = make_centres(unit_vectors, clusters_for(rows))
    rng = np.random.default_rng(1)  # not the rows on which the recall is measured
    sample = np.sort(rng.choice(rows, min(SAMPLED_ROWS, rows), replace=False))
    true = search_exact(unit_vectors, k, labels, rows=sample)
    exists = true != NONE
    if not exists.any():
        return {"centres": centres, "searched": np.array(1)}
    involved, places = np.unique(np.concatenate([sample, true[exists]]), return_inverse=True)
    cluster_of = nearest_clusters(unit_vectors, centres, 1, rows=involved)[:, 0]
    of_sample, of_true = places[: len(sample)], np.zeros(true.shape, np.int64)
    of_true[exists] = places[len(sample) :]
    from_row = ranks(unit_vectors[sample], cluster_of[of_true], centres)
    from_neighbour = np.empty(true.shape, np.int32)
    for place in range(k):
        vectors = unit_vectors[involved[of_true[:, place]]]
        from_neighbour[:, place] = ranks(vectors, cluster_of[of_sample][:, None], centres)[:, 0]
    needed = np.sort(np.minimum(from_row, from_neighbour)[exists]) + 1
    least = needed[max(int(np.ceil(target * len(needed))) - 1, 0)]
    return {"centres": centres, "searched": np.array(least)}


def search_lists(
    unit_vectors: np.ndarray,
    k: int,
    labels: np.ndarray,
    lists: np.ndarray,
    stages: "StageProgress",
    state: SearchState,
) -> np.ndarray:
    """The K best among the rows that probe a row's cluster or belong to a cluster that it probes.

    Args:
      unit_vectors: [rows, E].
      k: K.
      labels: [rows] int32.
      lists: [rows, searched] clusters, the nearest first.
      stages: the progress of the whole search; this call completes it.
      state: the saved state of the search.
    """
    rows = len(unit_vectors)
    best, done = state.best(lambda: empty_best(rows, k))
    pending = None
    for cluster, own_rows, probing in _by_cluster(lists):
        stages.add((1 - LISTING_SHARE) * len(probing) / lists.size)
        if cluster < done:
            continue
        for keys in _blocks(own_rows, KEYS):
            for queries in _blocks(probing, QUERIES):
                # Vectors are read while the device computes the previous block, on whose result the next one depends.
                vectors = [unit_vectors[np.maximum(block, 0)] for block in (queries, keys)]
                _store(best, pending)
                pending = queries, keys, _merged(best, queries, keys, vectors, labels)
        if state.is_due():
            _store(best, pending)
            pending = None
            state.save(best, cluster + 1)
    _store(best, pending)
    stages.end()
    scores, ids = best
    for start in range(0, rows, ENTRIES // k + 1):  # blocks came in the order of clusters
        part = slice(start, start + ENTRIES // k + 1)
        order = np.lexsort((ids[part], -scores[part]), axis=1)
        ids[part] = np.take_along_axis(ids[part], order, axis=1)
    return ids


class StageProgress:
    """Progress of a search in several stages, reported in rows."""

    def __init__(self, rows: int, progress: Callable[[int], object] | None) -> None:
        self._rows, self._progress, self._done, self._reported = rows, progress, 0.0, 0

    def add(self, part: float) -> None:
        """Adds a fraction of the whole search."""
        self._done += part
        if (now := min(int(self._rows * self._done), self._rows)) > self._reported:
            if self._progress:
                self._progress(now - self._reported)
            self._reported = now

    def end(self) -> None:
        """Reports the rows that remain."""
        self.add(1.0)


def _by_cluster(lists: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each cluster that has rows, its own rows, and the rows that probe it, both ascending."""
    rows, searched = lists.shape
    count = int(lists.max()) + 1
    per_pass = max(1, min(count, ENTRIES * count // (rows * searched)))
    for begin in range(0, count, per_pass):
        probing, wanted, first = _entries(lists, begin, begin + per_pass)
        order = np.argsort(wanted, kind="stable")
        ends = np.searchsorted(wanted[order], np.arange(begin, begin + per_pass + 1))
        for cluster, start, stop in zip(
            range(begin, min(begin + per_pass, count)), ends[:-1], ends[1:], strict=False
        ):
            entries = order[start:stop]
            if (own_rows := probing[entries[first[entries]]]).size:
                yield cluster, own_rows, probing[entries]


def _entries(lists: np.ndarray, begin: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For the clusters from `begin` to `end`: the rows that probe one, which one, and whether it is their own."""
    parts = []
    step = max(1, ENTRIES // lists.shape[1])
    for start in range(0, len(lists), step):
        block = lists[start : start + step]
        rows, places = np.nonzero((block >= begin) & (block < end))
        parts.append(((start + rows).astype(np.int32), block[rows, places], places == 0))
    probing, wanted, first = (np.concatenate(column) for column in zip(*parts, strict=True))
    return probing, wanted, first


def _blocks(rows: np.ndarray, sizes: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Rows in blocks of the largest size, the rest in the smallest block that holds it, padded with -1."""
    for start in range(0, len(rows), sizes[-1]):
        block = rows[start : start + sizes[-1]]
        size = next(size for size in sizes if size >= len(block))
        yield np.pad(block, (0, size - len(block)), constant_values=-1)


def _merged(
    best: tuple[np.ndarray, np.ndarray],
    queries: np.ndarray,
    keys: np.ndarray,
    vectors: list[np.ndarray],
    labels: np.ndarray,
) -> tuple[Best, Best]:
    """Starts `_merge` of two blocks of rows (-1 is padding) with the best so far of both."""
    best_of_both, both = [], []
    for ids, block in zip((queries, keys), vectors, strict=True):
        rows = np.maximum(ids, 0)
        best_of_both.append((best[0][rows], best[1][rows]))
        both.append((block, labels[rows], ids))
    merged: tuple[Best, Best] = _merge(*best_of_both, *both)
    return merged


def _store(
    best: tuple[np.ndarray, np.ndarray],
    pending: tuple[np.ndarray, np.ndarray, tuple[Best, Best]] | None,
) -> None:
    """Writes the result of a block into the best of all rows.

    A cluster's own rows are on both sides. Their result as keys is written last: it covers all rows that probe the cluster, its own rows
    included, so as queries they find nothing more.
    """
    if pending is None:
        return
    queries, keys, (of_queries, of_keys) = pending
    for rows, found in ((queries, of_queries), (keys, of_keys)):
        filled = rows >= 0
        for part, result in zip(best, found, strict=True):
            part[rows[filled]] = np.asarray(result)[filled]


@jax.jit
def _merge(best: Best, best_of_keys: Best, queries: Rows, keys: Rows) -> tuple[Best, Best]:
    """Merges the best keys into the best so far of each query, and the best queries into those of each key.

    Args:
      best: [Q, K] scores and ids so far.
      best_of_keys: [M, K] those of the keys.
      queries: of Q rows.
      keys: of M rows.
    """
    (vectors, labels, ids), (key_vectors, key_labels, key_ids) = queries, keys
    scores = jnp.einsum(
        "qe,ke->qk",
        vectors.astype(jnp.float32),
        key_vectors.astype(jnp.float32),
        precision=jax.lax.Precision.HIGHEST,
    )
    none = (
        no_pair(labels[:, None], key_labels[None, :]) | (ids < 0)[:, None] | (key_ids < 0)[None, :]
    )
    scores, k = jnp.where(none, -jnp.inf, scores), best[0].shape[1]
    return (
        _with(best, best_of(scores, key_ids, k)),
        _with(best_of_keys, best_of_columns(scores, ids, k)),
    )


def _with(best: Best, more: Best) -> Best:
    """`joined` for lists that may contain the same row."""
    again = (more[1][:, :, None] == best[1][:, None, :]).any(axis=2)
    return joined(best, (jnp.where(again, -jnp.inf, more[0]), more[1]))
