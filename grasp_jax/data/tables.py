"""Tables (TSV, CSV, Parquet, JSON lines, frames) as columns under their names; rows are counted from 1, header apart."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Collection, Mapping
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line
from grasp_jax.data.bad_rows import BadRows, NoValue, no_value, place_of, source_rows
from grasp_jax.data.columns import Where
from grasp_jax.data.dictionary import DictionaryColumn, int64_array
from grasp_jax.data.file_parts import check_column
from grasp_jax.data.rewriting import as_utf8

# pa.ChunkedArray, `dictionary.DictionaryColumn`, or list[Any], which holds the values of JSON as Python has them.
Column = Any
AROUND = 1000  # rows before and after a place, from which an encoding is guessed


@dataclasses.dataclass(frozen=True)
class SourceTable:
    """A table as read, before anything is made of its columns.

    Attributes:
      path: the file, the folder, or a frame in words ("items frame"), for messages.
      form: its format in words, such as "CSV, gzip".
      columns: name -> values; None for a column that was not requested. For CSV and TSV the values are the unchanged bytes of the file; for
        JSON, lists; for Parquet and frames, their own types. `streamed` turns them into numbers or `dictionary.DictionaryColumn` if it can.
      num_rows: rows.
      is_delimited: whether it is CSV or TSV.
      repeated: names of several columns at once, which must not be requested.
      notes: what the reader decided, in words for the user.
      header: of CSV and TSV, the fields of the first line.
      delimiter: of CSV and TSV, between fields.
      left_out: [n] int64 rows of the source that are not among these, from 0, ascending.
    """

    path: Where
    form: str
    columns: Mapping[str, Column]
    num_rows: int
    is_delimited: bool = False
    repeated: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    delimiter: str = ""
    left_out: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))

    def row(self, index: int) -> int:
        """The row of the source, counted from 1 as messages do, of one of these rows, counted from 0."""
        return int(source_rows(np.array([index]), self.left_out)[0]) + 1

    def place(self, index: int) -> str:
        """`row` in words; of a Parquet folder also which part has it."""
        return place_of(self.path, self.row(index) - 1)

    def select(self, mask: np.ndarray, names: Collection[str]) -> "SourceTable":
        """The rows of a mask ([rows] bool) of some columns; the other columns are None."""

        def of(values: Column) -> Column:
            if isinstance(values, list):
                return [value for value, selected in zip(values, mask, strict=True) if selected]
            return values.filter(mask)

        columns = {name: of(self.columns[name]) if name in names else None for name in self.columns}
        removed = source_rows(np.flatnonzero(~mask), self.left_out)
        left_out = np.sort(np.concatenate([self.left_out, removed]))
        num_rows = int(mask.sum())
        return dataclasses.replace(self, columns=columns, num_rows=num_rows, left_out=left_out)

    def column(self, name: str) -> Column:
        """A column that must be there, as it was read.

        Raises:
          UserError: several columns have the name, or a part of a Parquet folder lacks it.
        """
        if name in self.repeated:
            raise repeated_column(self.path, name)
        if isinstance(self.path, pathlib.Path) and self.path.is_dir():
            check_column(self.path, name)
        return self.columns[name]

    def array(self, name: str) -> Column:
        """A column as an Arrow array of one type, categories as what they stand for, or `DictionaryColumn`; values may be missing.

        Raises:
          UserError: as `column`, or values of several kinds in one column.
        """
        values = self.column(name)
        if isinstance(values, list):
            return _array_of_json(self, name, values)
        if not isinstance(values, DictionaryColumn) and pa.types.is_dictionary(values.type):
            return values.cast(values.type.value_type)
        return values

    def check_filled(self, name: str, values: Column) -> None:
        """Refuses values of a column ([rows], of Arrow or a list) that are missing.

        Raises:
          BadRows: a row has no value.
        """
        if isinstance(values, list):
            missing = np.array([value is None for value in values], bool)
            empty = np.array([value == "" for value in values], bool)
        elif values.null_count:
            missing = pc.is_null(values).to_numpy(zero_copy_only=False)
            empty = _are_empty(values)
        else:
            return
        if missing.any():
            raise self.no_value(missing | empty, name)

    def no_value(self, missing: np.ndarray, name: str) -> NoValue:
        """The error of rows ([rows] bool) that lack a value in a column."""
        return no_value(self.path, self.place(int(missing.argmax())), missing, name)


def number_column(table: SourceTable, name: str) -> np.ndarray:
    """[rows] float64.

    Raises:
      BadRows: a row without a finite number.
    """
    values = table.column(name)
    table.check_filled(name, values)
    if isinstance(values, list):
        entries = values
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        entries = values.to_numpy()
    else:
        entries = values.to_pylist()
    numbers = _numbers(entries)
    if not np.isfinite(numbers).all():
        empty = np.array([value in (b"", "") for value in entries], bool)
        if empty.any():
            raise table.no_value(empty, name)
        bad = ~np.isfinite(numbers)
        row = int(bad.argmax())
        value = entries[row]
        shown = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        raise BadRows(
            f"{table.path}: row {table.row(row)} has {shortened(shown)} in column {name!r}; expected a finite number",
            bad,
            f"without a number in column {name!r}",
        )
    return numbers


def _numbers(values: np.ndarray | list[Any]) -> np.ndarray:
    """[n] float64 of values of any kind; NaN for a value that is no number."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            numbers[row] = float(value)
    return numbers


def filled_text(array: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts or bytes ([rows]) with an empty one for each missing one, because an empty text counts as missing too."""
    return array.cast(pa.large_binary()).fill_null(b"") if array.null_count else array


def text_of(table: SourceTable, name: str, array: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strings or bytes of a column ([rows]) as large strings.

    Raises:
      UserError: a row is not UTF-8 text.
    """
    try:
        return pc.cast(pc.cast(array, pa.large_binary()), pa.large_string())
    except (pa.ArrowInvalid, UnicodeDecodeError):
        values = pc.cast(array, pa.large_binary()).to_pylist()
        for row, value in enumerate(values):
            try:
                (value or b"").decode("utf-8")
            except UnicodeDecodeError:
                remedy = "write texts as UTF-8"
                if isinstance(table.path, pathlib.Path) and table.is_delimited:
                    near = b"\n".join(
                        value or b"" for value in values[max(0, row - AROUND) : row + AROUND]
                    )
                    remedy = as_utf8(table.path, near)
                raise UserError(
                    f"{table.path}: row {table.row(row)} has {value[:60]!r} in column {name!r}, which is not UTF-8 text; {remedy}"
                ) from None
        raise


def repeated_column(path: pathlib.Path | str, name: str) -> UserError:
    """The error that several columns of a file or frame have the same name."""
    return UserError(f"{path}: column {name!r} occurs twice in the header; rename one")


def values_of(table: SourceTable, name: str) -> list[Any]:
    """[rows] Python values, None for a missing value. For CSV and TSV they are the unchanged texts; an empty text counts as missing, and so
    does NaN.

    Raises:
      UserError: several columns have the name, or a row is not UTF-8 text.
    """
    if name in table.repeated:
        raise repeated_column(table.path, name)
    values = table.columns[name]
    if isinstance(values, list):
        return values
    if pa.types.is_binary(values.type):
        return [text or None for text in text_of(table, name, values).to_pylist()]
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    try:
        listed_values: list[Any] = values.to_pylist()
        return listed_values
    except (pa.ArrowException, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{table.path}: column {name!r} of type {values.type} is not readable: {one_line(error)}"
        ) from error


def first_texts(values: Column, most: int) -> list[str] | None:
    """The first values of a column of CSV or TSV as texts; None for a column that was not requested."""
    if values is None:
        return None
    if isinstance(values, DictionaryColumn):
        entries = values.values.take(int64_array(values.codes[:most].astype(np.int64))).to_pylist()
    else:
        entries = values.slice(0, most).to_pylist()
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in entries
    ]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings or bytes."""
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_string_view,
    )
    return any(check(kind) for check in (*checks, pa.types.is_binary_view))


def _are_empty(values: pa.ChunkedArray) -> np.ndarray:
    """[rows] bool, whether a row has an empty text, which counts as missing."""
    if not is_text(values.type):
        return np.zeros(len(values), bool)
    length = pc.fill_null(pc.binary_length(pc.cast(values, pa.large_binary())), 1)
    empty: np.ndarray = pc.equal(length, 0).to_numpy(zero_copy_only=False)
    return empty


def shortened(value: Any, most: int = 60) -> str:
    """A value as a message shows it: quoted, in one line, of at most so many characters."""
    text = value if isinstance(value, str) else str(value)
    return repr(text[:most]) + ("..." if len(text) > most else "")


JSON_KINDS = {
    str: "string",
    int: "number",
    float: "number",
    bool: "truth value",
    list: "list",
    dict: "table",
}


def beyond_int64(table: SourceTable, name: str, row: int, value: object) -> UserError:
    """The error of a column of whole numbers that has one that int64 cannot hold; `row` counts from 0."""
    return UserError(
        f"{table.path}: row {table.row(row)}: {name} {shortened(value)} is beyond int64, whole numbers of 64 bits with a sign; write the "
        "column as text"
    )


def _array_of_json(table: SourceTable, name: str, values: list[Any]) -> pa.ChunkedArray:
    """Values of one kind, None where missing.

    Raises:
      UserError: they are of several kinds, or a number is too large. Both are faults of the column: either kind can be an id.
    """
    kinds = set(map(type, values)) - {NoneType}
    if len(found := {JSON_KINDS[kind] for kind in kinds}) > 1:
        words = [None if value is None else JSON_KINDS[type(value)] for value in values]
        first = next(word for word in words if word)
        row = next(row for row, word in enumerate(words) if word not in (None, first))
        raise UserError(
            f"{table.path}: row {table.row(row)} has a {words[row]} in {name!r}, rows before it a {first}; write all values of this column "
            "as one kind, for example as strings"
        )
    if {int, float} & kinds:
        most = sys.float_info.max if float in kinds else 2**63 - 1
        for row, value in enumerate(values):
            if isinstance(value, int) and not -most - 1 <= value <= most:
                raise beyond_int64(table, name, row, value)
    if float in kinds:
        values = [None if value is None else float(value) for value in values]
    try:
        return pa.chunked_array([pa.array(values)])
    except (pa.ArrowException, UnicodeEncodeError) as error:
        shown = ", ".join(sorted(found))
        raise UserError(
            f"{table.path}: column {name!r} holds a {shown}, which is not readable: {one_line(error)}"
        ) from error
