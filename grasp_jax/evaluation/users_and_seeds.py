"""The difference of two methods if users and seeds are both random samples: a bootstrap over both, and the corresponding test.

Gain of seed s at user u: g[s, u] = m + a[s] + b[u] + e[s, u]. The mean over S seeds and n users has the variance

    var(a) / S + var(b) / n + var(e) / (S n)

Users are the same for both methods and all seeds, so n of n users are drawn for the difference of the means over seeds, whose variance is
var(b) / n + var(e) / (S n). Seeds of different methods are independent, even if their numbers are equal, so S of S seeds are drawn for each
method separately, of the means over users. A resample adds the deviations of both draws. That counts var(e) / (S n) twice, which makes
intervals a little too wide; to draw rows and columns of one table together counts it three times (Owen, "The pigeonhole bootstrap", Annals
of Applied Statistics 1(2), 2007).

The variance of S values drawn with replacement is smaller than that of the sampled distribution by the factor (S - 1) / S, and the variance
of few seeds is itself uncertain. So the deviations of seeds are multiplied by sqrt(S / (S - 1)) (Rao and Wu, JASA 83, 1988), and by the
ratio of the quantiles of Student's t, with the degrees of freedom of Welch and Satterthwaite, and of the normal distribution. With one seed
nothing is known about the variance over seeds, and only users are drawn.
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
    parts += [_variance_of_seeds(gains) for gains in (first, second) if len(gains) > 1]
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
      of_users: [resamples] means of the difference in resamples of the users, averaged over seeds first.
      level: such as 0.95.
      seed: seed of the random draws.
    """
    from scipy import stats

    rng = np.random.default_rng([seed, SEEDS])
    draws = of_users + 0.0
    several = [(gains, sign) for gains, sign in ((first, -1), (second, 1)) if len(gains) > 1]
    parts = [part for gains, _ in several if (part := _variance_of_seeds(gains))[0] > 0]
    if parts:
        tail = (1 + level) / 2
        t_over_normal = stats.t.ppf(tail, _degrees_of_freedom(parts)) / stats.norm.ppf(tail)
        for gains, sign in several:
            draws += sign * t_over_normal * seed_deviations(gains.mean(axis=1), len(draws), rng)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def seed_deviations(means: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[resamples] deviations of the mean of the seeds' means [S] if S seeds are drawn with replacement, rescaled to the variance of that
    mean.
    """
    count = len(means)
    drawn = means[rng.integers(0, count, (resamples, count))].mean(axis=1)
    deviations: np.ndarray = np.sqrt(count / (count - 1)) * (drawn - means.mean())
    return deviations


def _variance_of_seeds(gains: np.ndarray) -> tuple[float, int]:
    """Variance of the mean of [S, n] gains over seeds, estimated from the scatter of their means, and its degrees of freedom."""
    return float(gains.mean(axis=1).var(ddof=1) / len(gains)), len(gains) - 1


def _degrees_of_freedom(parts: list[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of estimated variances (Satterthwaite, 1946)."""
    total = sum(variance for variance, _ in parts)
    return float(total**2 / sum(variance**2 / freedom for variance, freedom in parts))
