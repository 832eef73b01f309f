"""Partial whitening of text vectors for the input of a network: directions with little variance are scaled up.

Sentence encoders put most of the variance in few directions (arXiv 2011.05864; WhitenRec, arXiv 2402.17152), which distinguish departments
rather than items. Full whitening amplifies noise as much as meaning. So each direction is divided by a power of its standard deviation.
"""

import numpy as np

from grasp_jax.core.log import logger
from grasp_jax.knowledge.encoders.geometry import principal_axes

# share of the largest variance: smaller variances are noise and are not amplified further
SMALLEST = 1e-6
# rows come from vectors of length 1, so a largest variance below this is rounding error
LARGEST_OF_EQUAL_ROWS = 1e-12
ROWS = 1 << 16  # rows that are transformed at once, so that no second table in float64 is needed


def whitening_matrix(rows: np.ndarray, exponent: float, length: float) -> np.ndarray:
    """The matrix that rotates rows to their principal directions, and divides each direction by its standard deviation to the power
    `exponent`.

    Args:
      rows: [V, E] with a mean near zero, as in a bank. The mean is not subtracted, so that a row of zeros (an item without text) stays
        zero.
      exponent: 0 only rotates the rows, 1 is whitening.
      length: root mean square length of the transformed rows; zeros do not count.

    Returns:
      [E, E] float64 for `transformed`; the order of the rows changes only rounding. Zeros if all rows are equal.
    """
    num_nonzero = int((np.abs(rows).max(axis=1) > 0).sum())
    blocks = (rows[begin : begin + ROWS] for begin in range(0, len(rows), ROWS))
    variances, directions = principal_axes(blocks, rows.shape[1], num_nonzero)
    if variances[0] < LARGEST_OF_EQUAL_ROWS:
        logger.warning(
            "the texts of all items are alike, so text tells none from another; only IDs are learned from"
        )
        return np.zeros_like(directions)
    variances = np.maximum(variances, SMALLEST * variances[0])
    new_variances = variances ** (1.0 - exponent)
    scale = length / np.sqrt(max(new_variances.sum(), np.finfo(np.float64).tiny))
    matrix: np.ndarray = directions * variances ** (-exponent / 2.0) * scale
    return matrix


def transformed(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """[n, E] rows and an [E, E'] matrix -> [n, E'] float32."""
    return np.concatenate(
        [
            (np.asarray(rows[begin : begin + ROWS], np.float64) @ matrix).astype(np.float32)
            for begin in range(0, len(rows), ROWS)
        ]
    )
