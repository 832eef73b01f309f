"""The search for the weights of the parts of late fusion's score (`training.fusion_weights` says when, and with which validation)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from grasp_jax.config.model import MATCH_PART

STANDARD_ERRORS = 2.0  # a weight is lowered if validation gains more than so many standard errors
LOWER = {MATCH_PART: (0.0, 0.25, 0.5)}  # weights below 1 that are tried; only 0 for the towers


def lower_weights_of(kind: str) -> tuple[float, ...]:
    """The weights below 1 that are tried for a part."""
    return LOWER.get(kind, (0.0,))


def lowered_weights(
    kinds: Sequence[str], gains: Callable[[Mapping[str, float]], np.ndarray]
) -> dict[str, float]:
    """Lowers one or two weights at a time, as long as the validation score rises by more than noise.

    Two, because a part may help only to make up for another that harms. If no single weight is worth lowering, pairs are not tried.

    Args:
      kinds: names of the parts.
      gains: function from the weights of the parts to [n] NDCG@10 of each validation user.

    Returns:
      The weight of each part, at least one above 0.
    """
    weights: dict[str, float] = dict.fromkeys(kinds, 1.0)
    while True:
        now = gains(weights)
        one = list(_lower(weights))
        if not any(gains(lower).mean() > now.mean() for lower in one):
            return weights
        two = [second for first in one for second in _lower(first)]
        better = [lower for lower in one + two if is_better(gains(lower), now)]
        if not better:
            return weights
        weights = max(better, key=lambda lower: gains(lower).mean())


def is_better(gains: np.ndarray, than: np.ndarray) -> bool:
    """Whether users [n] gain more than `STANDARD_ERRORS` on average."""
    differences = gains - than
    standard_error = differences.std() / np.sqrt(len(differences))
    return bool(differences.mean() > STANDARD_ERRORS * standard_error)


def _lower(weights: Mapping[str, float]) -> Iterator[dict[str, float]]:
    """The same weights with a lower one, in every way that leaves a part above 0."""
    for kind, weight in weights.items():
        for lower in lower_weights_of(kind):
            candidate = {**weights, kind: lower}
            if lower < weight and any(candidate.values()):
                yield candidate
