"""The test case for new items: a shop as it was on one day, the items that it listed later, and what people bought after a second day.

Items that nobody bought before the first day (`valid_after` of a split by time) are not in the catalogue of training. So no encoder,
whitening, mean or neighbour is fitted to their texts, and training does not draw them as negatives, from which it would learn that nobody
buys them. `add_items` adds them afterwards.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.moments import shown, time_bounds

K = 10
ITEM = "item"
GROUPS = ("new", "known", "all")  # of purchases, by what was bought
AMONG_NEW = "among_new"  # key of the metrics of new items that are ranked among new items alone
METRICS = (f"Recall@{K}", f"NDCG@{K}")


@dataclasses.dataclass(frozen=True)
class Case:
    """A shop without and with the new items.

    Attributes:
      known: the shop for training: all interactions with the items that were bought before `valid_after`, split by time.
      whole: the shop with all items, split by the same days.
      new: columns of the items that `known` lacks, in the form that `add_items` reads.
      rows: [V] rows in `whole` of the items of `known`, then [n] of the new ones.
      purchases: the target purchases.
      counts: [V + n] purchases before `test_after`, in the order of `rows`.
      days: `valid_after` and `test_after`, in words.
    """

    known: Dataset
    whole: Dataset
    new: dict[str, list[Any]]
    rows: np.ndarray
    purchases: "Purchases"
    counts: np.ndarray
    days: tuple[str, str]

    @property
    def num_new(self) -> int:
        """Number n of new items."""
        return len(self.new[ITEM])


@dataclasses.dataclass(frozen=True)
class Purchases:
    """T purchases of people who have bought something before.

    Attributes:
      people: [T] user rows.
      histories: for each purchase, ids of the person's earlier items, oldest first.
      targets: [T] id of the bought item, as text.
      cold: [T] bool, whether this is a new item.
    """

    people: np.ndarray
    histories: Sequence[np.ndarray]
    targets: np.ndarray
    cold: np.ndarray

    def of_new_items(self) -> "Purchases":
        """The purchases of new items alone."""
        histories = [self.histories[place] for place in np.flatnonzero(self.cold).tolist()]
        kept = self.people[self.cold], histories, self.targets[self.cold], self.cold[self.cold]
        return Purchases(*kept)


def make_case(shop: Dataset) -> Case:
    """The case of a shop with times and texts: 80 and 90 % of the interactions are before the two days.

    Raises:
      UserError: there are no times or texts, or no item is new.
    """
    log, texts = shop.log, shop.texts.items
    if log.timestamps is None or texts is None:
        lacking = "times" if log.timestamps is None else "items table"
        raise UserError(
            f"--data: {shop.name} has no {lacking}; expected items that come later, told by their texts"
        )
    begin, end = time_bounds(log, "", "")
    is_new = np.bincount(log.items[log.timestamps < begin], minlength=log.num_items) == 0
    if not is_new.any():
        day = shown(begin, log.time_unit)
        raise UserError(
            f"--data: {shop.name}: every item was bought before {day}; expected items that come later"
        )
    old, new = np.flatnonzero(~is_new), np.flatnonzero(is_new)
    columns = {ITEM: log.item_ids.tolist(), **texts.columns}
    options = {"split": "time", "valid_after": str(begin), "test_after": str(end)}
    kept = ~is_new[log.items]
    interactions = {
        "user": log.user_ids[log.users[kept]].tolist(),
        "item": log.item_ids[log.items[kept]].tolist(),
        "timestamp": log.timestamps[kept].tolist(),
    }
    known = Dataset.from_frames(interactions, _of_rows(columns, old), name=shop.name, **options)
    assert (known.log.item_ids == log.item_ids[old]).all()
    rows = np.concatenate([old, new])
    counts = np.bincount(log.items[log.timestamps < end], minlength=log.num_items)[rows]
    return Case(
        known,
        shop.with_split(**options),
        _of_rows(columns, new),
        rows,
        _purchases(log, log.timestamps >= end, is_new),
        counts,
        (shown(begin, log.time_unit), shown(end, log.time_unit)),
    )


def _of_rows(columns: dict[str, Sequence[Any]], rows: np.ndarray) -> dict[str, list[Any]]:
    return {name: [values[row] for row in rows.tolist()] for name, values in columns.items()}


def _purchases(log: InteractionLog, later: np.ndarray, is_new: np.ndarray) -> Purchases:
    """The purchases among the interactions `later` [I] whose users have earlier interactions; `is_new` is [V] bool."""
    owners = log.users
    places = np.flatnonzero(later & (np.arange(log.num_interactions) > log.offsets[owners]))
    histories = [
        log.item_ids[log.items[log.offsets[owners[place]] : place]] for place in places.tolist()
    ]
    bought = log.items[places]
    return Purchases(owners[places], histories, log.item_ids[bought].astype(str), is_new[bought])


def measures_of(
    purchases: Purchases,
    shown_ids: Sequence[np.ndarray],
    new: set[str],
    reference: Sequence[np.ndarray] | None = None,
) -> dict[str, Any]:
    """Recall@10 and NDCG@10 for purchases of new items, of known items and of all, with standard errors over users, and the share of new
    items among those shown; from 0 to 1.

    Args:
      purchases: T of them.
      shown_ids: for each, ids of the ten best items as text, best first.
      new: ids of the new items.
      reference: the results of another model; then "METRIC less" has the mean difference from it, with a separate standard error.
    """
    groups = (purchases.cold, ~purchases.cold, np.ones(len(purchases.cold), bool))
    gains, others = gains_of(purchases, shown_ids), {}
    if reference is not None:
        others = gains_of(purchases, reference)
    found: dict[str, Any] = {
        "share_new": float(np.mean([item in new for own in shown_ids for item in own]))
    }
    for name, group in zip(GROUPS, groups, strict=True):
        people = purchases.people[group]
        found[name] = {"purchases": int(group.sum()), "users": len(np.unique(people))}
        for metric, gain in gains.items():
            found[name][metric] = float(gain[group].mean())
            found[name][f"{metric} error"] = standard_error(gain[group], people)
            if metric in others:
                less = (gain - others[metric])[group]
                found[name][f"{metric} less"] = float(less.mean())
                found[name][f"{metric} less error"] = standard_error(less, people)
    return found


def gains_of(purchases: Purchases, shown_ids: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """[T] values of each metric, from 0 to 1.

    Args:
      purchases: T of them.
      shown_ids: for each, ids of the ten best items as text, best first.
    """
    pairs = zip(shown_ids, purchases.targets, strict=True)
    places = [np.flatnonzero(own == target) for own, target in pairs]
    rank = np.array([int(own[0]) if len(own) else -1 for own in places])
    hit = rank >= 0
    each = (hit.astype(float), hit / np.log2(np.maximum(rank, 0) + 2.0))
    return dict(zip(METRICS, each, strict=True))


def standard_error(gain: np.ndarray, people: np.ndarray) -> float:
    """Standard error of the mean; purchases of one user count as dependent."""
    apart = np.bincount(people, weights=gain - gain.mean())
    return float(np.sqrt((apart**2).sum()) / len(gain))
