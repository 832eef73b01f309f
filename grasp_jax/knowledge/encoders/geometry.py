"""Transforms an encoder's vectors to rows of a bank: unit length, minus the mean direction, projected if the width is reduced."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import UserError

Blocks = Callable[[], Iterator[np.ndarray]]  # the [n, E] blocks of a table, read again in each call
# Lengths between which the squares of float32 numbers neither vanish nor overflow.
SHORT, LONG = 1e-12, 1e18


class Geometry(NamedTuple):
    """The transformation of every vector.

    Attributes:
      centre: [E'] taken out of unit rows; zeros for nothing.
      basis: [E', E] directions that are kept, or None for all as they are.
    """

    centre: np.ndarray
    basis: np.ndarray | None = None


def to_rows(vectors: np.ndarray, geometry: Geometry) -> np.ndarray:
    """[n, at least E'] -> [n, E] float32 rows of length one; zeros, which stand for no text, stay zeros, also if a centre is taken out."""
    unit = unit_rows(shortened(vectors, len(geometry.centre)))
    if geometry.centre.any():
        unit = unit_rows(np.where(unit.any(axis=1, keepdims=True), unit - geometry.centre, 0))
    return unit if geometry.basis is None else unit_rows(unit @ geometry.basis)


def mean_direction(blocks: Blocks, width: int) -> np.ndarray:
    """[width] float32 mean of the rows that are not zeros, each first made one long."""
    total, count = np.zeros(width), 0
    for block in blocks():
        unit = unit_rows(shortened(block, width))
        total += unit.sum(axis=0, dtype=np.float64)
        count += int(unit.any(axis=1).sum())
    return (total / max(count, 1)).astype(np.float32)


def principal_directions(
    blocks: Blocks, used: np.ndarray, centre: np.ndarray, width: int
) -> np.ndarray:
    """[E', width] float32 directions of largest variance.

    Args:
      blocks: of the items; users are put into the items' directions, since a gate compares the two.
      used: [V] bool, the rows that are looked at: those of items that are bought in training.
      centre: [E'] of the items.
      width: E.
    """

    def used_rows() -> Iterator[np.ndarray]:
        begin = 0
        for block in blocks():
            yield to_rows(block[used[begin : begin + len(block)]], Geometry(centre))
            begin += len(block)

    _, directions = principal_axes(used_rows(), len(centre), int(used.sum()))
    return directions[:, :width].astype(np.float32)


def principal_axes(
    blocks: Iterable[np.ndarray], width: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """[width] variances, the largest first, and [width, width] directions in its columns, of rows whose mean is taken as zero; float64.

    Args:
      blocks: [n, width] rows.
      width: of a row.
      count: number of rows by which the sums of squares are divided.
    """
    covariance = np.zeros((width, width))
    for block in blocks:
        rows = np.asarray(block, np.float64)
        covariance += rows.T @ rows
    variances, directions = np.linalg.eigh(covariance / max(count, 1))
    directions = directions[:, ::-1]
    # eigh does not determine the sign
    signs = np.where(np.abs(directions).max(axis=0) == directions.max(axis=0), 1.0, -1.0)
    return variances[::-1], directions * signs


def widths(config: KnowledgeConfig, given: int) -> tuple[int, int]:
    """E' that is read of a vector of `given` numbers, and E that a row of the bank has.

    Raises:
      UserError: more is to be kept than there is.
    """
    if config.reduction.kind == "none":
        return given, given
    kept = config.reduction.width
    if kept > given:
        raise UserError(
            f"config.knowledge.reduction.width: {kept}; the encoder's vectors have {given} numbers; expected at most that"
        )
    return (kept, kept) if config.reduction.kind == "truncate" else (given, kept)


def shortened(vectors: np.ndarray, width: int) -> np.ndarray:
    """[n, width] float32, first numbers of vectors [n, E]; still embeddings if a model is trained so (Matryoshka, arXiv 2205.13147)."""
    return vectors[:, :width].astype(np.float32)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """[n, E] rows of length one, of any finite numbers, in their dtype if that is a float of NumPy, else float64; zeros stay zeros."""
    scaled, norms, _ = _scaled_rows(vectors)
    return scaled / np.where(norms > 0, norms, 1)


def row_lengths(vectors: np.ndarray) -> np.ndarray:
    """[n] lengths of rows, by which `unit_rows` divides; infinite only if the length itself is too large for the type."""
    _, norms, scales = _scaled_rows(vectors)
    with np.errstate(over="ignore"):
        return np.asarray((norms * scales)[:, 0])


def _scaled_rows(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows divided by [n, 1] scales, their [n, 1] lengths, and the scales: 1, except for rows whose squares are too large or too small for
    the type, such as float32 numbers of 1e30 or 1e-30. Their scale is the largest number of the row.
    """
    with np.errstate(over="ignore", under="ignore"):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scales = np.ones_like(norms)
    apart = ~((norms > SHORT) & (norms < LONG))[:, 0]
    if apart.any():
        largest = np.abs(vectors[apart]).max(axis=1, keepdims=True, initial=0)
        scales[apart] = np.where(largest > 0, largest, 1)
        vectors = vectors / scales
        norms[apart] = np.linalg.norm(vectors[apart], axis=1, keepdims=True)
    return vectors, norms, scales
