"""Sizes of arrays that are padded, so that programs are compiled for few shapes."""


def next_power_of_two(count: int) -> int:
    """The smallest power of two that is at least `count`, and at least 1."""
    return 1 << max(count - 1, 0).bit_length()
