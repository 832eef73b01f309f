"""HR, NDCG and MRR from ranks, overall and by group, as rows of `results.json`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from grasp_jax.data.groups import Groups

CUTOFFS = (1, 3, 5, 10, 20)


def ndcg_gains(ranks: np.ndarray, cutoff: int = 10) -> np.ndarray:
    """[n] NDCG of each user's rank (from 0): 1 / log2(rank + 2) among the first `cutoff`, because with one target the ideal DCG is 1. The
    mean is the metric.
    """
    ranks = np.asarray(ranks, np.float64)
    return np.where(ranks < cutoff, 1.0 / np.log2(ranks + 2.0), 0.0)


def metrics(ranks: np.ndarray) -> dict[str, float]:
    """Mean metrics of [n] ranks from 0 (0: no negative scores as high as the target); values in 0..1."""
    ranks = np.asarray(ranks, np.float64)
    row = {f"NDCG@{k}": float(ndcg_gains(ranks, k).mean()) for k in CUTOFFS}
    row |= {f"HR@{k}": float((ranks < k).mean()) for k in CUTOFFS}
    return row | {"MRR": float((1.0 / (ranks + 1.0)).mean())}


def ndcg_at_10(ranks: np.ndarray) -> float:
    """Mean NDCG@10 of [n] ranks from 0, the metric of early stopping; a value in 0..1."""
    return float(ndcg_gains(ranks).mean())


def group_rows(
    ranks: np.ndarray,
    users: np.ndarray,
    targets: np.ndarray,
    groups: Groups,
    labels: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """One row for all users and one for each head and tail group that is not empty.

    Args:
      ranks: [n] ranks of the evaluated users.
      users: [n] their rows.
      targets: [n] the targets.
      groups: head and tail membership.
      labels: dataset, method, backbone, seed, split, protocol and whatever else identifies the rows.
    """
    tail_user, tail_item = groups.tail_user[users], groups.tail_item[targets]
    masks = {
        "all": np.ones(len(ranks), bool),
        "tail_user": tail_user,
        "head_user": ~tail_user,
        "tail_item": tail_item,
        "head_item": ~tail_item,
    }
    for name, mask in masks.items():
        if mask.any():
            yield {**labels, "group": name, "n": int(mask.sum()), **metrics(ranks[mask])}
