"""Warnings about texts or vectors that many items or users share, so that nothing tells these apart."""

from collections.abc import Iterable, Sequence

import numpy as np

from grasp_jax.core.log import logger

SHARE, AT_LEAST = 0.2, 10  # of the rows, above which equal ones are worth a warning
SHOWN = 80  # characters of an example


def are_many(count: int, total: int) -> bool:
    """Whether `count` equal rows of `total` are worth a warning."""
    return count >= AT_LEAST and count > SHARE * total


def most_common(hashes: np.ndarray) -> tuple[int, int]:
    """How many of [rows] or [rows, n] hashes are the most common one, and its first row; (0, -1) without rows."""
    if not len(hashes):
        return 0, -1
    _, first, counts = np.unique(hashes, axis=0, return_index=True, return_counts=True)
    best = int(np.argmax(counts))
    return int(counts[best]), int(first[best])


def vector_hashes(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """[rows] int64 hashes of the rows of [n, E] blocks, equal for equal rows, and the number of rows of zeros."""
    hashes, zeros = [np.empty(0, np.int64)], 0
    for block in blocks:
        rows = np.ascontiguousarray(block) + 0  # -0 becomes 0
        hashes.append(np.array([hash(row.tobytes()) for row in rows], np.int64))
        zeros += int((~rows.any(axis=1)).sum())
    return np.concatenate(hashes), zeros


def report_equal_texts(kind: str, texts: Sequence[str], hashes: np.ndarray) -> int:
    """Warns if many texts of "items" or "users" are one and the same, by their [rows, 2] hashes; returns how many are."""
    count, row = most_common(hashes)
    if are_many(count, len(texts)):
        line = " ".join(texts[row].split())
        logger.warning(
            f"{kind}: {count:,} of {len(texts):,} have the same text, so it tells none of them apart: "
            f"{line[:SHOWN] + ' ...' if len(line) > SHOWN else line!r}"
        )
    return count


def report_equal_vectors(
    kind: str, ids: np.ndarray, blocks: Iterable[np.ndarray], same_text: int
) -> None:
    """Warns if many of the encoder's vectors are zeros, or equal though their texts are not.

    Args:
      kind: "items" or "users".
      ids: [rows] of the vectors.
      blocks: [n, E] of the vectors, in order.
      same_text: how many rows have the most common text, whose vectors are equal with good reason.
    """
    hashes, zeros = vector_hashes(blocks)
    if are_many(zeros, len(ids)):
        logger.warning(
            f"{kind}: {zeros:,} of {len(ids):,} have a vector of zeros, which has no direction: a method sees no text of theirs; does the "
            "encoder know the words of the texts?"
        )
        return
    count, row = most_common(hashes)
    if count > same_text and are_many(count, len(ids)):
        logger.warning(
            f"{kind}: {count:,} of {len(ids):,} have the same vector, that of {kind[:-1]} {ids[row]}, though their texts differ; did the "
            "encoder fail?"
        )
