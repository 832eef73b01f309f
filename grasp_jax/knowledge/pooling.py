"""The mean of a row's neighbours (Eq. 2)."""

import numpy as np

from grasp_jax.knowledge.neighbours import NONE

BLOCK = 1024


def mean_of_neighbours(unit_vectors: np.ndarray, neighbours: np.ndarray, pooled: np.ndarray, by_similarity: bool = False) -> None:
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
        there = neighbours[block] != NONE
        found = unit_vectors[np.maximum(neighbours[block], 0)].astype(np.float32)
        weights = there.astype(np.float32)
        if by_similarity:
            weights = np.maximum(np.einsum("re,rke->rk", unit_vectors[block].astype(np.float32), found), 0.0) * there
            weights = np.where(weights.any(axis=1, keepdims=True), weights, there)
        pooled[block] = np.einsum("rk,rke->re", weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12), found)
