"""The weight of text similarity in the score of each item: larger for items with few training interactions.

Towers that are trained by cross-entropy rank rare items low, because these are seldom the target. The cosine between an item's text and the
texts of a history does not depend on how often the item was bought, so it gets more weight for rare items (docs/studies.md).
"""

import numpy as np

# Number of training interactions at which an item's additional weight has fallen to half.
HALF = 3.0


def match_weights(counts: np.ndarray, weight: float, rare: float) -> np.ndarray:
    """[V, 1] float32: `weight` for items that are bought often, up to (1 + `rare`) times `weight` for items that nobody bought.

    Args:
      counts: [V] training interactions.
      weight: `model.plus.match_weight`.
      rare: `model.plus.match_rare`.
    """
    share = HALF / (counts + HALF)
    weights: np.ndarray = (weight * (1.0 + rare * share)).astype(np.float32)[:, None]
    return weights
