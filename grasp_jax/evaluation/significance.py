"""Whether one method ranks better than another: paired t-tests over users with Holm's correction, and bootstrap intervals."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES, BLOCK = 2000, 100
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two methods on the same users and candidates.

    Attributes:
      first, second: their names.
      difference: mean of second minus first.
      low, high: bootstrap interval of the difference, 95 %.
      p_value: two-sided paired t-test over users, after Holm's correction over all pairs compared together.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float


def ndcg_gains(ranks: np.ndarray, cutoff: int = 10) -> np.ndarray:
    """[n] NDCG of each user's rank (from 0); the mean is the metric."""
    ranks = np.asarray(ranks, np.float64)
    return np.where(ranks < cutoff, 1.0 / np.log2(ranks + 2.0), 0.0)


def compare(gains: Mapping[str, np.ndarray], seed: int = 0) -> list[Comparison]:
    """Every pair of methods.

    Args:
      gains: per method [n] a number for each user, of the same users in the same order; several seeds are averaged by user before.
      seed: of the bootstrap.
    """
    from scipy import stats

    pairs = list(itertools.combinations(gains, 2))
    differences = [np.asarray(gains[b]) - np.asarray(gains[a]) for a, b in pairs]
    # Users who are equal throughout leave nothing to test, and SciPy's statistic would be 0/0.
    p_values = [
        float(stats.ttest_1samp(d, 0.0).pvalue) if np.ptp(d) > 0 else float(d[0] == 0)
        for d in differences
    ]
    intervals = (
        bootstrap_intervals(np.stack(differences, axis=1), seed) if pairs else np.empty((0, 2))
    )
    return [
        Comparison(a, b, float(d.mean()), float(low), float(high), p)
        for (a, b), d, (low, high), p in zip(
            pairs, differences, intervals, holm(p_values), strict=True
        )
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm, 1979): p-values that may be compared with one level together."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    largest = 0.0
    for position, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[k]))
        corrected[k] = largest
    return corrected.tolist()


def bootstrap_intervals(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Percentile intervals of the means of the columns of [n, k] values, users drawn with replacement: [k, 2].

    A resample is how often each user is in it; one serves all columns.
    """
    rng = np.random.default_rng([seed, 0xB007])
    count = len(values)
    means = np.empty((RESAMPLES, values.shape[1]))
    for first in range(0, RESAMPLES, BLOCK):
        drawn = [np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(BLOCK)]
        means[first : first + BLOCK] = np.stack(drawn) @ values / count
    return np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).T
