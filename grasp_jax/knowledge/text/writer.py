"""Texts of items and users that a knowledge bank has never seen, by the templates that it was made with."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.data.split import Histories
from grasp_jax.knowledge.text.columns import MADE, field_names, with_made
from grasp_jax.knowledge.text.prompts import History, item_prompt, single_fields, user_prompt

TITLE = "title"
OF_HISTORY = ("titles", "purchases")  # fields of a user's template that the history fills


@dataclasses.dataclass(frozen=True)
class TextWriter:
    """Templates, and what of the data filled them.

    Attributes:
      item_template: text with fields in braces.
      user_template: likewise.
      made_of: columns of the items table that `{attributes}` is made of.
      item_columns: columns of the items table that an item's text holds.
      history_columns: those that a user's text holds of the items bought: "title" first.
      user_columns: columns of the users table that a user's text may hold; no personal ones.
      longest_history: largest number of items in a user's text, the newest ones; None for all.
    """

    item_template: str
    user_template: str
    made_of: tuple[str, ...] = ()
    item_columns: tuple[str, ...] = (TITLE,)
    history_columns: tuple[str, ...] = (TITLE,)
    user_columns: tuple[str, ...] = ()
    longest_history: int | None = None

    def item_texts(self, attributes: Sequence[Mapping[str, object]]) -> list[str]:
        """[n] texts of items.

        Args:
          attributes: of each item, by column; what is missing is left out or reads "unknown".

        Raises:
          UserError: an item has none of the columns.
        """
        known = set(self.item_columns)
        for row, given in enumerate(attributes):
            if not known & set(given):
                found = ", ".join(given) or "no columns"
                raise UserError(
                    f"item {row}, counted from 0: has {found}; expected some of {', '.join(self.item_columns)}"
                )
        names = {*self.item_columns, *self.made_of, *single_fields(self.item_template)} - (
            {MADE} if self.made_of else set()
        )
        columns = {name: [given.get(name) for given in attributes] for name in sorted(names)}
        table = with_made(AttributeTable(np.arange(len(attributes)), columns), self.made_of)
        prompt_of = item_prompt(self.item_template, table)
        return [prompt_of(row) for row in range(len(attributes))]

    def user_texts(
        self,
        histories: Sequence[Sequence[int] | np.ndarray],
        items: Mapping[str, Sequence[object] | np.ndarray],
        profiles: Sequence[Mapping[str, object]] | None = None,
    ) -> list[str]:
        """[n] texts of users.

        Args:
          histories: of each user, rows of items, oldest first; cut to the newest `longest_history`.
          items: `history_columns` -> values of all items, by row.
          profiles: attributes of each user; only those in `user_columns` are written.

        Raises:
          UserError: the titles are not there.
        """
        if TITLE not in items:
            found = ", ".join(items) or "no columns"
            raise UserError(
                f"texts of users: the items have {found}; expected {', '.join(self.history_columns)}"
            )
        bought = [np.asarray(history, np.int64) for history in histories]
        ends = np.cumsum([0, *map(len, bought)])
        rows, flat = np.unique(
            np.concatenate([np.empty(0, np.int64), *bought]), return_inverse=True
        )
        named = [name for name in self.history_columns if name in items]
        columns = {name: [items[name][row] for row in rows.tolist()] for name in named}
        cut = (
            np.maximum(ends[:-1], ends[1:] - self.longest_history)
            if self.longest_history is not None
            else ends[:-1]
        )
        windows = Histories(cut, ends[1:], np.full(len(bought), -1, np.int32))
        history = History(windows, flat, with_made(AttributeTable(rows, columns), ()))
        prompt_of = user_prompt(self.user_template, history, self._profiles(len(bought), profiles))
        return [prompt_of(row) for row in range(len(bought))]

    def _profiles(
        self, count: int, profiles: Sequence[Mapping[str, object]] | None
    ) -> AttributeTable:
        """The attributes of users that texts may contain; other columns that the template names are unknown."""
        unknown: dict[str, list[Any]] = {
            name: [None] * count for name in single_fields(self.user_template) - set(OF_HISTORY)
        }
        known = {
            name: [given.get(name) for given in profiles or [{}] * count]
            for name in self.user_columns
        }
        return with_made(AttributeTable(np.arange(count), unknown | known), ())

    def to_json(self) -> dict[str, object]:
        """Plain JSON, which `from_json` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TextWriter":
        """The writer that `to_json` described; fields that a later version has added are ignored."""
        names = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content.items()
            if name in names
        }
        return cls(**values)


def history_columns(user_template: str, items: AttributeTable) -> tuple[str, ...]:
    """Columns of the items table that a user's template reads: the title, and for `{purchases}` category and price."""
    wanted = (TITLE, "category", "price") if "purchases" in field_names(user_template) else (TITLE,)
    return tuple(name for name in wanted if name in items.columns)
