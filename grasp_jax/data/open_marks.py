"""Quotation marks of a CSV or TSV that are not closed: the rows behind one are read as text of its column, so nobody would miss them.

A text of several lines is no fault: `"first line\\nsecond line"` is closed. So a value is looked up in the bytes of the file only if one of
its lines has as many fields as a row, and it is a fault only if it does not stand there between two marks.
"""

import io
import pathlib
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa

from grasp_jax.core.errors import UserError
from grasp_jax.data.text_bytes import bytes_of_texts

MARK = b'"'
NEWLINE, RETURN = ord("\n"), ord("\r")
BLOCK = 1 << 20  # bytes that are searched at a time


class QuotedValues:
    """Looks values up in the bytes of a file, in the order in which they stand there."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._bytes, self._begin = file, b"", 0

    def has(self, value: bytes) -> bool:
        """Whether a value stands between two marks, after the one before it."""
        quoted = MARK + value.replace(MARK, 2 * MARK) + MARK
        while (found := self._bytes.find(quoted, self._begin)) < 0:
            block = self._file.read(BLOCK)
            if not block:
                return False
            kept = max(self._begin, len(self._bytes) - len(quoted))
            self._bytes, self._begin = self._bytes[kept:] + block, 0
        self._begin = found + len(quoted)
        return True


class OpenMark(NamedTuple):
    """A value that begins with a quotation mark which is not closed.

    Attributes:
      row: from 0.
      position: of its column, from 0.
      value: what was read, without the mark.
    """

    row: int
    position: int
    value: bytes


def first_open(rows: pa.RecordBatch, quoted: QuotedValues, delimiter: str) -> OpenMark | None:
    """The first value that hides rows; None if there is none.

    Args:
      rows: all columns of some rows, as bytes.
      quoted: of the file; these rows are looked up after those before them.
      delimiter: between fields.
    """
    width = rows.num_columns
    suspects = sorted(
        OpenMark(row, position, value)
        for position, values in enumerate(rows.columns)
        for row, value in _of_several_lines(values)
        if _may_hide_rows(value, position, width, delimiter.encode())
    )
    return next((suspect for suspect in suspects if not quoted.has(suspect.value)), None)


def _of_several_lines(values: pa.Array) -> Iterator[tuple[int, bytes]]:
    """Rows and values that have a line break."""
    texts = bytes_of_texts(values.cast(pa.large_binary()))
    breaks = np.flatnonzero((texts.data == NEWLINE) | (texts.data == RETURN))
    rows = np.unique(np.searchsorted(texts.starts, breaks, side="right") - 1)
    rows = rows[rows >= 0]  # the array may share its bytes with rows before it
    return zip(rows.tolist(), values.take(pa.array(rows)).to_pylist(), strict=True)


def _may_hide_rows(value: bytes, position: int, width: int, delimiter: bytes) -> bool:
    """Whether a line of a value in the column `position` has as many fields as a row.

    The last line ends at a mark, and the row goes on behind it: that line has as many fields as there are columns up to this one.
    """
    _, *behind = value.splitlines()
    counts = [line.count(delimiter) for line in behind]
    return width - 1 in counts or counts[-1:] == [position]


def refuse_open_marks(
    path: pathlib.Path, content: bytes, table: pa.Table, fields: tuple[str, ...], delimiter: str
) -> None:
    """Refuses a table in which a quotation mark hides rows.

    Args:
      path: the file, for the message.
      content: its bytes.
      table: what was read from them, bytes in every column.
      fields: the header's.
      delimiter: between fields.

    Raises:
      UserError: a quotation mark is not closed, and a line behind it has as many fields as a row.
    """
    quoted, before = QuotedValues(io.BytesIO(content)), 0
    for rows in table.to_batches():
        if found := first_open(rows, quoted, delimiter):
            row = before + found.row + 1
            name = fields[found.position].strip() if found.position < len(fields) else ""
            column = f"column {name!r}" if name else f"column {found.position + 1}"
            num_lines = len(found.value.splitlines()) - 1
            lines = "1 line" if num_lines == 1 else f"{num_lines:,} lines"
            shown = repr(found.value[:60].decode("utf-8", "replace"))
            raise UserError(
                f"{path}: row {row} has a quotation mark in {column} that is not closed, so {lines} behind it would be "
                f"read as its text: {shown}; close or remove the mark; within quotation marks, write it twice"
            )
        before += rows.num_rows
