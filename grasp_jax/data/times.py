"""When interactions happened: numbers and dates in the spellings that people have. A column that cannot be ordered for sure is refused."""

import dataclasses
import datetime
import time
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grasp_jax.core.errors import UserError
from grasp_jax.data.bad_rows import BadRows
from grasp_jax.data.dictionary import int64_of
from grasp_jax.data.moments import EARLIEST, PER_SECOND, day_of, unit_of
from grasp_jax.data.tables import Table, filled_text, is_text, shortened, text_of

# numbers from here on are taken for seconds since 1970, or finer; smaller ones are only an order
EPOCH_LIKE = 10**8
AHEAD = 86_400  # seconds by which a time may be in the future, because clocks and time zones differ
APART = 100  # numbers so many times the median are of another unit
_EXAMPLE = "expected a number or a date such as 2024-01-31 10:30:00"
_MEND = "write dates as 2024-01-31T10:30:00, or set config.data.columns.timestamp='' for the order of the rows in the file"

_WHOLE = r"^[+-]?[0-9]{1,19}$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_CLOCK = r"(?:[T ] ?(?P<clock>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
_ZONE = r" ?(?P<zone>Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?"
_ISO = r"^(?P<year>[0-9]{4})[-/](?P<month>[0-9]{2})[-/](?P<day>[0-9]{2})" + _CLOCK + _ZONE + "$"
_LOCAL = (
    r"^(?P<first>[0-9]{1,2})[./](?P<second>[0-9]{1,2})[./](?P<year>[0-9]{4}),?"
    + _CLOCK
    + _ZONE
    + "$"
)


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

    def shown(self, most: int = 10) -> np.ndarray:
        """The first values in words: UTC to the second, or the unchanged values if they are only an order."""
        values = self.values[:most].tolist()
        if not self.unit:
            return np.array([str(value) for value in values])
        seconds = [value / PER_SECOND[self.unit] for value in values]
        return np.array(
            [
                datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
                for second in seconds
            ]
        )


def time_column(table: Table, name: str, now: float | None = None) -> Times:
    """The times of a column, none of which may be missing.

    Args:
      table: where from.
      name: the column.
      now: seconds since 1970; times must not be later. None: the present time.

    Raises:
      BadRows: the value of a row is missing, is not a time, or is before 1990.
      UserError: a value is in the future or may mean two different days, or some rows have another unit or another form than most.
    """
    column = _Column(table, name, time.time() if now is None else now)
    array = table.array(name)
    kind = array.type
    if is_text(kind):
        return _of_text(column, filled_text(array))
    table.check_filled(name, array)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _of_dates(column, array)
    if pa.types.is_decimal(kind):
        array = pc.cast(array, pa.float64() if kind.scale else pa.int64(), safe=False)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        values = int64_of(array) if array.type == pa.int64() else array.to_numpy()
        return _of_numbers(
            column,
            values
            if kind == pa.uint64() or values.dtype.kind == "f"
            else values.astype(np.int64, copy=False),
        )
    raise UserError(
        f"{table.path}: column {name!r} has type {kind}; timestamps are numbers or dates; {_MEND}"
    )


@dataclasses.dataclass(frozen=True)
class _Column:
    """What messages need to know, and the present."""

    table: Table
    name: str
    now: float

    def refusal(self, row: int, value: object, reason: str) -> UserError:
        """Of the value of a row, counted from 0."""
        return UserError(
            f"{self.table.path}: row {self.table.row(row)} has {shortened(value)} in column {self.name!r}, {reason}"
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

        def reason(row: int, what: str) -> str:
            day = day_of(float(seconds[row]))
            return f"which is {meaning}{day}, {what}; mend or drop the row; {_MEND}"

        late = seconds > self.now + AHEAD
        if late.any():
            row = int(np.argmax(late))
            raise self.refusal(row, shown[row], reason(row, "in the future"))
        early = seconds < EARLIEST
        if early.any():
            row = int(np.argmax(early))
            why = reason(row, "before 1990, as a missing or mistaken time is")
            raise self.bad_rows(early, shown[row], why, "with a time before 1990")


def _of_numbers(column: _Column, values: np.ndarray) -> Times:
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
                f"and half of the rows have at most {median:g}: mixed units; {_MEND}",
            )
        return Times(values.astype(np.int64) if values.dtype.kind == "u" else values, "")
    unit = unit_of(median)
    mixed = (magnitude > APART * median) | (
        (magnitude < median / APART) & (magnitude >= EPOCH_LIKE)
    )
    if mixed.any():
        row = int(np.argmax(mixed))
        mend = "seconds and milliseconds are mixed, or the like; write all in one unit"
        raise column.refusal(
            row, values[row], f"and most rows are about {_typical(values, mixed)}: {mend}"
        )
    column.check_calendar(values / PER_SECOND[unit], values, f"taken as {unit} since 1970 ")
    return Times(values.astype(np.int64) if values.dtype.kind == "u" else values, unit)


def _unit_at_once(column: _Column, values: np.ndarray) -> str:
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


def _of_dates(column: _Column, array: pa.ChunkedArray) -> Times:
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
    note = _in_utc(column) if array.type.tz not in (None, "UTC") else ""
    return Times(counts * (PER_SECOND[finest] // PER_SECOND[unit]), finest, note)


def _in_utc(column: _Column) -> str:
    return f"times in column {column.name!r} have a zone, and are shown in UTC"


def _is_out(seconds: np.ndarray, now: float) -> bool:
    return bool(((seconds < EARLIEST) | (seconds > now + AHEAD)).any())


def _of_text(column: _Column, array: pa.ChunkedArray) -> Times:
    text = pc.utf8_trim_whitespace(text_of(column.table, column.name, array))
    empty = pc.equal(text, "")
    if pc.any(empty).as_py():
        raise column.table.no_value(empty.to_numpy(zero_copy_only=False), column.name)
    # by far the most common, and a pattern takes ten times as long
    if (whole := _whole_numbers(text)) is not None:
        return _of_numbers(column, whole)
    matched = {}
    for pattern in (_WHOLE, _NUMBER, _ISO, _LOCAL):
        fits = pc.match_substring_regex(text, pattern)
        if pc.all(fits).as_py():
            return _parsers[pattern](column, text)
        matched[pattern] = fits.to_numpy()
    _refuse_several_forms(column, text, matched)
    bad = ~np.logical_or.reduce(list(matched.values()))
    first = text[int(bad.argmax())].as_py()
    raise column.bad_rows(bad, first, f"{_EXAMPLE}; {_MEND}", "without a time that can be read")


def _refuse_several_forms(
    column: _Column, text: pa.ChunkedArray, matched: Mapping[str, np.ndarray]
) -> None:
    """Times of which no one pattern matches all that can be read, such as numbers and dates; `matched` has [rows] bool by the pattern."""
    readable = np.logical_or.reduce(list(matched.values()))
    usual = max(matched.values(), key=np.sum)
    if (usual == readable).all():
        return
    row, other = int(np.argmax(readable & ~usual)), int(np.argmax(usual))
    reason = (
        f"and row {column.table.row(other)} {shortened(text[other].as_py())}: two forms of times"
    )
    raise column.refusal(row, text[row].as_py(), f"{reason}; {_MEND}")


def _whole_numbers(text: pa.ChunkedArray) -> np.ndarray | None:
    """[rows] int64 where every text is a whole number in decimal, else None; Arrow alone takes 0x10 for 16."""
    try:
        numbers: np.ndarray = pc.cast(text, pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    if any(pc.any(pc.match_substring(text, mark)).as_py() for mark in "xX"):
        return None
    return numbers


def _of_whole(column: _Column, text: pa.ChunkedArray) -> Times:
    try:
        return _of_numbers(
            column, pc.cast(pc.replace_substring_regex(text, r"^\+", ""), pa.int64()).to_numpy()
        )
    except pa.ArrowInvalid:
        return _of_fraction(column, text)


def _of_fraction(column: _Column, text: pa.ChunkedArray) -> Times:
    return _of_numbers(
        column, pc.cast(pc.replace_substring_regex(text, r"^\+", ""), pa.float64()).to_numpy()
    )


def _of_iso(column: _Column, text: pa.ChunkedArray) -> Times:
    parts = pc.extract_regex(text, _ISO)
    day = _joined(*(pc.struct_field(parts, name) for name in ("year", "month", "day")), mark="-")
    return _of_parts(column, text, parts, day)


def _of_local(column: _Column, text: pa.ChunkedArray) -> Times:
    """Day first or month first, as the column's own dates show: some date must have a 13 or more."""
    parts = pc.extract_regex(text, _LOCAL)
    first, second = (
        pc.cast(pc.struct_field(parts, name), pa.int64()).to_numpy() for name in ("first", "second")
    )
    day_first, month_first = first > 12, second > 12
    if day_first.any() and month_first.any():
        a, b = int(np.argmax(day_first)), int(np.argmax(month_first))
        raise column.refusal(
            b,
            text[b].as_py(),
            f"and row {column.table.row(a)} {shortened(text[a].as_py())}: the month first and the day first; {_MEND}",
        )
    if not (day_first.any() or month_first.any()):
        reason = "which may be day and month or month and day, and no row tells which"
        raise column.refusal(0, text[0].as_py(), f"{reason}; {_MEND}")
    month, day = ("second", "first") if day_first.any() else ("first", "second")
    padded = (pc.utf8_lpad(pc.struct_field(parts, name), 2, "0") for name in (month, day))
    times = _of_parts(
        column, text, parts, _joined(pc.struct_field(parts, "year"), *padded, mark="-")
    )
    order = "day, month, year" if day == "first" else "month, day, year"
    notes = (f"dates in column {column.name!r} are read as {order}", times.note)
    return dataclasses.replace(times, note="; ".join(filter(None, notes)))


def _joined(*parts: pa.ChunkedArray, mark: str) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*parts, pa.scalar(mark, parts[0].type))


def _of_parts(
    column: _Column, text: pa.ChunkedArray, parts: pa.ChunkedArray, day: pa.ChunkedArray
) -> Times:
    """Times of the groups of a match; `day` as 2024-01-31."""
    clock, fraction, zone = (pc.struct_field(parts, name) for name in ("clock", "fraction", "zone"))
    clock = pc.if_else(pc.equal(clock, ""), pa.scalar("00:00:00", clock.type), clock)
    moments = _joined(day, clock, mark="T")
    try:
        seconds = pc.cast(pc.cast(moments, pa.timestamp("s")), pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        bad = np.array([not _exists(moment) for moment in moments.to_pylist()])
        first, what = text[int(bad.argmax())].as_py(), "with a time that does not exist"
        reason = f"which no calendar or clock has; {_MEND}"
        raise column.bad_rows(bad, first, reason, what) from None
    ahead = _offsets(column, text, zone)
    seconds = seconds - ahead
    note = _in_utc(column) if ahead.any() else ""
    column.check_calendar(seconds, text)
    nanoseconds = pc.cast(pc.utf8_rpad(fraction, 9, "0"), pa.int64()).to_numpy()
    if (nanoseconds % 1000).any():
        return Times(seconds * 10**9 + nanoseconds, "ns", note)
    return Times(seconds * 10**6 + nanoseconds // 1000, "us", note)


def _offsets(column: _Column, text: pa.ChunkedArray, zone: pa.ChunkedArray) -> np.ndarray:
    """[rows] seconds that each local time is ahead of UTC; where no row says so, all are taken as UTC."""
    zones = (
        zone.combine_chunks().dictionary_encode()
        if isinstance(zone, pa.ChunkedArray)
        else zone.dictionary_encode()
    )
    known = zones.dictionary.to_pylist()
    codes = zones.indices.to_numpy()
    if "" in known and len(known) > 1:
        row, other = (
            int(np.argmax(codes == known.index(""))),
            int(np.argmax(codes != known.index(""))),
        )
        reason = f"without a time zone, and row {column.table.row(other)} {shortened(text[other].as_py())} with one"
        raise column.refusal(row, text[row].as_py(), f"{reason}; {_MEND}")
    ahead: np.ndarray = np.array([_seconds_ahead(zone) for zone in known], np.int64)[codes]
    return ahead


def _seconds_ahead(zone: str) -> int:
    if zone[:1] not in ("+", "-"):
        return 0
    digits = zone[1:].replace(":", "")
    return (1 if zone[0] == "+" else -1) * (3600 * int(digits[:2]) + 60 * int(digits[2:] or 0))


def _exists(moment: str) -> bool:
    """Whether Arrow knows a moment, such as 2024-01-31T10:30:00; it refuses the hour 24, which later versions of Python take."""
    if moment[11:13] == "24":
        return False
    try:
        datetime.datetime.fromisoformat(moment)
    except ValueError:
        return False
    return True


_parsers = {_WHOLE: _of_whole, _NUMBER: _of_fraction, _ISO: _of_iso, _LOCAL: _of_local}
