"""The spellings of times in texts: a pattern for each form, and the parts of texts that match it, written as ISO 8601 has them."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grasp_jax.data.dictionary import int64_array

WHOLE = r"^[+-]?[0-9]{1,19}$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_FRACTION = r"(?:[.,](?P<fraction>[0-9]{1,9}))?"
_CLOCK = r"(?:[T ] ?(?P<clock>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)" + _FRACTION + ")?"
_ZONE = r" ?(?P<zone>Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?"
ISO = r"^(?P<year>[0-9]{4})[-/](?P<month>[0-9]{2})[-/](?P<day>[0-9]{2})" + _CLOCK + _ZONE + "$"
_FIRST_SECOND = r"^(?P<first>[0-9]{1,2})[./](?P<second>[0-9]{1,2})[./](?P<year>[0-9]{4}),?"
LOCAL = _FIRST_SECOND + _CLOCK + _ZONE + "$"

# Forms that take longer to read: an hour of one digit, AM and PM (behind a blank that may be a narrow one), names of months.
_HOURS = r"(?P<hour>[0-9]{1,2})(?P<minutes>:[0-9]{2}(?::[0-9]{2})?)"
_HALF = r"(?:[ \x{a0}\x{202f}]?(?P<half>[AaPp]\.?[Mm]\.?))?"
_ANY_CLOCK = "(?:[T ] ?" + _HOURS + _FRACTION + _HALF + ")?"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    "(?P<name>(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    "sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?))"
)
_WEEKDAY = "^(?:(?i:mon|tue|wed|thu|fri|sat|sun),? )?"
ANY_ISO = (
    r"^(?P<year>[0-9]{4})[-/](?P<month>[0-9]{1,2})[-/](?P<day>[0-9]{1,2})"
    + _ANY_CLOCK
    + _ZONE
    + "$"
)
ANY_LOCAL = _FIRST_SECOND + _ANY_CLOCK + _ZONE + "$"
# 01-Dec-2010 and Wed, 01 Dec 2010 10:30:00 +0000
DAY_NAME_YEAR = (
    f"{_WEEKDAY}(?P<day>[0-9]{{1,2}})[- ]{_MONTH}[- ](?P<year>[0-9]{{4}}),?{_ANY_CLOCK}{_ZONE}$"
)
# Wed Dec 01 10:30:00 +0000 2010, as C writes it
NAME_DAY_YEAR = (
    f"{_WEEKDAY}{_MONTH} {{1,2}}(?P<day>[0-9]{{1,2}}){_ANY_CLOCK}{_ZONE} (?P<year>[0-9]{{4}})$"
)
_LIKE_A_DATE = "[0-9][-/.:, ]+(?:[A-Za-z]+[-/.:, ]+)?[0-9]"


def matches(text: pa.ChunkedArray, pattern: str) -> np.ndarray:
    """[rows] bool, whether a text has a form."""
    found: np.ndarray = pc.match_substring_regex(text, pattern).to_numpy()
    return found


def like_dates(text: pa.ChunkedArray) -> np.ndarray:
    """[rows] bool, whether a text is probably a date or a time, of a form that may not be known: it has numbers with marks between them."""
    return matches(text, _LIKE_A_DATE)


def date_fields(text: pa.ChunkedArray, pattern: str) -> dict[str, pa.ChunkedArray]:
    """The parts of texts that all match a pattern of dates.

    Args:
      text: [rows] large strings.
      pattern: one of the forms with a year.

    Returns:
      name -> [rows] large strings, empty where a row has none: "year"; "month" and "day", or "first" and "second" (of two digits unless the
      form is `LOCAL`); "clock" (10:30:00 or 10:30, of 24 hours), "fraction" and "zone"; and "half" (AM or PM as written) of the slow forms.
      An hour of 13 to 23 with PM is taken as it stands; with AM, which contradicts it, it becomes the hour 99, which does not exist.
    """
    found = pc.extract_regex(text, pattern)
    kind = found.type
    parts = {kind.field(k).name: pc.struct_field(found, k) for k in range(kind.num_fields)}
    if "half" not in parts:
        return parts
    if "name" in parts:
        parts["month"] = _month_numbers(parts.pop("name"))
    for name in {"month", "day", "first", "second"} & parts.keys():
        parts[name] = two_digits(parts[name])
    parts["clock"] = _clocks(parts.pop("hour"), parts.pop("minutes"), parts["half"])
    return parts


def two_digits(numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    """[rows] large strings, numbers of one digit with a 0 before them."""
    return pc.utf8_lpad(numbers, 2, "0")


def joined(*parts: pa.ChunkedArray, mark: str) -> pa.ChunkedArray:
    """[rows] large strings: the parts of each row with a mark between them."""
    return pc.binary_join_element_wise(*parts, pa.scalar(mark, pa.large_string()))


def seconds_ahead(zone: str) -> int:
    """The seconds that a zone is ahead of UTC, such as 32400 for +09:00; 0 for Z, UTC, GMT and an empty one."""
    if zone[:1] not in ("+", "-"):
        return 0
    digits = zone[1:].replace(":", "")
    return (1 if zone[0] == "+" else -1) * (3600 * int(digits[:2]) + 60 * int(digits[2:] or 0))


def exists(moment: str) -> bool:
    """Whether Arrow knows a moment, such as 2024-01-31T10:30:00; it refuses the hour 24, which later versions of Python take."""
    if moment[11:13] == "24":
        return False
    try:
        datetime.datetime.fromisoformat(moment)
    except ValueError:
        return False
    return True


def _month_numbers(names: pa.ChunkedArray) -> pa.ChunkedArray:
    short = pc.utf8_lower(pc.utf8_slice_codeunits(names, 0, 3))
    places = pc.index_in(short, value_set=pa.array(_MONTHS, pa.large_string()))
    return pc.cast(pc.add(places, 1), pa.large_string())


def _clocks(
    hours: pa.ChunkedArray, minutes: pa.ChunkedArray, halves: pa.ChunkedArray
) -> pa.ChunkedArray:
    """[rows] the clock of 24 hours, such as 20:26 of 8, :26 and PM; empty where a row has no hours."""
    has_clock, has_half = pc.not_equal(hours, ""), pc.not_equal(halves, "").to_numpy()
    numbers = pc.cast(pc.if_else(has_clock, hours, "0"), pa.int64()).to_numpy()
    is_pm = pc.starts_with(pc.utf8_lower(halves), "p").to_numpy()
    of_half = np.where(numbers <= 12, numbers % 12 + 12 * is_pm, np.where(is_pm, numbers, 99))
    whole = int64_array(np.where(has_half, of_half, numbers).astype(np.int64))
    clocks = joined(two_digits(pc.cast(whole, pa.large_string())), minutes, mark="")
    return pc.if_else(has_clock, clocks, pa.scalar("", pa.large_string()))
