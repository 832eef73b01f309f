"""Text vectors as the input of a network: directions in which texts differ little are blown up, half-way to the others.

Sentence encoders put most of the variance in few directions (arXiv 2011.05864; WhitenRec, arXiv 2402.17152), which name the department
and hardly the item. Whitening wholly makes noise as loud as meaning; dividing by a power of the standard deviation is the way between.
"""

import numpy as np

from grasp_jax.knowledge.encoders.geometry import principal_axes
from grasp_jax.log import logger

# share of the largest variance: smaller variances are noise and are not amplified further
SMALLEST = 1e-6
# rows come from vectors of length 1, so a largest variance below this is rounding error
ALIKE = 1e-12
ROWS = 1 << 16  # rows that are turned at once, so that no second table in float64 is needed


def whitening_turn(rows: np.ndarray, exponent: float, length: float) -> np.ndarray:
    """The matrix that turns rows along their principal directions, and divides each direction by its standard deviation to the power
    `exponent`.

    Args:
      rows: [V, E] with a mean near zero, as in a bank. The mean is not subtracted, so that a row of zeros (an item without text) stays
        zero.
      exponent: 0 only turns the rows, 1 is whitening.
      length: root mean square length of the rows that are turned; zeros do not count.

    Returns:
      [E, E] float64 for `turned`; the order of the rows changes only rounding. Zeros if all rows are equal.
    """
    there = int((np.abs(rows).max(axis=1) > 0).sum())
    blocks = (rows[begin : begin + ROWS] for begin in range(0, len(rows), ROWS))
    variances, directions = principal_axes(blocks, rows.shape[1], there)
    if variances[0] < ALIKE:
        logger.warning(
            "the texts of all items are alike, so text tells none from another; only IDs are learned from"
        )
        return np.zeros_like(directions)
    variances = np.maximum(variances, SMALLEST * variances[0])
    kept = variances ** (1.0 - exponent)
    scale = length / np.sqrt(max(kept.sum(), np.finfo(np.float64).tiny))
    turn: np.ndarray = directions * variances ** (-exponent / 2.0) * scale
    return turn


def turned(rows: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """[n, E] rows and an [E, E'] turn -> [n, E'] float32."""
    return np.concatenate(
        [
            (np.asarray(rows[begin : begin + ROWS], np.float64) @ turn).astype(np.float32)
            for begin in range(0, len(rows), ROWS)
        ]
    )
