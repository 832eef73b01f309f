"""Points in time: how numbers count from 1970, and the two that split a log by time (`config.data.split="time"`)."""

import datetime
import fractions
import math
import re

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.data.log import InteractionLog

EARLIEST = int(datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC).timestamp())
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# shares of the interactions before the two times, if none are given
SHARES = {"valid_after": (4, 5), "test_after": (9, 10)}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?")
_EXAMPLE = (
    "expected a date such as 2024-01-31, a time such as 2024-01-31T10:30:00, or seconds since 1970"
)

Moment = int | float  # in the unit of a log's timestamps


def unit_of(magnitude: float) -> str:
    """The unit in which a number of this size counts from 1970, if it is a time after 1990."""
    limits = (("s", 1e11), ("ms", 1e14), ("us", 1e17))
    return next((unit for unit, limit in limits if magnitude < limit), "ns")


def day_of(seconds: float) -> str:
    """A moment's day, UTC; in words where no calendar reaches it."""
    try:
        return str(datetime.datetime.fromtimestamp(seconds, datetime.UTC).date())
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.4g} seconds after 1970"


def shown(moment: Moment, unit: str) -> str:
    """A moment as messages have it: UTC to the second, or the number where times are only an order."""
    if not unit:
        return str(moment)
    seconds = moment / PER_SECOND[unit]
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.4g} seconds after 1970"


def time_bounds(
    log: InteractionLog, valid_after: object, test_after: object
) -> tuple[Moment, Moment]:
    """The points in time from which interactions are validation, and from which they are test.

    Args:
      log: has timestamps, [I] int64 or float64, in `log.time_unit`.
      valid_after: a date or time (ISO 8601; without a time zone UTC); or a number since 1970 in seconds, milli-, micro- or nanoseconds,
        according to its size; or, if the log's times are only an order, a number among them. Empty: the time of the interaction at four
        fifths of all interactions in the order of time.
      test_after: likewise; empty: at nine tenths.

    Returns:
      Both in the unit of the log's timestamps: whole numbers (the next one above a fraction) where those are.

    Raises:
      UserError: the log has no times, a value is not a time or is outside the data, or there is no interaction between the two.
    """
    times, unit = log.timestamps, log.time_unit
    if times is None:
        raise UserError(
            f"config.data.split: 'time' needs a timestamp column, and the interactions of {log.name} have none; "
            "name it with config.data.columns.timestamp, or use leave_one_out"
        )
    given = {"valid_after": str(valid_after).strip(), "test_after": str(test_after).strip()}
    valid, test = (
        parse_moment(text, f"config.data.{field}", log) if text else _chosen(times, *SHARES[field])
        for field, text in given.items()
    )
    low, high = times.min().item(), times.max().item()
    span = f"the interactions are from {shown(low, unit)} to {shown(high, unit)}"

    def refusal(field: str, moment: Moment, reason: str) -> UserError:
        how = "" if given[field] else ", chosen by the share of interactions before it"
        return UserError(
            f"config.data.{field}: {shown(moment, unit)}{how}: {reason}; {span}; give another point in time"
        )

    if valid <= low:
        raise refusal(
            "valid_after", valid, "no interaction lies before it, so there is nothing to train on"
        )
    if test <= valid:
        raise refusal(
            "test_after", test, f"expected one after config.data.valid_after={shown(valid, unit)}"
        )
    if test > high:
        raise refusal(
            "test_after", test, "no interaction lies after it, so there is nothing to test on"
        )
    if not ((times >= valid) & (times < test)).any():
        raise refusal(
            "test_after",
            test,
            f"no interaction lies between config.data.valid_after={shown(valid, unit)} and it",
        )
    return valid, test


def _chosen(times: np.ndarray, part: int, of: int) -> Moment:
    """The time at a share of all interactions in the order of time: at most this share is before it."""
    place = len(times) * part // of
    moment: Moment = np.partition(times, place)[place].item()
    return moment


def parse_moment(text: str, field: str, log: InteractionLog) -> Moment:
    """A point in time as it was given, in the unit of the log's timestamps.

    Args:
      text: in one of the forms of `time_bounds`.
      field: the name of the config field, for messages.
      log: has timestamps.

    Raises:
      UserError: the text is not a time.
    """
    unit, is_number = log.time_unit, _NUMBER.fullmatch(text) is not None
    assert log.timestamps is not None
    if not unit:
        if not is_number:
            low, high = log.timestamps.min(), log.timestamps.max()
            reason = f"for the unit of the timestamps of {log.name}, which go from {low} to {high}, is not known"
            raise UserError(f"{field}: {text[:60]!r}; expected a number, {reason}")
        return _in_type(fractions.Fraction(text), log.timestamps)
    seconds = (
        fractions.Fraction(text) / PER_SECOND[unit_of(abs(float(text)))]
        if is_number
        else _seconds(text, field)
    )
    if seconds < EARLIEST:
        raise UserError(
            f"{field}: {text[:60]!r}, which is {day_of(float(seconds))}, before 1990; {_EXAMPLE}"
        )
    return _in_type(seconds * PER_SECOND[unit], log.timestamps)


def _seconds(text: str, field: str) -> fractions.Fraction:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{field}: {text[:60]!r}; {_EXAMPLE}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return fractions.Fraction((moment - _EPOCH) // datetime.timedelta(microseconds=1), 10**6)


def _in_type(moment: fractions.Fraction, times: np.ndarray) -> Moment:
    """Converts a value to the type of the timestamps; for whole numbers a fraction is rounded up, which selects the same interactions."""
    return float(moment) if times.dtype.kind == "f" else math.ceil(moment)
