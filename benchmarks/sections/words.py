"""Figures and lists in sentences."""

from collections.abc import Iterable, Sequence

AS_FAST = 1.1  # programs are called equally fast if one takes at most so many times as long
OURS, PACKED = "grasp_jax", "packed"  # how the names of a step's rows begin


def percent(share: float) -> str:
    """ "26 %" of 0.26."""
    return f"{100 * share:.0f} %"


def between(values: Sequence[float], form: str) -> str:
    """ "2.1 to 3.4", or "2.1" if both ends read alike."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def joined(parts: Iterable[str]) -> str:
    """ "a and b and c"."""
    return " and ".join(parts)
