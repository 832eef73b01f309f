"""Scales of axes: from values to pixels, and the positions and labels of ticks."""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Scale:
    """One axis of a panel.

    Attributes:
      low, high: the values at both ends; above 0 where `log`.
      begin, end: their places, in pixels.
      log: whether equal factors are equal distances.
      ticks: (value, label) in ascending order.
    """

    low: float
    high: float
    begin: float
    end: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Pixels of a value."""
        low, high, own = (
            (math.log(self.low), math.log(self.high), math.log(max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        share = (own - low) / (high - low) if high > low else 0.5
        return self.begin + share * (self.end - self.begin)


def scale_of(values: Sequence[float], begin: float, end: float, log: bool, count: int) -> Scale:
    """A scale that holds all values with a margin, and about `count` round ticks.

    Args:
      values: finite; above 0 where `log`; none: from 0 to 1.
      begin, end: places of the ends, in pixels.
      log: whether equal factors are equal distances.
      count: of ticks that there is room for.
    """
    low, high = (min(values), max(values)) if len(values) else (0.0, 1.0)
    if log:
        low, high = low / 1.15, high * 1.15
        return Scale(low, high, begin, end, True, log_ticks(low, high, count))
    margin = 0.05 * (high - low) or abs(high) * 0.05 or 0.5
    low, high = low - margin, high + margin
    return Scale(low, high, begin, end, False, round_ticks(low, high, count))


def round_ticks(low: float, high: float, count: int) -> tuple[tuple[float, str], ...]:
    """At most about `count` multiples of 1, 2 or 5 times a power of ten between two values."""
    step = round_step((high - low) / max(count, 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return tuple((k * step, written(k * step, digits)) for k in range(first, last + 1))


def round_step(least: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below `least`, which is above 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def log_ticks(low: float, high: float, count: int) -> tuple[tuple[float, str], ...]:
    """Round values between two values above 0: powers of ten, with 2 and 5 times them where there is room."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [f * 10.0**e for e in exponents for f in factors if low <= f * 10.0**e <= high]
        if len(found) <= count:
            break
    else:
        found = found[:: -(-len(found) // count)]
    return tuple((value, written(value, max(0, -math.floor(math.log10(value))))) for value in found)


def written(value: float, digits: int) -> str:
    """A tick's label: thousands apart, and never a minus before zero."""
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text
