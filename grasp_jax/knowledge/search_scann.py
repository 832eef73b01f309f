"""Approximate top-K by ScaNN: partition tree, asymmetric hashing and exact re-ordering; leaves near the square root of the rows."""

from collections.abc import Callable
from typing import Any

import numpy as np

from grasp_jax.errors import UserError

QUERY_BLOCK = 1024
TREE_ROWS = 4096  # below, brute force
SPARE = 8  # asked for beyond K, for rows with the same label; who needs more is searched exactly


def search_scann(unit_vectors: np.ndarray, k: int, labels: np.ndarray, progress: Callable[[int], object] | None = None) -> np.ndarray:
    """As `search_exact`, approximately; -1 also where too many of a row's nearest have its label."""
    rows, searcher = len(unit_vectors), build(unit_vectors, k + 1 + SPARE)
    found = np.empty((rows, k), np.int32)
    for start in range(0, rows, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, rows)
        ids, distances = searcher.search_batched_parallel(unit_vectors[start:stop].astype(np.float32))
        found[start:stop] = drop_same(ids.astype(np.int64), distances, labels, labels[start:stop], k)
        if progress:
            progress(stop - start)
    return found


def build(unit_vectors: np.ndarray, num_neighbours: int) -> Any:
    """A searcher over the rows."""
    try:
        import scann
    except ImportError as error:
        raise UserError("config.knowledge.retrieval: 'scann' needs the package scann (Linux x86 only); use 'exact'") from error

    rows = len(unit_vectors)
    leaves = max(1, int(np.sqrt(rows)))
    builder = scann.scann_ops_pybind.builder(unit_vectors.astype(np.float32), min(num_neighbours, rows), "dot_product")
    if rows < TREE_ROWS:
        return builder.score_brute_force().build()
    builder = builder.tree(num_leaves=leaves, num_leaves_to_search=max(1, leaves // 8), training_sample_size=min(rows, 250_000))
    return builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(20 * num_neighbours).build()


def drop_same(ids: np.ndarray, distances: np.ndarray, labels: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """Leaves the first K of [n, m] ids with another label than the row's own, -1 where there are fewer; ScaNN pads with distance NaN."""
    unusable = ~np.isfinite(distances)
    unusable |= labels[np.where(unusable, 0, ids)] == own[:, None]
    order = np.argsort(unusable, axis=1, kind="stable")[:, :k]
    found = np.where(np.take_along_axis(unusable, order, axis=1), -1, np.take_along_axis(ids, order, axis=1))
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)
