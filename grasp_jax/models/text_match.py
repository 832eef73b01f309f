"""How much the nearness of texts counts in a score, item by item: more for items that training has hardly seen.

The cosine of an item's text with the texts of a history, which nobody trains, ranks rare items far better than towers do: cross-entropy
teaches these that rare items are seldom the answer. A score in which it counts more for rare items has both.
"""

import numpy as np

# Training interactions with which an item's further weight has fallen to half.
HALF = 3.0


def match_weights(counts: np.ndarray, weight: float, rare: float) -> np.ndarray:
    """[V, 1] float32: `weight` for items that are bought often, and 1 + `rare` times as much for those that nobody has bought.

    Args:
      counts: [V] training interactions.
      weight: of `model.plus.match_weight`.
      rare: of `model.plus.match_rare`.
    """
    share = HALF / (counts + HALF)
    weights: np.ndarray = (weight * (1.0 + rare * share)).astype(np.float32)[:, None]
    return weights
