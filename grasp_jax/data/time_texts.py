"""Times that are texts: numbers and dates in the spellings that people have. A column that cannot be ordered for sure is refused."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grasp_jax.core.errors import UserError
from grasp_jax.data.tables import shortened, text_of
from grasp_jax.data.time_forms import (
    ANY_ISO,
    ANY_LOCAL,
    DAY_NAME_YEAR,
    ISO,
    LOCAL,
    NAME_DAY_YEAR,
    NUMBER,
    WHOLE,
    date_fields,
    exists,
    joined,
    like_dates,
    matches,
    seconds_ahead,
    two_digits,
)
from grasp_jax.data.time_values import EXAMPLE, REMEDY, TimeColumn, Times, in_utc, of_numbers

COMMA = "whose decimal mark is a comma; expected a point, as in 1641742024.5"
_COMMA = re.compile(r"[-+]?\d+,\d+")
GARBLED = 0.01  # share of the rows up to which dates that cannot be read are faults of these rows


def of_text(column: TimeColumn, array: pa.ChunkedArray) -> Times:
    """The times of texts or bytes ([rows]), an empty one where a value is missing.

    Raises:
      BadRows: the text of a row is empty, no time, or one before 1990 or of no calendar.
      UserError: as `times.time_column`; also rows with dates of a form that is not read, because there the form is at fault.
    """
    text = pc.utf8_trim_whitespace(text_of(column.table, column.name, array))
    empty = pc.equal(text, "")
    if pc.any(empty).as_py():
        raise column.table.no_value(empty.to_numpy(zero_copy_only=False), column.name)
    # by far the most common, and a pattern takes ten times as long
    if (whole := _whole_numbers(text)) is not None:
        return of_numbers(column, whole)
    matched = {}
    for pattern, parse in _parsers.items():
        fits = matches(text, pattern)
        if fits.all():
            return parse(column, text)
        matched[pattern] = fits
    _refuse_several_forms(column, text, matched)
    bad = ~np.logical_or.reduce(list(matched.values()))
    _refuse_unknown_form(column, text, bad)
    first = text[int(bad.argmax())].as_py()
    why = f"{_expected(first)}; {REMEDY}"
    raise column.bad_rows(bad, first, why, "without a time that can be read")


def _expected(text: str) -> str:
    """What a text should have been that is no time."""
    return COMMA if _COMMA.fullmatch(text) else EXAMPLE


def _refuse_several_forms(
    column: TimeColumn, text: pa.ChunkedArray, matched: Mapping[str, np.ndarray]
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
    raise column.refusal(row, text[row].as_py(), f"{reason}; {REMEDY}")


def _refuse_unknown_form(column: TimeColumn, text: pa.ChunkedArray, bad: np.ndarray) -> None:
    """Dates and times of a form that is not read, among rows ([rows] bool) without a time that can be read. Unless they are very few, they
    are no faults of single rows: without them a log would lack a part of each day, or all days after a change of the form.
    """
    unknown = bad & like_dates(text)
    if unknown.mean() > GARBLED:
        row = int(unknown.argmax())
        count = (
            f"{int(unknown.sum()):,} of {len(text):,} rows have dates of a form that is not read"
        )
        first = text[row].as_py()
        raise column.refusal(row, first, f"{_expected(first)}; {count}; {REMEDY}")


def _whole_numbers(text: pa.ChunkedArray) -> np.ndarray | None:
    """[rows] int64 where every text is a whole number in decimal, else None; Arrow alone takes 0x10 for 16."""
    try:
        numbers: np.ndarray = pc.cast(text, pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    if any(pc.any(pc.match_substring(text, mark)).as_py() for mark in "xX"):
        return None
    return numbers


def _of_whole(column: TimeColumn, text: pa.ChunkedArray) -> Times:
    try:
        return of_numbers(
            column, pc.cast(pc.replace_substring_regex(text, r"^\+", ""), pa.int64()).to_numpy()
        )
    except pa.ArrowInvalid:
        return _of_fraction(column, text)


def _of_fraction(column: TimeColumn, text: pa.ChunkedArray) -> Times:
    return of_numbers(
        column, pc.cast(pc.replace_substring_regex(text, r"^\+", ""), pa.float64()).to_numpy()
    )


def _of_iso(column: TimeColumn, text: pa.ChunkedArray, pattern: str) -> Times:
    """Of a form that says which is the month."""
    parts = date_fields(text, pattern)
    return _of_parts(
        column, text, parts, joined(parts["year"], parts["month"], parts["day"], mark="-")
    )


def _of_local(column: TimeColumn, text: pa.ChunkedArray, pattern: str) -> Times:
    """Day first or month first, as the column's own dates show: some date must have a 13 or more."""
    parts = date_fields(text, pattern)
    first, second = (pc.cast(parts[name], pa.int64()).to_numpy() for name in ("first", "second"))
    day_first, month_first = first > 12, second > 12
    if day_first.any() and month_first.any():
        a, b = int(np.argmax(day_first)), int(np.argmax(month_first))
        raise column.refusal(
            b,
            text[b].as_py(),
            f"and row {column.table.row(a)} {shortened(text[a].as_py())}: the month first and the day first; {REMEDY}",
        )
    if not (day_first.any() or month_first.any()):
        reason = "which may be day and month or month and day, and no row tells which"
        raise column.refusal(0, text[0].as_py(), f"{reason}; {REMEDY}")
    month, day = ("second", "first") if day_first.any() else ("first", "second")
    padded = (two_digits(parts[name]) for name in (month, day))
    times = _of_parts(column, text, parts, joined(parts["year"], *padded, mark="-"))
    order = "day, month, year" if day == "first" else "month, day, year"
    notes = (f"dates in column {column.name!r} are read as {order}", times.note)
    return dataclasses.replace(times, note="; ".join(filter(None, notes)))


def _of_parts(
    column: TimeColumn,
    text: pa.ChunkedArray,
    parts: Mapping[str, pa.ChunkedArray],
    day: pa.ChunkedArray,
) -> Times:
    """Times of `date_fields` texts; `day` as 2024-01-31."""
    if "half" in parts:
        _refuse_some_halves(column, text, parts)
    clock, fraction, zone = (parts[name] for name in ("clock", "fraction", "zone"))
    clock = pc.if_else(pc.equal(clock, ""), pa.scalar("00:00:00", clock.type), clock)
    moments = joined(day, clock, mark="T")
    try:
        seconds = pc.cast(pc.cast(moments, pa.timestamp("s")), pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        raise _no_moments(column, text, moments) from None
    ahead = _offsets(column, text, zone)
    seconds = seconds - ahead
    note = in_utc(column) if ahead.any() else ""
    column.check_calendar(seconds, text)
    nanoseconds = pc.cast(pc.utf8_rpad(fraction, 9, "0"), pa.int64()).to_numpy()
    if (nanoseconds % 1000).any():
        return Times(seconds * 10**9 + nanoseconds, "ns", note)
    return Times(seconds * 10**6 + nanoseconds // 1000, "us", note)


def _no_moments(column: TimeColumn, text: pa.ChunkedArray, moments: pa.ChunkedArray) -> UserError:
    """The error of rows whose time does not exist; `moments` are the texts as 2024-01-31T10:30:00."""
    bad = np.array([not exists(moment) for moment in moments.to_pylist()])
    at_24 = bad & matches(moments, "T24:")
    if at_24.any():  # which a program wrote for each midnight, so these rows are not to be left out
        row = int(at_24.argmax())
        reason = (
            "whose hour 24 may be the hour 00 of the same day or of the next; write one of them"
        )
        return column.refusal(row, text[row].as_py(), f"{reason}; {REMEDY}")
    first, what = text[int(bad.argmax())].as_py(), "with a time that does not exist"
    return column.bad_rows(bad, first, f"which no calendar or clock has; {REMEDY}", what)


def _refuse_some_halves(
    column: TimeColumn, text: pa.ChunkedArray, parts: Mapping[str, pa.ChunkedArray]
) -> None:
    """Clocks with AM or PM and others without: 8:26 may be in the evening."""
    halved = pc.not_equal(parts["half"], "").to_numpy()
    without = pc.not_equal(parts["clock"], "").to_numpy() & ~halved
    if halved.any() and without.any():
        row, other = int(without.argmax()), int(halved.argmax())
        reason = f"without AM or PM, and row {column.table.row(other)} {shortened(text[other].as_py())} with it"
        raise column.refusal(row, text[row].as_py(), f"{reason}; {REMEDY}")


def _offsets(column: TimeColumn, text: pa.ChunkedArray, zone: pa.ChunkedArray) -> np.ndarray:
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
        raise column.refusal(row, text[row].as_py(), f"{reason}; {REMEDY}")
    ahead: np.ndarray = np.array([seconds_ahead(zone) for zone in known], np.int64)[codes]
    return ahead


# the forms that are read fastest come first
_parsers: dict[str, Callable[[TimeColumn, pa.ChunkedArray], Times]] = {
    WHOLE: _of_whole,
    NUMBER: _of_fraction,
    ISO: functools.partial(_of_iso, pattern=ISO),
    LOCAL: functools.partial(_of_local, pattern=LOCAL),
    ANY_ISO: functools.partial(_of_iso, pattern=ANY_ISO),
    ANY_LOCAL: functools.partial(_of_local, pattern=ANY_LOCAL),
    DAY_NAME_YEAR: functools.partial(_of_iso, pattern=DAY_NAME_YEAR),
    NAME_DAY_YEAR: functools.partial(_of_iso, pattern=NAME_DAY_YEAR),
}
