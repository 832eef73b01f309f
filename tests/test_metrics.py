"""Metrics against values worked out by hand, and the rows made of them."""

import numpy as np
import pytest

from grasp_jax.data.groups import Groups
from grasp_jax.evaluation.metrics import CUTOFFS, group_rows, metrics, ndcg_at_10

RANKS = np.array([0, 1, 3, 9, 10, 19, 20, 100])  # first, second, fourth, tenth, ...


@pytest.mark.parametrize(("cutoff", "hits"), [(1, 1), (3, 2), (5, 3), (10, 4), (20, 6)])
def test_hit_rate(cutoff: int, hits: int) -> None:
    """Every HR would be off by one place: ranks count from 0, so HR@k asks for rank < k."""
    assert metrics(RANKS)[f"HR@{cutoff}"] == hits / 8


def test_ndcg() -> None:
    """Every NDCG would be off: one relevant item gains 1 / log2(place + 1), places from 1, and nothing beyond the cutoff."""
    row = metrics(RANKS)
    assert row["NDCG@1"] == pytest.approx(1 / 8)
    assert row["NDCG@3"] == pytest.approx((1 + 0.6309297535714575) / 8)
    assert row["NDCG@5"] == pytest.approx((1 + 0.6309297535714575 + 0.43067655807339306) / 8)
    assert row["NDCG@10"] == pytest.approx(
        (1 + 0.6309297535714575 + 0.43067655807339306 + 0.2890648263178879) / 8
    )
    assert row["NDCG@20"] == pytest.approx(
        (8 * row["NDCG@10"] + 0.2789429456511298 + 0.22767024869695302) / 8
    )


def test_mrr() -> None:
    """MRR has no cutoff: ranks beyond every list still count."""
    assert metrics(RANKS)["MRR"] == pytest.approx(
        (1 + 1 / 2 + 1 / 4 + 1 / 10 + 1 / 11 + 1 / 20 + 1 / 21 + 1 / 101) / 8
    )


def test_extremes() -> None:
    """A perfect model must score 1 everywhere and one that ranks last 0, or tables cannot be compared between cutoffs."""
    best, worst = metrics(np.zeros(5, np.int32)), metrics(np.full(5, 100, np.int32))
    assert set(best) == {f"{name}@{k}" for name in ("HR", "NDCG") for k in CUTOFFS} | {"MRR"}
    assert set(best.values()) == {1.0}
    assert {value for name, value in worst.items() if name != "MRR"} == {0.0}


def test_early_stopping_metric_is_the_reported_one() -> None:
    """Early stopping would choose epochs by another number than the tables show."""
    assert ndcg_at_10(RANKS) == pytest.approx(metrics(RANKS)["NDCG@10"])


def test_group_rows() -> None:
    """Tail and head would be mixed up, or looked up by place in the ranks and not by user and item row."""
    groups = Groups(np.array([True, False, False, True]), np.array([False, True, False]), 3, 2)
    ranks, users, targets = np.array([0, 4, 30]), np.array([1, 2, 3]), np.array([2, 1, 1])
    rows = {
        row["group"]: row
        for row in group_rows(ranks, users, targets, groups, {"method": "plain", "seed": 7})
    }
    assert {name: row["n"] for name, row in rows.items()} == {
        "all": 3,
        "tail_user": 1,
        "head_user": 2,
        "tail_item": 2,
        "head_item": 1,
    }
    assert {name: row["HR@5"] for name, row in rows.items()} == pytest.approx(
        {"all": 2 / 3, "tail_user": 0.0, "head_user": 1.0, "tail_item": 0.5, "head_item": 1.0}
    )
    assert all(row["method"] == "plain" and row["seed"] == 7 for row in rows.values())


def test_empty_group_has_no_row() -> None:
    """A group without members would put the mean of nothing, NaN, into results.json."""
    groups = Groups(np.zeros(3, bool), np.ones(3, bool), 0, 9)
    rows = list(group_rows(np.array([0, 1]), np.array([0, 2]), np.array([1, 1]), groups, {}))
    assert [row["group"] for row in rows] == ["all", "head_user", "tail_item"]
