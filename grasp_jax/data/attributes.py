"""What is known of items and users besides interactions: tables of attributes, aligned with the rows of an `InteractionLog`."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grasp_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class AttributeTable:
    """Attributes of V items or N users.

    Attributes:
      ids: [rows] original ids, in row order.
      columns: attribute name -> values; a value is a string, a number, a list of strings, or None where unknown.
    """

    ids: np.ndarray
    columns: Mapping[str, Sequence[Any]]

    def fields(self, row: int) -> dict[str, Any]:
        """All attributes of one row."""
        return {name: values[row] for name, values in self.columns.items()}


@dataclasses.dataclass(frozen=True)
class Texts:
    """Whatever text belongs to a log.

    Attributes:
      items: of the V items, or None.
      users: of the N users, or None.
      of_users: [N] ready-made user descriptions, or None to write them from a template.
    """

    items: AttributeTable | None = None
    users: AttributeTable | None = None
    of_users: list[str] | None = None


def read_attributes(path: pathlib.Path, id_name: str, kind: str, required: tuple[str, ...] = ()) -> AttributeTable:
    """Reads a table from JSON lines, Parquet, TSV or CSV.

    Args:
      path: the file.
      id_name: its column of ids.
      kind: "item" or "user", for messages.
      required: columns that must be there.

    Raises:
      UserError: missing file, no rows, no id or required column, or an id that is null or repeated.
    """
    from grasp_jax.data.tables import id_column, read_table  # needs pyarrow, which texts that were made here do not

    table = read_table(path)
    if not table.num_rows:
        raise UserError(f"{path}: the {kind}s table has no rows; expected one for each {kind}")
    ids = id_column(table, id_name, path)
    for name in required:
        if name not in table.column_names:
            raise UserError(f"{path}: no column {name!r}; it has {', '.join(table.column_names)}")
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{path}: {kind} id {unique[counts > 1][0]} stands twice; remove one row")
    return AttributeTable(ids, {name: table[name].to_pylist() for name in table.column_names if name != id_name})


def aligned(table: AttributeTable, ids: np.ndarray) -> AttributeTable:
    """The rows of `ids`, in their order; attributes of an id that the table lacks are None."""
    row_of = {name: row for row, name in enumerate(table.ids.astype(str).tolist())}
    rows = [row_of.get(name) for name in ids.astype(str).tolist()]
    return AttributeTable(ids, {name: [None if row is None else values[row] for row in rows] for name, values in table.columns.items()})
