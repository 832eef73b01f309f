"""What a caller may give for new items: columns, ids that the model does not know, and vectors."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line
from grasp_jax.data.id_text import NOT_IN_IDS
from grasp_jax.serving.answers import as_text, is_list, listed
from grasp_jax.serving.artifact import GROUPS, Artifact
from grasp_jax.serving.catalogue import Catalogue

ITEM, TITLE = "item", "title"


def ignored_columns(artifact: Artifact, names: Collection[str]) -> list[str]:
    """The columns of new items that the model does not read, sorted. A caller reports them, because a name may be misspelt."""
    read = {ITEM, TITLE, *artifact.catalogue.columns}
    if artifact.encoder is not None:
        read |= set(artifact.encoder.item_columns)
    if GROUPS in artifact.fitted:
        read.add(artifact.config.knowledge.group_column)
    return sorted(set(names) - read)


def checked_columns(
    artifact: Artifact, columns: Mapping[str, Sequence[Any] | np.ndarray], has_vectors: bool
) -> dict[str, list[Any]]:
    """Columns as lists of the same length, with None for a missing value; ids as text.

    Raises:
      UserError: as in `new_items.add_items`.
    """
    given = {name: _values(values) for name, values in columns.items() if is_list(values)}
    for name, values in columns.items():
        if name not in given:
            raise UserError(f"add_items: column {name!r} is {values!r}; expected a list of values")
    if ITEM not in given:
        found = ", ".join(map(repr, columns)) or "nothing"
        raise UserError(
            f"add_items: there is no column 'item' among {found}; expected the ids of the new items there"
        )
    for name, values in given.items():
        if len(values) != len(given[ITEM]):
            raise UserError(
                f"add_items: column {name!r} has {len(values):,} values, column 'item' {len(given[ITEM]):,}; expected as many in each"
            )
    given[ITEM] = _checked_ids(artifact.catalogue, given[ITEM])
    if has_vectors:
        return given
    assert artifact.encoder is not None
    if not artifact.encoder.encoder.reads_text:
        raise UserError(
            f"add_items: the vectors of this model's items came from a file (config.knowledge.encoder={artifact.encoder.name!r}), so a "
            f"text cannot be encoded; give vectors=, an array of {len(given[ITEM])} rows that the same program has made of the new items"
        )
    read = artifact.encoder.item_columns
    if TITLE not in given:
        raise UserError(
            f"add_items: there is no column 'title' among {', '.join(map(repr, given))}; the texts of items are made of {', '.join(read)}"
        )
    for row, item in enumerate(given[ITEM]):
        if all(given[name][row] in (None, "", []) for name in read if name in given):
            raise UserError(
                f"add_items: row {row + 1}, item {item!r}, has no text in {', '.join(name for name in read if name in given)}; expected a "
                "title at least; fill it in or leave the item out"
            )
    return given


def _values(values: Sequence[Any] | np.ndarray) -> list[Any]:
    """Python values, None for a missing one."""
    return [
        None if value is None or value != value else value for value in map(_plain, listed(values))
    ]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _checked_ids(catalogue: Catalogue, ids: list[Any]) -> list[str]:
    """Ids as text; raises if one is known or occurs twice."""
    numbers = catalogue.has_numbers
    row_of: dict[str, int] = {}
    for row, name in enumerate(ids):
        text = "" if name is None or isinstance(name, bool | list | dict) else as_text(name)
        if not text or re.search(NOT_IN_IDS, text):
            raise UserError(
                f"add_items: row {row + 1} has {name!r} in column 'item'; expected an id, which looks like {str(catalogue.ids[0])!r} here"
            )
        if numbers and not is_number(text):
            raise UserError(
                f"add_items: row {row + 1} has the id {text!r}; expected a whole number, as all items of this model have, such as "
                f"{catalogue.ids[0]}; give new items such ids, or train on data with ids as text"
            )
        if text in catalogue.rows:
            raise UserError(
                f"add_items: row {row + 1}: the model knows an item {text!r} already; leave it out: texts of known items are not changed"
            )
        if text in row_of:
            raise UserError(
                f"add_items: row {row + 1}: the id {text!r} is in row {row_of[text] + 1} too; remove one of them"
            )
        row_of[text] = row
    return list(row_of)


def is_number(text: str) -> bool:
    """Whether it is a whole number within 64 bits, in its usual spelling."""
    try:
        number = int(text)
    except ValueError:
        return False
    return str(number) == text and -(2**63) <= number < 2**63


def checked_vectors(vectors: np.ndarray, count: int, width: int) -> np.ndarray:
    """[n, at least E] float32.

    Raises:
      UserError: the value is not such an array, or has values that are too large for float32 or not finite.
    """
    try:
        given = np.asarray(vectors)
        with np.errstate(over="ignore"):  # what is too large becomes inf and is refused
            rows = np.asarray(given, np.float32)
    except OverflowError as error:  # a whole number of more than a thousand bits
        raise UserError(
            "add_items: vectors hold a number which is too large for float32; scale the vectors down"
        ) from error
    except (TypeError, ValueError) as error:
        raise UserError(
            f"add_items: vectors are not numbers ({one_line(error, 120)}); expected an array [{count}, {width}]"
        ) from error
    if rows.ndim != 2 or len(rows) != count or rows.shape[1] < width:
        raise UserError(
            f"add_items: vectors have the shape {rows.shape}; expected {count} rows of {width} numbers, one row for each item"
        )
    if bad := np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist():
        row = f"add_items: row {bad[0] + 1} of vectors"
        value = np.asarray(given[bad[0]], np.float64)[~np.isfinite(rows[bad[0]])][0]
        if np.isfinite(value):
            raise UserError(
                f"{row} holds {value:g}, which is too large for float32; scale the vectors down"
            )
        raise UserError(
            f"{row} holds a value that is not finite; encode that item again, or leave it out"
        )
    return rows
