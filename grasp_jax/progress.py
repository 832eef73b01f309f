"""Progress bars of long work; none where the output is no terminal, or where tqdm is not installed."""

import contextlib
from typing import Any


class NoBar(contextlib.nullcontext):
    """What is called of a bar, without one."""

    disable = True

    def update(self, amount: float = 1) -> None:
        """Shows nothing."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Shows nothing."""

    def __enter__(self) -> "NoBar":
        return self


def progress_bar(total: int, description: str, unit: str, initial: int = 0) -> Any:
    """A context with `update(amount)`: tqdm's bar of `total` units, on the standard error if that is a terminal."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # a bare GPU machine
        return NoBar()
    return tqdm(total=total, initial=initial, desc=description, unit=unit, disable=None)
