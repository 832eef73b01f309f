"""The difference of two methods, where users and seeds are both samples: a mixed bootstrap, and the matching test.

Gain of seed s at user u: g[s, u] = m + a[s] + b[u] + e[s, u]. The mean over S seeds and n users has the variance

    var(a) / S + var(b) / n + var(e) / (S n)

Users are the same for both methods and all seeds, so they are drawn together, n of n, for the difference of the means over seeds:
var(b) / n + var(e) / (S n). Seeds of different methods have nothing in common, whatever their numbers, so they are drawn for each method
by itself, S of S, of the means over users. A resample adds what both draws move. That counts var(e) / (S n) twice, which makes intervals
a little too wide; to draw rows and columns of one table together counts it three times (Owen, "The pigeonhole bootstrap", Annals of
Applied Statistics 1(2), 2007).

S values drawn with replacement vary by (S - 1) / S less than those they stand for, and of few seeds the variance is itself hardly known;
so what seeds move is stretched by sqrt(S / (S - 1)) (Rao and Wu, JASA 83, 1988), and by the quantile of Student's t, with the degrees of
freedom of Welch and Satterthwaite, over the normal's. With one seed nothing is known of seeds, and users alone are drawn.
"""

import numpy as np

SEEDS = 0x5EED  # purpose of the random stream


def p_value_of_pair(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p-value of the hypothesis that gains [S, n] and [T, n] have the same mean; with one seed each, the paired t-test over
    users.

    The variance of the mean is the sum of three: over users, and over the seeds of each method. The degrees of freedom are those of Welch
    and Satterthwaite.
    """
    from scipy import stats

    d = second.mean(axis=0) - first.mean(axis=0)
    parts = [(d.var(ddof=1) / len(d), len(d) - 1)] if len(d) > 1 else []
    parts += [_variance_of_seeds(own) for own in (first, second) if len(own) > 1]
    variance = sum(part for part, _ in parts)
    # If all users have equal gains there is nothing to test, and the statistic would be 0/0.
    if variance == 0 or (np.ptp(d) == 0 and len(parts) < 2):
        return float(d[0] == 0)
    t = abs(d.mean()) / np.sqrt(variance)
    return float(2 * stats.t.sf(t, _degrees_of_freedom(parts)))


def interval_of_pair(
    first: np.ndarray, second: np.ndarray, of_users: np.ndarray, level: float, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of second minus first.

    Args:
      first, second: gains [S, n] and [T, n].
      of_users: [R] means of the difference in resamples of the users, averaged over seeds first.
      level: such as 0.95.
      seed: of the draws of seeds.
    """
    from scipy import stats

    rng = np.random.default_rng([seed, SEEDS])
    draws = of_users + 0.0
    several = [(own, sign) for own, sign in ((first, -1), (second, 1)) if len(own) > 1]
    parts = [part for own, _ in several if (part := _variance_of_seeds(own))[0] > 0]
    if parts:
        tail = (1 + level) / 2
        stretch = stats.t.ppf(tail, _degrees_of_freedom(parts)) / stats.norm.ppf(tail)
        for own, sign in several:
            draws += sign * stretch * moved_by_seeds(own.mean(axis=1), len(draws), rng)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def moved_by_seeds(means: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[resamples] deviations of the mean of the seeds' means [S] if S seeds are drawn with replacement, rescaled to the variance of that
    mean.
    """
    count = len(means)
    drawn = means[rng.integers(0, count, (resamples, count))].mean(axis=1)
    moved: np.ndarray = np.sqrt(count / (count - 1)) * (drawn - means.mean())
    return moved


def _variance_of_seeds(gains: np.ndarray) -> tuple[float, int]:
    """Variance of the mean of [S, n] gains over seeds, estimated from the scatter of their means, and its degrees of freedom."""
    return float(gains.mean(axis=1).var(ddof=1) / len(gains)), len(gains) - 1


def _degrees_of_freedom(parts: list[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of estimated variances (Satterthwaite, 1946)."""
    total = sum(variance for variance, _ in parts)
    return float(total**2 / sum(variance**2 / freedom for variance, freedom in parts))
