"""Tests and intervals against SciPy, against the definition, and against a coin."""

import numpy as np
import pytest
from scipy import stats

from grasp_jax.evaluation import significance
from grasp_jax.evaluation.metrics import metrics, ndcg_gains
from grasp_jax.evaluation.results import comparison_table
from grasp_jax.evaluation.significance import bootstrap_means, compare, holm


def test_gains_average_to_the_metric() -> None:
    """Significance would be of another number than the table shows."""
    ranks = np.array([0, 3, 9, 10, 99, 1])
    np.testing.assert_allclose(ndcg_gains(ranks).mean(), metrics(ranks)["NDCG@10"], rtol=1e-12)


def test_p_values_equal_a_paired_t_test_corrected_by_hand() -> None:
    """Marks of significance would be wrong: SciPy's paired test for each pair, then the smallest times three, and so on."""
    rng = np.random.default_rng(0)
    base = rng.random(300)
    gains = {
        "a": base + 0.05 * rng.standard_normal(300),
        "b": base,
        "c": base + 0.02 + 0.1 * rng.standard_normal(300),
    }
    found = {(c.first, c.second): c for c in compare(gains)}
    raw = {
        pair: stats.ttest_rel(gains[pair[0]], gains[pair[1]]).pvalue
        for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    ordered = sorted(raw, key=lambda pair: raw[pair])
    largest = 0.0
    for factor, pair in zip((3, 2, 1), ordered, strict=True):
        largest = max(largest, min(1.0, factor * raw[pair]))
        assert found[pair].p_value == pytest.approx(largest)
        assert found[pair].difference == pytest.approx((gains[pair[1]] - gains[pair[0]]).mean())
        assert found[pair].low < found[pair].difference < found[pair].high


def test_holm_by_hand() -> None:
    """Holm's example: never smaller than a p-value before it, never above one, in the order given."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_equal_methods_do_not_differ() -> None:
    """A method compared with itself would give NaN."""
    (same,) = compare({"a": np.full(5, 0.3), "b": np.full(5, 0.3)})
    assert (same.p_value, same.difference, same.low, same.high) == (1.0, 0.0, 0.0, 0.0)
    (apart,) = compare({"a": np.full(5, 0.4), "b": np.full(5, 0.3)})
    assert apart.p_value == 0.0 and apart.difference == pytest.approx(-0.1)


def bootstrap_intervals(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """[k, 2] 95 % intervals of the means of the columns of [n, k] values."""
    found: np.ndarray = np.quantile(bootstrap_means(values, seed), (0.025, 0.975), axis=0).T
    return found


def test_many_users_are_drawn_in_smaller_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million users took 16 GB; with less memory the draws, and so the means, must stay the same."""
    values = np.random.default_rng(0).random((50, 2))
    expected = bootstrap_means(values)
    seven = 7 * 50 * 8  # bytes of seven resamples, which do not divide their number
    for room in (seven, 1):  # and of less than one
        monkeypatch.setattr(significance, "BLOCK_BYTES", room)
        np.testing.assert_allclose(bootstrap_means(values), expected, rtol=1e-12)


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    """Intervals would be too narrow or too wide: about 95 of 100 samples of a coin must cover one half."""
    rng = np.random.default_rng(1)
    covered = 0
    for k in range(100):
        ((low, high),) = bootstrap_intervals(rng.integers(0, 2, (400, 1)).astype(float), seed=k)
        covered += low <= 0.5 <= high
    assert 88 <= covered <= 100
    columns = np.stack([np.arange(9.0), rng.random(9)], axis=1)
    np.testing.assert_array_equal(bootstrap_intervals(columns, 3), bootstrap_intervals(columns, 3))
    np.testing.assert_allclose(
        bootstrap_intervals(columns[:, :1], 3), bootstrap_intervals(columns, 3)[:1]
    )


def test_a_mark_and_an_interval_that_disagree_are_explained() -> None:
    """With two seeds, a table would call a difference significant whose interval contains 0, and a reader would not know what holds."""
    row = {"protocol": "full", "backbone": "sasrec", "first": "plain", "second": "grasp"}
    row |= {"difference": 0.0459, "p_value": 0.0006, "low": -0.0098, "high": 0.1028}
    assert "train more of them" in comparison_table([row])
    clear, unmarked = row | {"low": 0.01}, row | {"p_value": 0.2}
    assert "train more of them" not in comparison_table([clear, unmarked])


def test_tables_say_that_intervals_are_not_corrected() -> None:
    """An interval without 0 and no star would be taken for a fault, or for a significant difference."""
    row = {"protocol": "full", "backbone": "sasrec", "first": "a", "second": "b"}
    row |= {"difference": 0.02, "low": 0.01, "high": 0.03, "p_value": 0.06}
    printed = comparison_table([row])
    assert "+2.00*" not in printed and "the intervals are not corrected" in printed
    assert "protocol and backbone" in printed
