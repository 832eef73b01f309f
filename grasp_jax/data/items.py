"""The items table: id, title and any further attributes, aligned with the rows of an `InteractionLog`."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grasp_jax.data.tables import id_column, read_table
from grasp_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ItemTable:
    """Text attributes of V items.

    Attributes:
      ids: [V] original ids, in row order.
      columns: attribute name -> V values; a value is a string, a number, a list of strings, or None where unknown.
    """

    ids: np.ndarray
    columns: Mapping[str, Sequence[Any]]

    def fields(self, row: int) -> dict[str, Any]:
        """All attributes of one item."""
        return {name: values[row] for name, values in self.columns.items()}


def read_items(path: pathlib.Path, id_name: str) -> ItemTable:
    """Reads an items table from JSON lines, Parquet, TSV or CSV.

    Raises:
      UserError: missing file, no rows, no id or `title` column, or an id that is null or repeated.
    """
    table = read_table(path)
    if not table.num_rows:
        raise UserError(f"{path}: the items table has no rows; expected one for each item")
    ids = id_column(table, id_name, path)
    if "title" not in table.column_names:
        raise UserError(f"{path}: no column 'title'; it has {', '.join(table.column_names)}")
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{path}: item id {unique[counts > 1][0]} stands twice; remove one row")
    return ItemTable(ids, {name: table[name].to_pylist() for name in table.column_names if name != id_name})
