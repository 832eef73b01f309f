"""Rows of a source that cannot be used: what is wrong with them, where they are, and which of them were left out.

A reader raises `BadRows` where some rows of a column are at fault and the others are not. `config.data.bad_rows` decides what follows: the
source is refused, or it is read without these rows, as if they had never been there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.data.columns import Where
from grasp_jax.data.file_parts import parts_of

FIELD = "config.data.bad_rows"
MOST_LEFT_OUT = 0.5  # share of the rows of a source
HINT = "; config.data.bad_rows=skip leaves such rows out"


class BadRows(UserError):
    """Some rows of a column cannot be used.

    Attributes:
      rows: [rows] bool, which they are; true for at least one.
      reason: what is wrong with them, as it follows "3 of 9 rows, ": "without a value in column 'user'".
    """

    def __init__(self, message: str, rows: np.ndarray, reason: str) -> None:
        super().__init__(message)
        self.rows, self.reason = rows, reason


class NoValue(BadRows):
    """Rows that lack a value in a column that is needed.

    Attributes:
      part: "2 in column 'user' (the first is row 3)", for a message about several columns.
    """

    def __init__(self, message: str, rows: np.ndarray, reason: str, part: str) -> None:
        super().__init__(message, rows, reason)
        self.part = part


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """The rows of a source that were left out.

    Attributes:
      rows: [n] int64, from 0, ascending.
      reasons: what was wrong, the number of such rows, and where the first of them is; a row counts for the first reason found.
    """

    rows: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    reasons: tuple[tuple[str, int, str], ...] = ()


def source_rows(places: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """[n] rows of the source, from 0; `places` count only the rows that were not left out, `left_out` ([m], ascending) are the others."""
    before = np.searchsorted(left_out - np.arange(len(left_out)), places, side="right")
    found: np.ndarray = places + before
    return found


def place_of(path: Where, row: int) -> str:
    """'row 14', of a row from 0; of a Parquet folder also which part has it, and where."""
    return f"row {row + 1:,}{_within_parts(path, row)}"


def refused(fault: UserError) -> UserError:
    """The same fault, with a hint that such rows can be left out."""
    return UserError(f"{fault}{HINT}")


def check_share(fault: UserError, num_left_out: int, num_rows: int) -> None:
    """Refuses to leave out most rows of a source, because then a column or a setting is wrong, not the rows.

    Args:
      fault: the last one that was found.
      num_left_out: rows that would be left out.
      num_rows: of the source.

    Raises:
      UserError: they are more than `MOST_LEFT_OUT` of all rows.
    """
    if num_left_out > MOST_LEFT_OUT * num_rows:
        raise UserError(
            f"{fault}; {FIELD}=skip would leave out {num_left_out:,} of {num_rows:,} rows, and may leave out at most half of them; is it "
            "the right column? If it is, remove these rows from the data"
        ) from fault


def no_value(path: Where, place: str, missing: np.ndarray, name: str) -> NoValue:
    """The error of rows that lack a value.

    Args:
      path: where from.
      place: the first such row, as of `place_of`.
      missing: [rows] bool, true for at least one row.
      name: the column.
    """
    count = int(missing.sum())
    part = f"{count:,} in column {name!r} (the first is {place})"
    lacks = f"{path}: {place} has no value in column {name!r} (an empty text is none)"
    reason = f"without a value in column {name!r}"
    if count == 1:
        return NoValue(f"{lacks}; fill it in or drop the row", missing, reason, part)
    more = "1 other row has none" if count == 2 else f"{count - 1:,} other rows have none"
    return NoValue(f"{lacks}, and {more}; fill them in or drop these rows", missing, reason, part)


def refuse_all(path: Where, lacking: Sequence[NoValue]) -> None:
    """Raises one error for all columns in which rows lack a value; for a single column its own error; nothing if there are none.

    Raises:
      BadRows: there is such a column; its rows are those of the first.
    """
    if len(lacking) > 1:
        parts = ", ".join(error.part for error in lacking)
        message = f"{path}: rows without a value (an empty text is none): {parts}; fill them in or drop these rows"
        raise BadRows(message, lacking[0].rows, lacking[0].reason)
    if lacking:
        raise lacking[0]


def _within_parts(path: Where, row: int) -> str:
    """Which part of a Parquet folder has a row (from 0), and where; empty if the table is one file or a frame."""
    if isinstance(path, str) or not path.is_dir():
        return ""
    import pyarrow.parquet  # a bare GPU machine has none, and reads no such folder

    for part in parts_of(path):  # in the order in which they are read
        rows = pyarrow.parquet.read_metadata(part).num_rows
        if row < rows:
            return f" (row {row + 1} of {part.name})"
        row -= rows
    return ""
