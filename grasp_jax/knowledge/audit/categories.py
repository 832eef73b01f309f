"""How often the nearest neighbours of an item are of its category."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.knowledge.audit.groups import sampled
from grasp_jax.knowledge.neighbours import NONE
from grasp_jax.knowledge.text.columns import as_list

USUAL = ("category", "categories")


class Agreement(NamedTuple):
    """Shares of pairs with a category in common.

    Attributes:
      column: of the items table; of a list of categories one in common is enough.
      first: nearest neighbours.
      all: all K neighbours.
      chance: random pairs of items with a category.
    """

    column: str
    first: float
    all: float
    chance: float


def category_column(config: KnowledgeConfig, items: AttributeTable | None) -> str:
    """The column of categories, or "" where nothing is named and the items table has none of the usual names.

    Args:
      config: the `knowledge` section.
      items: attributes of the V items.

    Raises:
      UserError: the config names a column that is not there.
    """
    columns = () if items is None else tuple(items.columns)
    named = config.audit.category_column or config.group_column
    if named and named not in columns:
        raise UserError(
            f"config.knowledge.audit.category_column: {named!r}; expected one of the items table's: {', '.join(columns) or 'none is given'}"
        )
    return named or next((name for name in USUAL if name in columns), "")


def agreement(
    column: str, values: Sequence[Any], neighbours: np.ndarray, sample: int, seed: int
) -> Agreement | None:
    """Agreement of sampled items with their neighbours; None where no item with a category has a neighbour.

    Args:
      column: its name.
      values: [V] categories: a text, a list of texts, or None.
      neighbours: [V, K], nearest first, `NONE` where there are fewer.
      sample: how many items, and random pairs, to draw.
      seed: of the draw.
    """
    with_one = np.array([row for row, value in enumerate(values) if as_list(value)], np.int64)
    rows = with_one[np.asarray(neighbours[with_one, 0]) != NONE] if len(with_one) else with_one
    if not len(rows):
        return None
    rows = sampled(rows, sample, seed)
    found = np.asarray(neighbours[rows])
    shared = np.array(
        [
            [near != NONE and _share(values[row], values[near]) for near in own]
            for row, own in zip(rows, found, strict=True)
        ]
    )
    has_category = np.isin(found, with_one)  # a neighbour without a category is not counted
    if not has_category[:, 0].any():
        return None
    rng = np.random.default_rng([seed, len(with_one)])
    first = rng.integers(len(with_one), size=sample)
    second = (first + rng.integers(1, max(len(with_one), 2), size=sample)) % len(with_one)
    chance = [
        _share(values[with_one[a]], values[with_one[b]]) for a, b in zip(first, second, strict=True)
    ]
    return Agreement(
        column,
        float(shared[has_category[:, 0], 0].mean()),
        float(shared[has_category].mean()),
        float(np.mean(chance)),
    )


def _share(one: Any, other: Any) -> bool:
    return not set(as_list(one)).isdisjoint(as_list(other))
