"""The mean of a row's neighbours (Eq. 2), of the rows of a bank and of rows that it does not have."""

import numpy as np

from grasp_jax.knowledge.neighbours import NONE

BLOCK = 1024
SEARCHED = 65_536  # rows of a table that are compared at a time


def mean_of_neighbours(
    unit_vectors: np.ndarray,
    neighbours: np.ndarray,
    pooled: np.ndarray,
    by_similarity: bool = False,
) -> None:
    """Mean pooling of Eq. 2, in blocks so that no [rows, K, E] array exists; 0 for a row without neighbours.

    Args:
      unit_vectors: [rows, E].
      neighbours: [rows, K], `NONE` where a row has fewer.
      pooled: [rows, E], into which the means are written.
      by_similarity: weigh each neighbour by its cosine (none below 0), where Eq. 2 weighs all alike; rows without a similar one get the
        plain mean.
    """
    for start in range(0, len(neighbours), BLOCK):
        block = slice(start, start + BLOCK)
        exists = neighbours[block] != NONE
        found = unit_vectors[np.maximum(neighbours[block], 0)].astype(np.float32)
        pooled[block] = weighted_mean(
            unit_vectors[block].astype(np.float32), found, exists, by_similarity
        )


def weighted_mean(
    queries: np.ndarray, found: np.ndarray, exists: np.ndarray, by_similarity: bool
) -> np.ndarray:
    """[n, E] means of neighbours.

    Args:
      queries: [n, E] float32.
      found: [n, K, E] float32 vectors of the neighbours of each.
      exists: [n, K] bool, False where a row has fewer than K neighbours.
      by_similarity: as of `mean_of_neighbours`.
    """
    weights = exists.astype(np.float32)
    if by_similarity:
        weights = np.maximum(np.einsum("re,rke->rk", queries, found), 0.0) * exists
        weights = np.where(weights.any(axis=1, keepdims=True), weights, exists)
    # A row without neighbours has weights of 0, and so a mean of 0.
    means: np.ndarray = np.einsum(
        "rk,rke->re", weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12), found
    )
    return means


def nearest_of(
    queries: np.ndarray, table: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> np.ndarray:
    """[n, K] int32 rows of a table that are nearest to each query, `NONE` where fewer are allowed; NumPy, for a few queries.

    Rows of zeros, which have no text, are nobody's neighbour and have none.

    Args:
      queries: [n, E] float32 rows of length one, or zeros.
      table: [rows, E]; it may be memory-mapped.
      k: K.
      allowed: [n, rows] bool, which rows count; None: all.
    """
    best = np.empty((len(queries), 0), np.float32)
    ids = np.empty((len(queries), 0), np.int32)
    for start in range(0, len(table), SEARCHED):
        block = table[start : start + SEARCHED].astype(np.float32)
        scores = queries @ block.T
        scores[:, ~block.any(axis=1)] = -np.inf
        if allowed is not None:
            scores[~allowed[:, start : start + SEARCHED]] = -np.inf
        near = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
        best = np.concatenate([best, np.take_along_axis(scores, near, axis=1)], axis=1)
        ids = np.concatenate([ids, (start + near).astype(np.int32)], axis=1)
        order = np.lexsort((ids, -best), axis=1)[:, :k]
        best, ids = np.take_along_axis(best, order, axis=1), np.take_along_axis(ids, order, axis=1)
    found = np.where((best == -np.inf) | ~queries.any(axis=1, keepdims=True), NONE, ids)
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=NONE)
