"""Top-K neighbours by cosine and their mean (Eq. 2)."""

import numpy as np

NONE = -1  # in place of a neighbour that there is not
BLOCK = 65_536  # rows that are read at a time


def with_text(vectors: np.ndarray) -> np.ndarray:
    """[rows] bool, which of [rows, E] vectors are not zeros; zeros stand for no text, have no direction, and so are nobody's neighbour."""
    found = np.empty(len(vectors), bool)
    for start in range(0, len(vectors), BLOCK):
        found[start : start + BLOCK] = vectors[start : start + BLOCK].any(axis=1)
    return found


def labels_for_search(vectors: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """[rows] int32 labels; `NONE` for rows of zeros, which a search leaves out.

    Args:
      vectors: [rows, E].
      labels: [rows] from 0, the same for rows that are not neighbours of each other; None: each row has its own.
    """
    known = np.arange(len(vectors)) if labels is None else labels
    return np.where(with_text(vectors), known, NONE).astype(np.int32)
