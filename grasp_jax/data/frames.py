"""Frames as tables: pandas, polars, pyarrow, whatever speaks the Arrow C stream protocol, and dictionaries of columns.

Neither pandas nor polars is imported; values become those that a Parquet file of the frame would hold.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line
from grasp_jax.data.columns import match
from grasp_jax.data.tables import JSON_KINDS, Column, SourceTable

_EXPECTED = "expected a pandas, polars or pyarrow table, or a dictionary of columns"


@runtime_checkable
class ArrowStream(Protocol):
    """What hands its rows over by the Arrow C stream protocol."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def table_of_frame(frame: object, name: str) -> SourceTable:
    """A frame's columns; the index of a pandas frame is not one of them.

    Args:
      frame: a pandas, polars or pyarrow table, another object with `__arrow_c_stream__`, or column name -> values.
      name: in words, such as "interactions frame", for messages.

    Raises:
      UserError: the value is not a frame, or a column cannot be read or has another length than the first.
    """
    library = type(frame).__module__.split(".")[0]
    notes: tuple[str, ...] = ()
    if _is_of_pandas(frame):
        library, notes = "pandas", _index_note(frame)
        named = _columns_of_pandas(frame, name)
    elif isinstance(frame, Mapping):
        library = "columns"
        named = ((str(key), _column(values, str(key), name)) for key, values in frame.items())
    elif isinstance(frame, ArrowStream):
        named = _columns_of_stream(frame, name)
    else:
        rows = isinstance(frame, list) and len(frame) > 0 and isinstance(frame[0], Mapping)
        remedy = "; pandas.DataFrame(rows) makes a table of a list of rows" if rows else ""
        raise UserError(f"{name}: an object of type {type(frame).__name__}; {_EXPECTED}{remedy}")
    columns: dict[str, Column] = {}
    repeated = set()
    for key, values in named:
        if key in columns:
            repeated.add(key)
        columns.setdefault(key, values)
    lengths = {key: len(values) for key, values in columns.items()}
    for key, length in lengths.items():
        first = next(iter(lengths))
        if length != lengths[first]:
            raise UserError(
                f"{name}: column {key!r} has {length:,} rows, column {first!r} {lengths[first]:,}; expected as many in each"
            )
    return SourceTable(
        name,
        library,
        columns,
        next(iter(lengths.values()), 0),
        repeated=frozenset(repeated),
        notes=notes,
    )


def refuse_index(frame: object, table: SourceTable, wanted: Collection[str]) -> None:
    """Refuses a pandas frame whose index is a column that is needed.

    Args:
      frame: what `table_of_frame` made the table from.
      table: its columns.
      wanted: names of columns that are read, in any case; an empty one counts for nothing.

    Raises:
      UserError: naming the column.
    """
    index = _names_of_index(frame) if _is_of_pandas(frame) else []
    for name in wanted:
        level = match(index, name) if name else None
        if level is not None and match(table.columns, name) is None:
            raise UserError(
                f"{table.path}: column {level!r} is the index of the frame, which is not read; pass frame.reset_index()"
            )


def _names_of_index(frame: Any) -> list[str]:
    return [str(level) for level in frame.index.names if level is not None]


def _is_of_pandas(frame: object) -> bool:
    return any(
        kind.__module__.split(".")[0] == "pandas" and kind.__name__ == "DataFrame"
        for kind in type(frame).__mro__
    )


def _index_note(frame: Any) -> tuple[str, ...]:
    named = _names_of_index(frame)
    return (
        (f"the index ({', '.join(named)}) is not read; reset_index() makes columns of it",)
        if named
        else ()
    )


def _columns_of_pandas(frame: Any, name: str) -> Iterator[tuple[str, Column]]:
    for place, key in enumerate(frame.columns):
        yield str(key), _column(frame.iloc[:, place], str(key), name)


def _columns_of_stream(frame: ArrowStream, name: str) -> Iterator[tuple[str, Column]]:
    try:
        table = pa.RecordBatchReader.from_stream(frame).read_all()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(f"{name}: not a readable table: {one_line(error)}; {_EXPECTED}") from error
    for key, values in zip(table.column_names, table.columns, strict=True):
        yield key, _without_views(values)


def _column(values: Any, key: str, name: str) -> Column:
    """Values of a column as Arrow has them; those of several kinds as a list, so that a row can be named if they are read."""
    try:
        if isinstance(values, pa.ChunkedArray):
            return _without_views(values)
        if isinstance(values, ArrowStream) and not _is_series_of_pandas(values):
            return _without_views(pa.chunked_array(values))
        array = pa.array(values, from_pandas=True)
        if pa.types.is_timestamp(array.type) and (texts := _texts_of_mixed_zones(values)):
            array = pa.array(texts)
        return _without_views(
            array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
        )
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        listed = _listed(values)
        if listed is None:
            reason = f"is not readable: {one_line(error)}; write it as numbers or texts, or drop it"
            raise UserError(f"{name}: column {key!r} {reason}") from error
        return listed


def _texts_of_mixed_zones(values: Any) -> list[str | None] | None:
    """Moments as text, None where missing, if some have a time zone and others have none: Arrow takes the latter for UTC without a word.
    Such texts are refused where times are read. None for all other values.
    """
    if getattr(values, "dtype", np.dtype(object)) != np.dtype(object):
        return None
    moments = [None if value is None or _is_missing(value) else value for value in values]
    without = {getattr(value, "tzinfo", None) is None for value in moments if value is not None}
    return [value and str(value) for value in moments] if len(without) == 2 else None


def _is_series_of_pandas(values: object) -> bool:
    """A missing value of pandas is a NaN, which its own stream hands over as a number."""
    return any(kind.__module__.split(".")[0] == "pandas" for kind in type(values).__mro__)


def _listed(values: object) -> list[Any] | None:
    """Values as JSON would have them, None where missing; None in all where some are of other kinds."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        return None
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    plain = [None if _is_missing(value) else value for value in plain]
    return plain if all(value is None or type(value) in JSON_KINDS for value in plain) else None


def _is_missing(value: object) -> bool:
    return (isinstance(value, float) and value != value) or type(value).__name__ in (
        "NAType",
        "NaTType",
    )


def _without_views(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts of view types, as polars has them, as plain ones, for which all checks exist."""
    is_category = pa.types.is_dictionary(values.type)
    kind = values.type.value_type if is_category else values.type
    if pa.types.is_string_view(kind):
        plain = pa.large_string()
    elif pa.types.is_binary_view(kind):
        plain = pa.large_binary()
    else:
        return values
    if not is_category:
        return values.cast(plain)
    return pa.chunked_array(
        [part.dictionary.cast(plain).take(part.indices) for part in values.chunks], plain
    )
