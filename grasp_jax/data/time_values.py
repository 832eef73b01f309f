"""Columns of times: what is known of one, the refusals of its values, and times that are numbers."""

import dataclasses

import numpy as np
import pyarrow as pa

from grasp_jax.core.errors import UserError
from grasp_jax.data.bad_rows import BadRows
from grasp_jax.data.moments import EARLIEST, PER_SECOND, day_of, shown, unit_of
from grasp_jax.data.tables import SourceTable, shortened

# numbers from here on are taken for seconds since 1970, or finer; smaller ones are only an order
EPOCH_LIKE = 10**8
AHEAD = 86_400  # seconds by which a time may be in the future, because clocks and time zones differ
APART = 100  # numbers so many times the median are of another unit
EXAMPLE = "expected a number or a date such as 2024-01-31 10:30:00"
REMEDY = "write dates as 2024-01-31T10:30:00, or set config.data.columns.timestamp='' for the order of the rows in the file"


@dataclasses.dataclass(frozen=True)
class Times:
    """A column of times.

    Attributes:
      values: [rows] int64 or float64: numbers as they stand, dates as microseconds since 1970 (nanoseconds where it has them).
      unit: "s", "ms", "us" or "ns" where the values count from 1970, else empty: they are only an order.
      note: what was decided, in words for the user.
    """

    values: np.ndarray
    unit: str
    note: str = ""

    def span(self) -> str:
        """'2011-10-18 to 2014-07-22', or '3 to 99' where the values are only an order."""
        low, high = self.values.min().item(), self.values.max().item()
        if not self.unit:
            return f"{low} to {high}"
        return f"{day_of(low / PER_SECOND[self.unit])} to {day_of(high / PER_SECOND[self.unit])}"

    def shown(self) -> np.ndarray:
        """The first ten values in words: UTC to the second, or the unchanged values if they are only an order."""
        return np.array([shown(value, self.unit) for value in self.values[:10].tolist()])


@dataclasses.dataclass(frozen=True)
class TimeColumn:
    """What messages need to know, and the present."""

    table: SourceTable
    name: str
    now: float

    def refusal(self, row: int, value: object, reason: str) -> UserError:
        """Of the value of a row, counted from 0."""
        return UserError(
            f"{self.table.path}: row {self.table.row(row)} has {shortened(value)} in column {self.name!r}, {reason}"
        )

    def wrong_type(self, kind: pa.DataType) -> UserError:
        """Of a column whose type holds no times."""
        return UserError(
            f"{self.table.path}: column {self.name!r} has type {kind}; timestamps are numbers or dates; {REMEDY}"
        )

    def bad_rows(self, rows: np.ndarray, first: object, reason: str, what: str) -> BadRows:
        """Of rows that can be left out ([rows] bool), with the value of the first; `what` they have, in a few words."""
        refusal = self.refusal(int(rows.argmax()), first, reason)
        return BadRows(str(refusal), rows, f"{what} in column {self.name!r}")

    def check_calendar(
        self, seconds: np.ndarray, shown: np.ndarray | pa.ChunkedArray, meaning: str = ""
    ) -> None:
        """Refuses times before 1990, such as the 0 of a missing one, and those in the future. The latter cannot be left out: the log would
        be another one on another day.
        """

        def why_not(row: int, what: str) -> str:
            day = day_of(float(seconds[row]))
            return f"which is {meaning}{day}, {what}; mend or drop the row; {REMEDY}"

        late = seconds > self.now + AHEAD
        if late.any():
            row = int(np.argmax(late))
            raise self.refusal(row, shown[row], why_not(row, "in the future"))
        early = seconds < EARLIEST
        if early.any():
            row = int(np.argmax(early))
            why = why_not(row, "before 1990, as a missing or mistaken time is")
            raise self.bad_rows(early, shown[row], why, "with a time before 1990")


def of_numbers(column: TimeColumn, values: np.ndarray) -> Times:
    if not len(values):
        return Times(values, "")
    if values.dtype == np.int64 and (unit := _unit_at_once(column, values)):
        return Times(values, unit)
    bad = ~np.isfinite(values)
    if bad.any():
        first = values[bad.argmax()]
        raise column.bad_rows(bad, first, "expected a finite number", "without a number")
    magnitude = np.abs(values.astype(np.float64))
    median = float(np.median(magnitude))
    if median < EPOCH_LIKE:
        mixed = (magnitude >= EARLIEST) & (magnitude > APART * median)
        if mixed.any():
            row = int(np.argmax(mixed))
            raise column.refusal(
                row,
                values[row],
                f"and half of the rows have at most {median:g}: mixed units; {REMEDY}",
            )
        return Times(values.astype(np.int64) if values.dtype.kind == "u" else values, "")
    unit = unit_of(median)
    mixed = (magnitude > APART * median) | (
        (magnitude < median / APART) & (magnitude >= EPOCH_LIKE)
    )
    if mixed.any():
        row = int(np.argmax(mixed))
        remedy = "seconds and milliseconds are mixed, or the like; write all in one unit"
        raise column.refusal(
            row, values[row], f"and most rows are about {_typical(values, mixed)}: {remedy}"
        )
    column.check_calendar(values / PER_SECOND[unit], values, f"taken as {unit} since 1970 ")
    return Times(values.astype(np.int64) if values.dtype.kind == "u" else values, unit)


def _unit_at_once(column: TimeColumn, values: np.ndarray) -> str:
    """The unit of whole numbers whose lowest and highest show that all is well, which spares their median; else empty."""
    low, high = int(values.min()), int(values.max())
    unit = unit_of(low)
    if low < EPOCH_LIKE or high > APART * low or unit_of(high) != unit:
        return ""
    count = PER_SECOND[unit]
    well = EARLIEST * count <= low and high <= (column.now + AHEAD) * count
    return unit if well else ""


def _typical(values: np.ndarray, apart: np.ndarray) -> object:
    return values[~apart][0] if not apart.all() else values[0]


def in_utc(column: TimeColumn) -> str:
    return f"times in column {column.name!r} have a zone, and are shown in UTC"
