"""Near-duplicates: rows that stored neighbours above a cosine, or one and the same text, join into clusters."""

import numpy as np

from grasp_jax.knowledge.audit.vectors import BLOCK, neighbour_cosines


def cluster_labels(
    table: np.ndarray, neighbours: np.ndarray, texts: np.ndarray | None, least_cosine: float
) -> np.ndarray:
    """[rows] int32 number of each row's connected component.

    Only stored neighbours are looked at, so more near-duplicates than K, that are no copies, may fall into several clusters.

    Args:
      table: [rows, E].
      neighbours: [rows, K].
      texts: [rows, 2] uint64 hashes of texts, or None.
      least_cosine: of a pair that counts.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [] if texts is None else [_copies(texts)]
    for start in range(0, len(table), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(table)))
        row, column = np.nonzero(neighbour_cosines(table, neighbours[rows], rows) >= least_cosine)
        pairs.append(np.stack([rows[row], neighbours[rows[row], column]]))
    joined = np.concatenate(pairs, axis=1)
    graph = coo_array(
        (np.ones(joined.shape[1], np.int8), (joined[0], joined[1])), shape=(len(table), len(table))
    )
    return np.asarray(connected_components(graph, directed=False)[1])


def clusters(labels: np.ndarray) -> list[np.ndarray]:
    """Rows, ascending, of every component of two or more, the largest first."""
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=lambda part: (-len(part), part[0]))


def _copies(texts: np.ndarray) -> np.ndarray:
    """[2, pairs] rows with the same text, each with the next."""
    order = np.lexsort((texts[:, 1], texts[:, 0]))
    same = (texts[order[1:]] == texts[order[:-1]]).all(axis=1)
    return np.stack([order[:-1][same], order[1:][same]])
