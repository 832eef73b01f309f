"""When interactions happened: numbers, dates and texts of them. A column that cannot be ordered for sure is refused."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grasp_jax.data.dictionary import int64_of
from grasp_jax.data.moments import EARLIEST, PER_SECOND, day_of
from grasp_jax.data.tables import SourceTable, filled_text, is_text
from grasp_jax.data.time_texts import of_text
from grasp_jax.data.time_values import AHEAD, TimeColumn, Times, in_utc, of_numbers


def time_column(table: SourceTable, name: str, now: float | None = None) -> Times:
    """The times of a column, none of which may be missing.

    Args:
      table: where from.
      name: the column.
      now: seconds since 1970; times must not be later. None: the present time.

    Raises:
      BadRows: the value of a row is missing, is not a time, or is before 1990.
      UserError: a value is in the future or may mean two different days, or some rows have another unit or another form than most.
    """
    column = TimeColumn(table, name, time.time() if now is None else now)
    array = table.array(name)
    kind = array.type
    if is_text(kind):
        return of_text(column, filled_text(array))
    table.check_filled(name, array)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _of_dates(column, array)
    if pa.types.is_decimal(kind):
        array = pc.cast(array, pa.float64() if kind.scale else pa.int64(), safe=False)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        values = int64_of(array) if array.type == pa.int64() else array.to_numpy()
        return of_numbers(
            column,
            values
            if kind == pa.uint64() or values.dtype.kind == "f"
            else values.astype(np.int64, copy=False),
        )
    raise column.wrong_type(kind)


def _of_dates(column: TimeColumn, array: pa.ChunkedArray) -> Times:
    if pa.types.is_date(array.type):
        array = pc.cast(array, pa.timestamp("ms"))
    unit = array.type.unit
    counts = pc.cast(array, pa.int64()).to_numpy()
    seconds = counts / PER_SECOND[unit]
    column.check_calendar(
        seconds,
        np.array([day_of(second) for second in seconds])
        if _is_out(seconds, column.now)
        else counts,
    )
    finest = "ns" if unit == "ns" else "us"
    note = in_utc(column) if array.type.tz not in (None, "UTC") else ""
    return Times(counts * (PER_SECOND[finest] // PER_SECOND[unit]), finest, note)


def _is_out(seconds: np.ndarray, now: float) -> bool:
    return bool(((seconds < EARLIEST) | (seconds > now + AHEAD)).any())
