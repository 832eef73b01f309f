"""Attributes of items and users (their metadata): tables that are aligned with the rows of an `InteractionLog`."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import first_of
from grasp_jax.data.columns import needed, renamed
from grasp_jax.data.log import rows_of

if TYPE_CHECKING:  # which needs pyarrow
    from grasp_jax.data.tables import SourceTable


@dataclasses.dataclass(frozen=True)
class AttributeTable:
    """Attributes of V items or N users.

    Attributes:
      ids: [rows] original ids, in row order.
      columns: attribute name -> values; a value is a string, a number, a list of strings, or None where unknown.
      notes: what was decided in reading them, in words for the user.
    """

    ids: np.ndarray
    columns: Mapping[str, Sequence[Any]]
    notes: tuple[str, ...] = ()

    def fields(self, row: int) -> dict[str, Any]:
        """All attributes of one row."""
        return {name: values[row] for name, values in self.columns.items()}


@dataclasses.dataclass(frozen=True)
class SourceTexts:
    """Whatever text belongs to a log.

    Attributes:
      items: of the V items, or None.
      users: of the N users, or None.
      of_users: [N] ready-made user descriptions, or None to write them from a template.
    """

    items: AttributeTable | None = None
    users: AttributeTable | None = None
    of_users: list[str] | None = None


TITLE, OTHER_TITLE = "title", "other_title"


def read_attributes(path: pathlib.Path, id_name: str, kind: str, title: str = "") -> AttributeTable:
    """Reads a table from JSON lines, Parquet, TSV or CSV; the values of TSV and CSV are the unchanged texts of the file.

    Args:
      path: the file.
      id_name: its column of ids.
      kind: "item" or "user", for messages.
      title: the column of titles, which must be there and is called "title" from here on; another column of that name is then called
        "other_title". Empty: there need be none.

    Raises:
      UserError: missing file, no rows, no id or title column, or an id that is null or repeated.
    """
    # needs pyarrow, which texts that were made here do not need
    from grasp_jax.data.table_files import read_table

    return attributes_of(read_table(path), id_name, kind, title)


def attributes_of(table: "SourceTable", id_name: str, kind: str, title: str = "") -> AttributeTable:
    """The attributes in a table that was read; the other arguments and the errors are those of `read_attributes`."""
    from grasp_jax.data.delimited import refuse_data_as_header
    from grasp_jax.data.identifiers import id_column
    from grasp_jax.data.tables import values_of

    path = table.path
    if not table.num_rows:
        raise UserError(f"{path}: the {kind}s table has no rows; expected one for each {kind}")
    names = tuple(table.columns)
    if table.is_delimited:
        refuse_data_as_header(table, (id_name, title), (kind, TITLE) if title else (kind,))
    notes = list(table.notes)
    settings = {"id": f"config.data.{kind}s_id_column", "title": "config.data.title_column"}
    wanted = {"id": id_name} | ({"title": title} if title else {})
    used: dict[str, str | None] = {
        purpose: needed(names, name, settings[purpose], path) for purpose, name in wanted.items()
    }
    notes += renamed(used, wanted)
    own_id, own_title = str(used["id"]), used.get("title")
    ids = id_column(table, own_id, notes)
    if own_title:
        table.column(own_title)  # refuses a part without it, whose items would lose their titles
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{path}: {kind} id {unique[counts > 1][0]} occurs twice; remove one row")
    new_names = {name: name for name in names if name != own_id or name == own_title}
    if own_title and own_title != TITLE:
        if TITLE in new_names:
            if OTHER_TITLE in new_names:
                raise UserError(
                    f"{path}: with config.data.title_column={own_title}, column {TITLE!r} would be called {OTHER_TITLE!r}, and "
                    "a column of that name exists; rename one"
                )
            new_names[TITLE] = OTHER_TITLE
            notes.append(
                f"column {TITLE!r} is called {OTHER_TITLE!r} in templates, for {own_title!r} is the title"
            )
        new_names[own_title] = TITLE
    columns = {new: values_of(table, old) for old, new in new_names.items()}
    all_notes = (
        f"{kind}s: {path} ({table.form}), {table.num_rows:,} rows; {_columns_in_words(used, names)}",
        *(f"{kind}s table: {note}" for note in notes),
    )
    return AttributeTable(ids, columns, all_notes)


def _columns_in_words(used: Mapping[str, str | None], names: Sequence[str]) -> str:
    """Which columns are the id and the title, and which others were read: "id is 'sku', title is 'name', others: brand, kind"."""
    words = [f"{purpose} is {name!r}" for purpose, name in used.items()]
    others = [name for name in names if name not in used.values()]
    return ", ".join([*words, f"others: {first_of(others)}"] if others else words)


def aligned(table: AttributeTable, ids: np.ndarray) -> tuple[AttributeTable, int]:
    """The rows of distinct `ids`, in their order, and how many of `ids` the table lacks; attributes of these are None."""
    rows = _rows(table, ids)
    columns = table.columns
    if not np.array_equal(rows, np.arange(len(table.ids))):
        columns = {
            name: [None if row < 0 else values[row] for row in rows]
            for name, values in columns.items()
        }
    return AttributeTable(ids, columns, table.notes), int((rows < 0).sum())


def _rows(table: AttributeTable, ids: np.ndarray) -> np.ndarray:
    """[n] row of each id, -1 if there is none; a whole number may be a string in the other file."""
    if table.ids.dtype.kind == ids.dtype.kind:
        return rows_of(table.ids, ids)
    return rows_of(table.ids.astype(str), ids.astype(str))
