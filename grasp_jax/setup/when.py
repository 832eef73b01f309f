"""Which column of the interactions says when they happened: by its name and its values."""

import json
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.data.bad_rows import BadRows, check_share
from grasp_jax.data.columns import bare
from grasp_jax.data.moments import PER_SECOND
from grasp_jax.data.tables import SourceTable, values_of
from grasp_jax.data.time_names import is_time_name, is_usual_time_name
from grasp_jax.data.times import time_column
from grasp_jax.setup import names
from grasp_jax.setup.sample import Sample

FIELD = "config.data.columns.timestamp"
DAY = 86_400  # seconds
LONGEST = 60  # characters of a date
TRIED = 100  # rows that must look like times before all of a column are read
_LIKE_TIME = re.compile(r"[-+]?\d{9,20}(\.\d*)?|.*\d[-/.:].*\d.*")
_LIKE_DATE = re.compile(r"\d{1,4}[-/.](\d{1,2}|[A-Za-z]{3})[-/.]\d{1,4}\b.*")
_WITH_DIGIT = re.compile(r".*\d.*")
_NUMBER = re.compile(r"[-+]?[\d.]+([eE][-+]?\d+)?")
_NAMED = re.compile(r"(time(?!_?zone)|date|stamp).*|.*(time|stamp|_date|_ts)")


class _Read(NamedTuple):
    """A column that reads as times.

    Attributes:
      name: the column.
      values: [rows] those that can be read.
      unit: in which they count from 1970; empty: they are only an order.
      span: from which to which day, in words.
      is_whole: whether all can.
      is_number: whether they are numbers, which may be something else.
    """

    name: str
    values: np.ndarray
    unit: str
    span: str
    is_whole: bool
    is_number: bool

    @property
    def has_clock(self) -> bool:
        """Whether they have times of day, not only days."""
        if not self.unit:
            return False
        within = self.values % (DAY * PER_SECOND[self.unit])
        return bool((within != within[:1]).any())

    @property
    def is_number_of_day(self) -> bool:
        """Whether they are days written as numbers, such as 20240131."""
        values = self.values
        return not self.unit and bool(((values > 19_900_000) & (values < 21_000_000)).all())

    @property
    def is_flag(self) -> bool:
        """Whether they are 0 and 1 in many rows, which order nothing."""
        return not self.unit and len(self.values) > 4 and bool(np.isin(self.values, (0, 1)).all())

    @property
    def may_be_meant(self) -> bool:
        """Whether a column whose name is not one of times may be one: dates, numbers since 1970, or others with a similar name."""
        return bool(self.unit) or _is_named(self.name)

    @property
    def is_meant(self) -> bool:
        """Whether its name, which suggests times, is to be believed: `puzzle_time` may be a duration, `order_day` and `looked_at` flags."""
        is_usual = is_usual_time_name(self.name) and not self.is_flag
        return is_usual or bool(self.unit) or self.is_number_of_day

    @property
    def in_words(self) -> str:
        """The column, and the days of its times."""
        if not len(self.values):
            return repr(self.name)
        days_only = bool(self.unit) and not self.has_clock
        return f"{self.name!r} ({self.span}{', no time of day' * days_only})"


def time_of(log: Sample, used: Collection[str]) -> tuple[str, list[str]]:
    """The column of times, and notes on what is uncertain about it.

    Of the columns whose names suggest times, the first with times of day is chosen, else the first one that can be read. A name that only
    has a word such as "time" suggests them only if its values are times or days too. If none can be read, the first stands in the config
    all the same: a run then refuses it, while without it the rows would be in the order of the file.

    Args:
      log: the interactions.
      used: columns that have another role.

    Returns:
      The column, empty if the order of the rows in the file is to count; and lines for people.
    """
    named = [name for name in names.times(log.names) if name not in used]
    readable, faults = _read_all(log.table, named)
    found = [read for read in readable if read.is_meant]
    doubtful = [read for read in readable if not read.is_meant]
    rest = [name for name in log.names if name not in {*named, *used}]
    maybe = [name for name in rest if _looks_like(_LIKE_TIME, log.table, name) or _is_named(name)]
    similar, other_faults = _read_all(log.table, maybe)
    others = [*doubtful, *(read for read in similar if read.may_be_meant)]
    others.sort(key=lambda read: not read.unit)
    if found:
        return _among(found, others, named, faults)
    if faults:
        return next(iter(faults)), _unreadable([*faults], others, faults)
    dates = _finest([read for read in others if not read.is_number])
    if dates:
        return dates[0].name, [_by_contents([*dates, *filter(_is_named_number, others)])]
    if like := [name for name in other_faults if _is_meant(log.table, name)]:
        return like[0], _unreadable(like, others, other_faults)
    return "", [_in_order_of_file(others, bool(doubtful))]


def _is_meant(table: SourceTable, name: str) -> bool:
    """Whether a column that cannot be read looks like times all the same."""
    pattern = _WITH_DIGIT if _is_named(name) else _LIKE_DATE
    return _looks_like(pattern, table, name)


def _is_named(name: str) -> bool:
    """Whether the name of a column is similar to those of times."""
    return is_time_name(name) or _NAMED.fullmatch(bare(name)) is not None


def _is_named_number(read: _Read) -> bool:
    return read.is_number and _is_named(read.name)


def _read_all(table: SourceTable, columns: Sequence[str]) -> tuple[list[_Read], dict[str, str]]:
    """The columns that read as times, and what is wrong with each of the others."""
    found, faults = [], {}
    for name in columns:
        try:
            found.append(_read(table, name))
        except UserError as error:
            faults[name] = str(error)
    return found, faults


def _read(table: SourceTable, name: str) -> _Read:
    """A column of a table, of the rows whose times can be read.

    Raises:
      UserError: the column has a fault, or more rows have none than a run may leave out.
    """
    left = table
    while True:
        try:
            times = time_column(left, name)
        except BadRows as error:
            left = left.select(~error.rows, [name])
            check_share(error, table.num_rows - left.num_rows, table.num_rows)
        else:
            break
    is_number = all(_NUMBER.fullmatch(text) for text in _first_texts(left, name))
    span = times.span() if left.num_rows else ""
    is_whole = left.num_rows == table.num_rows
    return _Read(name, times.values, times.unit, span, is_whole, is_number)


def _first_texts(table: SourceTable, name: str) -> list[str]:
    """The first values of a column as texts, without those that are missing."""
    first = np.arange(table.num_rows) < TRIED
    values = values_of(table.select(first, [name]), name)
    return [str(value).strip() for value in values if value is not None]


def _looks_like(pattern: re.Pattern[str], table: SourceTable, name: str) -> bool:
    """Whether the first values of a column look like times, which spares reading every row of texts."""
    if name in table.repeated:
        return False
    try:
        texts = _first_texts(table, name)
    except UserError:
        return False
    return bool(texts) and all(
        len(text) < LONGEST and pattern.fullmatch(text) is not None for text in texts
    )


def _finest(found: Sequence[_Read]) -> list[_Read]:
    """Columns that can be read whole come first, then those with times of day; numbers of days come last; else the order stays."""
    return sorted(
        found, key=lambda read: (not read.is_whole, not read.has_clock, read.is_number_of_day)
    )


def _among(
    found: Sequence[_Read], others: Sequence[_Read], named: Sequence[str], faults: dict[str, str]
) -> tuple[str, list[str]]:
    best, *rest = _finest(found)
    before = named[: named.index(best.name)]
    notes = [_not_used(name, faults[name]) for name in before if name in faults]
    also = [read for read in others if not read.is_number or _is_named_number(read)]
    if alternatives := ", ".join(read.in_words for read in [*rest, *also]):
        is_finer = best.has_clock and any(
            read.name in before and not read.has_clock for read in rest
        )
        why = ", because it has times of day" * is_finer
        notes.append(
            f"times may also be in {alternatives}; {best.in_words} was chosen{why} ({FIELD})"
        )
    return best.name, notes


def _not_used(name: str, fault: str) -> str:
    return f"column {name!r} was not used as the time: {fault}"


def _unreadable(named: Sequence[str], others: Sequence[_Read], faults: dict[str, str]) -> list[str]:
    """Of columns that suggest times by their names, of which none can be read; of the first, `check_rows` says what is wrong."""
    could = ", ".join(read.in_words for read in others)
    remedy = f"; or name another column there: {could} could be the time" if could else ""
    return [
        f"when interactions happened: column {named[0]!r} looks like the time and cannot be read; the config names it, so a run refuses it "
        f'until it is mended, or until {FIELD} = "" says that the rows of the file are in the order of time{remedy}',
        *(_not_used(name, faults[name]) for name in named[1:]),
    ]


def _by_contents(found: Sequence[_Read]) -> str:
    best, *rest = found
    also = ", ".join(read.in_words for read in rest)
    also = f"; times may also be in {also}" if also else ""
    return (
        f"when interactions happened: no column says so by its name; {best.in_words} was chosen, because its values read as dates{also}; "
        f'if none is the time, set {FIELD} = "" for the order of the rows in the file'
    )


def _in_order_of_file(numbers: Sequence[_Read], is_doubtful: bool) -> str:
    """The note on rows without times; `is_doubtful`: the name of one of the columns suggests times, and its values do not."""
    taken = f"so the rows are taken to be in the order of time ({FIELD})"
    if not numbers:
        return f"when interactions happened: no column says it, {taken}"
    could = ", ".join(read.in_words for read in numbers)
    says = "it for sure" if is_doubtful else "so by its name"
    return (
        f"when interactions happened: no column says {says}, {taken}; the numbers of {could} could be times: if they are, set "
        f"{FIELD} = {json.dumps(numbers[0].name, ensure_ascii=False)}"
    )
