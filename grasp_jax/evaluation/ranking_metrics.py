"""Further metrics of a test, by name or as a function: of ranks, and of the recommended lists.

A metric takes a `Ranking` and returns a number. One of your own:

    def misses(ranking: Ranking) -> float:
        return float((ranking.ranks >= 100).mean())

    model.evaluate(metrics=["MAP@10", "Coverage@10", misses])
"""

import dataclasses
import operator
import re
from collections.abc import Callable, Collection, Sequence

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.evaluation.metrics import ndcg_gains


@dataclasses.dataclass(frozen=True)
class Ranking:
    """How a model ranks the catalogue for the n users of a test. All arrays are read-only, because every metric gets the same ones.

    By `full_unseen`, ranks and lists leave out the items that the user has had before, except the target: if the user has had it before, it
    is ranked like any other target. A target with rank r < k is in `top(k)`, at place r. Only ties are an exception: by its rank, a target
    comes after all items with the same score, and in the list it may come before some of them.

    Attributes:
      ranks: [n] integer ranks of the targets among the candidates, from 0.
      users: [n] integer user rows.
      targets: [n] integer item rows.
      item_counts: [V] training interactions of each item.
      top: function of k, from 1 to V, that returns [n, k] int64 the item rows of the candidates with the highest scores, best first. If a
        user has fewer candidates, they are repeated. It is computed only if a metric calls it; `UserError` for another k.
    """

    ranks: np.ndarray
    users: np.ndarray
    targets: np.ndarray
    item_counts: np.ndarray
    top: Callable[[int], np.ndarray]

    def __post_init__(self) -> None:
        for name in ("ranks", "users", "targets", "item_counts"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)


def length_of_lists(k: int, num_items: int) -> int:
    """The argument of `Ranking.top` as an int.

    Raises:
      UserError: it is not a whole number from 1 to the number of items.
    """
    try:
        length = operator.index(k)
    except TypeError:
        length = 0
    if not 1 <= length <= num_items:
        raise UserError(
            f"top({k!r}): expected a whole number from 1 to {num_items}, the number of items"
        )
    return length


Metric = Callable[[Ranking], float]
LONGEST = 60  # letters of a value in a message
# in the names of types of which Python makes floats, although they are no real numbers
NO_NUMBERS = ("bool", "complex", "timedelta", "<U", "|S")


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


def measured(
    ranking: Ranking, metrics: Sequence[str | Metric], taken: Collection[str] = ()
) -> dict[str, float]:
    """The value of each metric, by its name.

    Args:
      ranking: what is measured.
      metrics: names, and functions, which are called by their `__name__`, or by their type if they have none.
      taken: names of other columns of the result, which no function may have.

    Raises:
      UserError: there is no metric of this name, the name of a function is taken, or a function does not return a number.
    """
    if isinstance(metrics, str):
        raise UserError(f"metrics: {metrics!r}; expected a list, such as [{metrics!r}]")
    values: dict[str, float] = {}
    for metric in metrics:
        if isinstance(metric, str):
            values[metric] = _named(metric, len(ranking.item_counts))(ranking)
            continue
        name = _name_of(metric)
        if name in values:
            raise UserError(
                f"metrics: two are called {name!r}; wrap each in a function with a name of its own"
            )
        if name in taken:
            raise UserError(
                f"metrics: {name!r} is another column of the results; give the function another name"
            )
        value = metric(ranking)
        if not _is_number(value):
            raise UserError(f"metrics: {name} returns {_shown(value)}; expected a number")
        values[name] = float(value)
        if not np.isfinite(values[name]):
            logger.warning(f"warning: metrics: {name} is {values[name]}, not a finite number")
    return values


def _shown(value: object) -> str:
    """A value in a message; of an array with axes, only its shape."""
    shape = getattr(value, "shape", ())
    text = repr(value) if shape == () else f"an array of shape {shape}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _name_of(metric: Metric) -> str:
    """The name of a function or of another callable object; without one, the name of its type."""
    name = getattr(metric, "__name__", None)
    return name if isinstance(name, str) else type(metric).__name__


def _is_number(value: object) -> bool:
    """Whether a value is a real number, or an array of NumPy, JAX or the like that holds one and has no axes."""
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    dtype = str(getattr(value, "dtype", ""))
    if getattr(value, "shape", None) != () or any(kind in dtype for kind in NO_NUMBERS):
        return False
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _named(name: str, num_items: int) -> Metric:
    match = re.fullmatch(r"(\w+)@(\d+)", name)
    if match is None or match[1] not in METRICS or not 1 <= int(match[2]) <= num_items:
        names = ", ".join(f"{metric}@10" for metric in METRICS)
        raise UserError(
            f"metrics: {name!r}; expected a function, or one of {names}, with a number from 1 to {num_items}"
        )
    return lambda ranking: METRICS[match[1]](ranking, int(match[2]))
