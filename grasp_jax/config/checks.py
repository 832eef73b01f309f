"""Checks of single fields of a config: each refuses a value in one line that names the field.

The upper ends of numbers are far beyond what anybody trains, yet within what 32-bit counters and
this program's arithmetic take; whether a run fits the machine is for `grasp_jax.planning.sizes` to say, once
the data are known.
"""

import dataclasses
import datetime
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from grasp_jax.config.address import check_address, check_variable
from grasp_jax.core.errors import UserError

LONGEST_TEXT = 4096  # characters of a value: paths end there on Linux
DIFFERENT_RATES = "one or more different rates from 0 to below 1"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def not_different_rates(where: str, rates: object) -> UserError:
    """The error of a field of dropouts that names one twice."""
    return UserError(f"{where}: {shown(rates)}; expected {DIFFERENT_RATES}")


def shown(value: object) -> str:
    """A value for a message, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"


class Check:
    """A check of a value."""

    takes_several: ClassVar[bool] = False  # whether the value is a tuple of numbers

    def __call__(self, where: str, value: Any, default: object) -> None:
        """Refuses a value.

        Args:
          where: the field's full name: "config.model.features".
          value: what was given, of any type but None.
          default: the field's default, for the message.

        Raises:
          UserError: the value is of another type or out of bounds.
        """
        raise NotImplementedError


class Switch(Check):
    """True or False."""

    def __call__(self, where: str, value: Any, default: object) -> None:
        if not isinstance(value, bool):
            raise UserError(f"{where}: {shown(value)}; expected True or False")


@dataclasses.dataclass(frozen=True)
class Number(Check):
    """low <= value <= high; `what` says it where the numbers do not: "a cosine, at most 1"."""

    low: float
    high: float
    what: str = ""

    def within(self, where: str, value: float) -> None:
        """Raises UserError where a number is out of bounds, or not a number."""
        if not self.low <= value <= self.high:
            raise UserError(f"{where}: {shown(value)}; expected {self._expected(value)}")

    def _expected(self, value: float) -> str:
        if self.what:
            return self.what
        if value > self.high:
            return f"at most {self.high:,.15g}"
        if value > 0 and self.low > 0:
            return f"at least {self.low:,.15g}"
        return "a positive number" if self.low > 0 else "a number from 0"


@dataclasses.dataclass(frozen=True)
class Whole(Number):
    """A whole number within bounds."""

    def __call__(self, where: str, value: Any, default: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"{where}: {shown(value)}; expected a whole number")
        self.within(where, value)


@dataclasses.dataclass(frozen=True)
class Real(Number):
    """A number within bounds."""

    def __call__(self, where: str, value: Any, default: object) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"{where}: {shown(value)}; expected a number")
        self.within(where, value)


@dataclasses.dataclass(frozen=True)
class Text(Check):
    """Text without control characters.

    Attributes:
      needed: whether it may not be empty.
      lines: whether it may hold line feeds.
    """

    needed: bool = False
    lines: bool = False

    def __call__(self, where: str, value: Any, default: object) -> None:
        if not isinstance(value, str):
            raise UserError(f"{where}: {shown(value)}; expected text")
        if len(value) > LONGEST_TEXT:
            raise UserError(
                f"{where}: {shown(value)}; expected at most {LONGEST_TEXT:,} characters"
            )
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            remedy = "expected UTF-8: set LC_ALL=C.UTF-8, or give it in a config file"
            raise UserError(
                f"{where}: {shown(value)} holds bytes that are not text in this terminal's "
                f"encoding; {remedy}"
            ) from None
        found = _CONTROL.search(value)
        if found and (not self.lines or found[0] == "\0"):
            raise UserError(
                f"{where}: {shown(value)} holds the control character {found[0]!r}; expected text "
                "without it"
            )
        if self.needed and not value.strip():
            raise UserError(
                f"{where}: {value!r}; expected a name, such as the default's, {default!r}"
            )


class Folder(Text):
    """A folder: two spellings of its path are one and the same value."""


class Choice(Check):
    """One of several names; `otherwise` is advice for the message if none of them fits."""

    def __init__(self, *names: str, otherwise: str = "") -> None:
        self.names = names
        self.hint = f"; {otherwise}" if otherwise else ""

    def __call__(self, where: str, value: Any, default: object) -> None:
        TEXT(where, value, default)
        if value not in self.names:
            expected = ", ".join(self.names)
            raise UserError(f"{where}: {shown(value)}; expected one of {expected}{self.hint}")


class Joined(Check):
    """A word, or several names joined by +.

    Attributes:
      words: what may stand alone.
      names: what may be joined; each at most once.
    """

    def __init__(self, words: Sequence[str], names: Sequence[str]) -> None:
        self.words, self.names = words, names

    def __call__(self, where: str, value: Any, default: object) -> None:
        TEXT(where, value, default)
        parts = value.split("+")
        joined = set(parts) <= set(self.names) and len(set(parts)) == len(parts)
        if value not in self.words and not joined:
            raise UserError(
                f"{where}: {shown(value)}; expected {' or '.join(self.words)}, or some of {', '.join(self.names)}, joined by +"
            )


class Texts(Check):
    """A tuple of texts, such as names of columns."""

    def __call__(self, where: str, value: Any, default: object) -> None:
        if not isinstance(value, tuple):
            raise UserError(f"{where}: {shown(value)}; expected a tuple, such as {default!r}")
        for part in value:
            TEXT(where, part, default)


@dataclasses.dataclass(frozen=True)
class Numbers(Check):
    """A tuple of numbers.

    Attributes:
      kind: int or float; a whole number passes for a float.
      example: one that may be given, as the command line has it.
      expected: what `holds` wants, for messages.
      holds: whether the numbers are in order.
    """

    kind: type[int] | type[float]
    example: str
    expected: str
    holds: Callable[[Sequence[float]], bool]

    takes_several: ClassVar[bool] = True

    def __call__(self, where: str, value: Any, default: object) -> None:
        if not isinstance(value, tuple):
            raise UserError(f"{where}: {shown(value)}; expected a tuple, such as {self.example}")
        kinds = int if self.kind is int else (int, float)
        if any(isinstance(part, bool) or not isinstance(part, kinds) for part in value):
            raise UserError(
                f"{where}: {shown(value)}; expected a tuple of {self.kind.__name__}s, such as "
                f"{self.example}"
            )
        if not self.holds(value):
            raise UserError(f"{where}: {shown(value)}; expected {self.expected}")


class AddressCheck(Check):
    """The address of an endpoint, or nothing; what may be a key is not shown."""

    def __call__(self, where: str, value: Any, default: object) -> None:
        if value:
            check_address(value, where)
        TEXT(where, value, default)


class Variable(Check):
    """The name of an environment variable with a key; what may be the key itself is not shown."""

    def __call__(self, where: str, value: Any, default: object) -> None:
        check_variable(value, where)
        NAME(where, value, default)


class Moment(Check):
    """A point in time, as a date or as seconds since 1970, or nothing."""

    def __call__(self, where: str, value: Any, default: object) -> None:
        TEXT(where, value, default)
        if value and not _is_moment(value):
            raise UserError(
                f"{where}: {shown(value)}; expected a date such as 2018-05-31, seconds since "
                "1970, or nothing"
            )


def _is_moment(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        pass
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


TINY = 1e-30  # above 0, as a float32 has it
INT32 = 2**31 - 1
LARGEST_SEED = 2**32 - 1  # jax.random.key and NumPy agree up to there
BELOW_1 = math.nextafter(1, 0)

SWITCH, TEXT, NAME, FOLDER, TEXTS = Switch(), Text(), Text(needed=True), Folder(), Texts()
ADDRESS, VARIABLE, MOMENT = AddressCheck(), Variable(), Moment()
COUNT, COUNT_OR_NONE, SEED = Whole(1, INT32), Whole(0, INT32), Whole(0, LARGEST_SEED)
SIZE, SIZE_OR_NONE, LAYERS = Whole(1, 65_536), Whole(0, 65_536), Whole(1, 256)
REQUESTS, RETRIES = Whole(1, 10_000), Whole(0, 1000)
WEIGHT, PRICE, HARDWARE = Real(0, 1e6), Real(0, 1e6), Real(0, 1e9)
LENGTH, SECONDS = Real(TINY, 1e6), Real(1e-3, 1e7)
SHARE = Real(0, 1, "a share from 0 to 1")
BELOW_ONE = Real(0, BELOW_1, "a share from 0 to below 1")
