"""Progress of long work: a bar on a terminal, and elsewhere a line now and then."""

import contextlib
import logging
import time
from typing import Any

from grasp_jax.log import logger

EVERY = 20.0  # seconds between two lines


class NoBar(contextlib.nullcontext[Any]):
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
    """A context with `update(amount)`: tqdm's bar of `total` units, on the standard error.

    There is no bar where that is no terminal, where INFO is not shown (`grasp_jax.log`), or where
    tqdm is not installed.
    """
    if not logger.isEnabledFor(logging.INFO):
        return NoBar()
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # a bare GPU machine
        return NoBar()
    return tqdm(total=total, initial=initial, desc=description, unit=unit, disable=None)


class EpochProgress:
    """Progress of a training: a bar on a terminal; elsewhere the first epoch, the last and one
    every 20 s. Why it ended is said on both.

    Args:
      name: of what is trained, with which each line begins.
      max_epochs: epochs at most.
      done: epochs that an earlier process has done.
    """

    def __init__(self, name: str, max_epochs: int, done: int) -> None:
        self._name = name
        self._bar = progress_bar(max_epochs, name, "epoch", done)
        self._last_line = float("-inf")
        self._unsaid = ""  # the newest epoch, if it was not shown

    def epoch_done(self, epoch: int, text: str) -> None:
        """Shows the state `text` after an epoch, counted from 1."""
        self._bar.set_postfix_str(text)
        self._bar.update()
        self._unsaid = f"{self._name}: epoch {epoch}: {text}" if self._bar.disable else ""
        if time.perf_counter() - self._last_line > EVERY:
            self._say()

    def end(self, why: str) -> None:
        """Shows the last epoch, and why it was the last."""
        self.close()
        self._say()
        logger.info(f"{self._name}: {why}")

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def _say(self) -> None:
        if self._unsaid:
            logger.info(self._unsaid)
            self._unsaid, self._last_line = "", time.perf_counter()
