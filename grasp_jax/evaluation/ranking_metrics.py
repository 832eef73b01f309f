"""Further metrics of a test, by name or as a function: of ranks, and of the recommended lists.

A metric takes a `Ranking` and returns a number. One of your own:

    def misses(ranking: Ranking) -> float:
        return float((ranking.ranks >= 100).mean())

    model.evaluate(metrics=["MAP@10", "Coverage@10", misses])
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.evaluation.metrics import ndcg_gains


@dataclasses.dataclass(frozen=True)
class Ranking:
    """How a model ranks the catalogue for the n users of a test.

    Attributes:
      ranks: [n] ranks of the targets among all items, from 0.
      users: [n] user rows.
      targets: [n] item rows.
      item_counts: [V] training interactions of each item.
      top: function of k that returns [n, k] the items that each user would be shown, best first; computed only if a metric calls it.
    """

    ranks: np.ndarray
    users: np.ndarray
    targets: np.ndarray
    item_counts: np.ndarray
    top: Callable[[int], np.ndarray]


Metric = Callable[[Ranking], float]


def ndcg(ranking: Ranking, k: int) -> float:
    """Mean of `ndcg_gains`."""
    return float(ndcg_gains(ranking.ranks, k).mean())


def recall(ranking: Ranking, k: int) -> float:
    """Share of targets among the first k; with one target per user the same as the hit rate HR."""
    return float((ranking.ranks < k).mean())


def mean_average_precision(ranking: Ranking, k: int) -> float:
    """Mean of 1 / (rank + 1) of targets among the first k: with one target per user its precision is averaged over one place."""
    return float(np.where(ranking.ranks < k, 1.0 / (ranking.ranks + 1.0), 0.0).mean())


def coverage(ranking: Ranking, k: int) -> float:
    """Share of the catalogue that is among the first k items of at least one user."""
    return float(len(np.unique(ranking.top(k))) / len(ranking.item_counts))


def novelty(ranking: Ranking, k: int) -> float:
    """Mean self-information, in bits, of the items shown: -log2 of an item's share of the training interactions (Zhou et al., 2010).

    Items without interactions count as if they had one.
    """
    counts = np.maximum(ranking.item_counts, 1)
    return float(-np.log2(counts / counts.sum())[ranking.top(k)].mean())


METRICS: dict[str, Callable[[Ranking, int], float]] = {
    "NDCG": ndcg,
    "HR": recall,
    "Recall": recall,
    "MAP": mean_average_precision,
    "Coverage": coverage,
    "Novelty": novelty,
}


def measured(ranking: Ranking, metrics: Sequence[str | Metric]) -> dict[str, float]:
    """The value of each metric, by its name.

    Raises:
      UserError: there is no metric of this name, or a function does not return a number.
    """
    if isinstance(metrics, str):
        raise UserError(f"metrics: {metrics!r}; expected a list, such as [{metrics!r}]")
    values: dict[str, float] = {}
    for metric in metrics:
        if isinstance(metric, str):
            values[metric] = _named(metric, len(ranking.item_counts))(ranking)
            continue
        name = metric.__name__ if inspect.isfunction(metric) else type(metric).__name__
        if name in values:
            raise UserError(f"metrics: two are called {name!r}; give each a name of its own")
        value = metric(ranking)
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise UserError(f"metrics: {name} returns {value!r}; expected a number")
        values[name] = float(value)
    return values


def _named(name: str, num_items: int) -> Metric:
    match = re.fullmatch(r"(\w+)@(\d+)", name)
    if match is None or match[1] not in METRICS or not 1 <= int(match[2]) <= num_items:
        names = ", ".join(f"{metric}@10" for metric in METRICS)
        raise UserError(
            f"metrics: {name!r}; expected a function, or one of {names}, with a number from 1 to {num_items}"
        )
    return lambda ranking: METRICS[match[1]](ranking, int(match[2]))
