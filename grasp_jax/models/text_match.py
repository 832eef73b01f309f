"""How much the nearness of texts counts in a score, item by item: more for items that training has hardly seen.

Towers that are trained by cross-entropy rank rare items low, for they are seldom the answer. The cosine of an item's text with the texts
of a history does not depend on how often the item was bought, so it gets more weight for rare items (docs/studies.md).
"""

import numpy as np

# Number of training interactions at which an item's additional weight has fallen to half.
HALF = 3.0


def match_weights(counts: np.ndarray, weight: float, rare: float) -> np.ndarray:
    """[V, 1] float32: `weight` for items that are bought often, up to (1 + `rare`) times `weight` for items that nobody bought.

    Args:
      counts: [V] training interactions.
      weight: of `model.plus.match_weight`.
      rare: of `model.plus.match_rare`.
    """
    share = HALF / (counts + HALF)
    weights: np.ndarray = (weight * (1.0 + rare * share)).astype(np.float32)[:, None]
    return weights
