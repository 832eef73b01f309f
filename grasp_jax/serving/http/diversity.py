"""Lists whose items are less alike: maximal marginal relevance."""

from collections.abc import Callable

import numpy as np

from grasp_jax.serving.answers import Answer


def diversified(
    answer: Answer, unit: Callable[[np.ndarray], np.ndarray], k: int, diversity: float
) -> Answer:
    """Chooses k items one after the other, each with the largest (1 - d) * relevance - d * similarity.

    Relevance is the score, scaled from 0 for the last item of the pool to 1 for the first. Similarity is the largest cosine with an item
    that was chosen before (Carbonell and Goldstein, 1998).

    Args:
      answer: the pool, best first; more than k items if the catalogue has them.
      unit: item rows [n] -> their vectors of length one [n, D].
      k: largest number of items to choose.
      diversity: d, from 0 (the first k) to 1.

    Returns:
      The items in the order in which they were chosen, with their scores.
    """
    if diversity == 0 or len(answer.items) < 2 or not np.isfinite(answer.scores).all():
        return answer.select(slice(k))
    scores = answer.scores.astype(np.float64)
    spread = scores[0] - scores[-1]
    relevance = (scores - scores[-1]) / spread if spread > 0 else np.ones(len(scores))
    vectors = unit(answer.items)
    picked = [0]
    likeness = vectors @ vectors[0]
    for _ in range(min(k, len(scores)) - 1):
        worth = (1 - diversity) * relevance - diversity * likeness
        worth[picked] = -np.inf
        picked.append(int(np.argmax(worth)))
        likeness = np.maximum(likeness, vectors @ vectors[picked[-1]])
    return answer.select(np.array(picked))
