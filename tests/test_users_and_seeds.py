"""Differences over users and seeds against known variances, SciPy's tests, and a thousand worlds in which there is none."""

import numpy as np
import pytest
from scipy import stats

from grasp_jax.evaluation import significance
from grasp_jax.evaluation.significance import compare
from grasp_jax.evaluation.users_and_seeds import (
    interval_of_pair,
    p_value_of_pair,
    seed_deviations,
)


def world(
    rng: np.random.Generator, seeds: int, users: int, of_seed: float, of_user: float, rest: float
) -> np.ndarray:
    """[S, n] gains of a method: deviations of seeds, of users, and of both."""
    return (
        of_seed * rng.standard_normal((seeds, 1))
        + of_user * rng.standard_normal(users)
        + rest * rng.standard_normal((seeds, users))
    )


def test_one_seed_is_a_paired_t_test_over_users() -> None:
    """Comparisons of runs with one seed would have other numbers than they had."""
    rng = np.random.default_rng(0)
    one, other = rng.random((1, 50)), rng.random((1, 50))
    expected = stats.ttest_rel(other[0], one[0]).pvalue
    assert p_value_of_pair(one, other) == pytest.approx(expected, rel=1e-9)
    draws = rng.standard_normal(999)
    assert interval_of_pair(one, other, draws, 0.95) == pytest.approx(
        tuple(np.quantile(draws, [0.025, 0.975]))
    )


def test_where_only_seeds_vary_it_is_welchs_test_of_seeds() -> None:
    """A difference of three lucky seeds would be told with the certainty of twenty thousand users."""
    rng = np.random.default_rng(1)
    one = np.repeat(rng.standard_normal((3, 1)), 40, axis=1)
    other = np.repeat(1 + 2 * rng.standard_normal((5, 1)), 40, axis=1)
    welch = stats.ttest_ind(other[:, 0], one[:, 0], equal_var=False)
    assert p_value_of_pair(one, other) == pytest.approx(welch.pvalue, rel=1e-9)
    low, high = interval_of_pair(one, other, np.full(20_000, welch_mean(one, other)), 0.95)
    expected = welch.confidence_interval(0.95)
    assert high - low == pytest.approx(expected.high - expected.low, rel=0.15)


def welch_mean(one: np.ndarray, other: np.ndarray) -> float:
    return float(other.mean() - one.mean())


def test_p_value_by_hand() -> None:
    """Seeds of one method, users, or degrees of freedom would be left out."""
    first = np.array([[0.0, 0.4, 0.2, 0.1], [0.2, 0.5, 0.1, 0.3]])
    second = np.array([[0.5, 0.7, 0.6, 0.3], [0.3, 0.6, 0.9, 0.4], [0.7, 0.9, 0.3, 0.6]])
    d = [second[:, u].sum() / 3 - first[:, u].sum() / 2 for u in range(4)]
    mean = sum(d) / 4
    of_users = sum((value - mean) ** 2 for value in d) / 3 / 4
    m1, m2 = first.sum(axis=1) / 4, second.sum(axis=1) / 4
    of_first = ((m1 - m1.mean()) ** 2).sum() / 1 / 2
    of_second = ((m2 - m2.mean()) ** 2).sum() / 2 / 3
    total = of_users + of_first + of_second
    freedom = total**2 / (of_users**2 / 3 + of_first**2 / 1 + of_second**2 / 2)
    expected = 2 * stats.t.cdf(-abs(mean) / total**0.5, freedom)
    assert p_value_of_pair(first, second) == pytest.approx(expected, rel=1e-12)


def test_seeds_move_the_mean_as_far_as_they_vary() -> None:
    """Three seeds drawn from three vary by a third too little."""
    means = np.array([0.1, 0.4, 0.25])
    moved = seed_deviations(means, 200_000, np.random.default_rng(2))
    assert moved.mean() == pytest.approx(0, abs=1e-3)
    assert moved.var() == pytest.approx(means.var(ddof=1) / 3, rel=0.02)


def test_width_is_that_of_known_variances() -> None:
    """The interval of many seeds and users must be as wide as var(a)/S, var(b)/n and var(e)/(S n) of both methods make it."""
    rng, seeds, users = np.random.default_rng(3), 60, 3000
    one, other = (world(rng, seeds, users, 0.02, 0.5, 0.4) for _ in range(2))
    (found,) = compare({"one": one, "other": other})
    variance = 2 * (0.02**2 / seeds + 0.5**2 / users + 0.4**2 / (seeds * users))
    assert found.high - found.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.12)
    assert found.seeds == seeds


@pytest.mark.parametrize(
    ("seeds", "of_seed"), [((3, 3), 0.1), ((5, 5), 0.1), ((3, 5), 0.1), ((5, 5), 0.0)]
)
def test_intervals_cover_what_is_true(
    monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, int], of_seed: float
) -> None:
    """Where seeds part, intervals over users alone miss the truth in every third world; these must not, nor be false alarms."""
    monkeypatch.setattr(significance, "RESAMPLES", 400)
    worlds, covered, of_users, alarms = 150, 0, 0, 0
    for number in range(worlds):
        rng = np.random.default_rng([4, number])
        shared = rng.standard_normal(200)  # what all methods find easy
        one, other = (shared + world(rng, count, 200, of_seed, 0.3, 0.5) for count in seeds)
        (found,) = compare({"one": one, "other": other}, number)
        (alone,) = compare({"one": one.mean(axis=0), "other": other.mean(axis=0)}, number)
        covered += found.low <= 0 <= found.high
        of_users += alone.low <= 0 <= alone.high
        alarms += found.p_value < 0.05
    assert 0.92 <= covered / worlds <= 1.0
    assert alarms / worlds <= 0.08
    assert of_users / worlds < 0.8 if of_seed else of_users / worlds > 0.9


def test_a_large_difference_is_seen() -> None:
    """Intervals that always cover would be of no use."""
    rng = np.random.default_rng(5)
    one, other = (level + world(rng, 5, 400, 0.02, 0.3, 0.3) for level in (0.0, 0.3))
    (found,) = compare({"one": one, "other": other})
    assert found.low > 0.2 and found.high < 0.4 and found.p_value < 1e-4


def test_holm_goes_over_all_pairs() -> None:
    """Three pairs would each be tested as if it were the only one."""
    rng = np.random.default_rng(6)
    gains = {name: world(rng, 3, 60, 0.05, 0.3, 0.3) for name in "abc"}
    raw = {
        (a, b): p_value_of_pair(gains[a], gains[b]) for a, b in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    smallest = min(raw, key=lambda pair: raw[pair])
    found = {(c.first, c.second): c.p_value for c in compare(gains)}
    assert found[smallest] == pytest.approx(min(1.0, 3 * raw[smallest]))
