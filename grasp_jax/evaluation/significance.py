"""Whether one method ranks better than another: paired tests with Holm's correction, and bootstrap intervals, over users and seeds.

With one seed for each method: a paired t-test over users, and bootstrap intervals over users. With several seeds, the difference also
varies with the seeds, of which there are few: see `grasp_jax.evaluation.users_and_seeds`.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from grasp_jax.evaluation.users_and_seeds import interval_of_pair, p_value_of_pair

RESAMPLES = 2000
BLOCK = 100  # resamples that are computed together, at most
BLOCK_BYTES = 1 << 30  # of their counts, at most
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two methods on the same users and candidates.

    Attributes:
      first, second: their names.
      difference: mean of second minus first.
      low, high: 95 % bootstrap interval of the difference. Users are resampled and, if a method has several seeds, seeds too. It is not
        corrected for the number of pairs, so it may lie beside 0 although `p_value` is above 5 %.
      p_value: two-sided paired test over users and seeds, after Holm's correction over all pairs compared together.
      seeds: number of seeds of the method that has fewer. With 1 nothing is known about differences between seeds.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float
    seeds: int = 1


def compare(
    gains: Mapping[str, np.ndarray],
    seed: int = 0,
    known: Mapping[tuple[str, str], Comparison] = MappingProxyType({}),
) -> list[Comparison]:
    """Every pair of methods.

    Args:
      gains: for each method the metric of each user, [n], or [S, n] with S seeds; all methods have the same users in the same order.
      seed: seed of the bootstrap.
      known: by its names, the result of a pair that was compared, and counted by Holm's correction, together with other methods. It is
        returned as it is, and not counted again.
    """
    by_seed = {name: np.atleast_2d(np.asarray(gain, np.float64)) for name, gain in gains.items()}
    every = list(itertools.combinations(by_seed, 2))
    pairs = [pair for pair in every if pair not in known]
    means = {name: gain.mean(axis=0) for name, gain in by_seed.items()}
    differences = [means[b] - means[a] for a, b in pairs]
    draws = (
        bootstrap_means(np.stack(differences, axis=1), seed).T
        if pairs
        else np.empty((0, RESAMPLES))
    )
    compared = dict(known)
    p_values = holm([p_value_of_pair(by_seed[a], by_seed[b]) for a, b in pairs])
    for (a, b), d, resampled, p in zip(pairs, differences, draws, p_values, strict=True):
        low, high = interval_of_pair(by_seed[a], by_seed[b], resampled, LEVEL, seed)
        fewest = min(len(by_seed[a]), len(by_seed[b]))
        compared[a, b] = Comparison(a, b, float(d.mean()), low, high, p, fewest)
    return [compared[pair] for pair in every]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm, 1979): the corrected p-values may all be compared with the same level."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    largest = 0.0
    for position, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[k]))
        corrected[k] = largest
    return corrected.tolist()


def bootstrap_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """[RESAMPLES, k] means of the columns of [n, k] values, users drawn with replacement.

    A resample is stored as the count of each user; all columns use the same one. A block of resamples takes at most `BLOCK_BYTES`, unless
    a single one takes more.
    """
    rng = np.random.default_rng([seed, 0xB007])
    count = len(values)
    means = np.empty((RESAMPLES, values.shape[1]))
    # Blocks are smaller only for more than a million users, because the size of a block decides the order of the sums.
    block = min(BLOCK, max(1, BLOCK_BYTES // max(1, 8 * count)))
    counts = np.empty(
        (block, count)
    )  # as the product with values needs them, so that it makes no copy
    for first in range(0, RESAMPLES, block):
        resamples = range(first, min(first + block, RESAMPLES))
        for row, _ in enumerate(resamples):
            counts[row] = np.bincount(rng.integers(0, count, count), minlength=count)
        means[first : resamples.stop] = counts[: len(resamples)] @ values / count
    return means
