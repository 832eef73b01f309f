"""Progress of long work: the live table of a run's trials on a terminal, or a bar; of training a line now and then elsewhere."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from grasp_jax.core.board import TRAINING, Board, EpochState, TimeLeft, clock, current
from grasp_jax.core.log import logger

EVERY = 20.0  # seconds between two lines
SLOW = 10.0  # seconds of compilation after which a line says so
P = ParamSpec("P")
T = TypeVar("T")


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


class BoardBar(NoBar):
    """A bar in the state of a trial on the live table, in steps of at least a hundredth."""

    def __init__(self, board: Board, name: str, total: int, description: str) -> None:
        super().__init__()
        self._board, self._name, self._total = board, name, max(total, 1)
        self._description, self._done, self._shown = description, 0.0, -1

    def update(self, amount: float = 1) -> None:
        """Adds units."""
        self._done += amount
        percent = int(100 * self._done / self._total)
        if percent > self._shown:
            self._shown = percent
            self._board.say(self._name, f"{self._description} {percent} %")


def progress_bar(total: int, description: str, unit: str, initial: int = 0, trial: str = "") -> Any:
    """A context with `update(amount)`: tqdm's bar of `total` units, on the standard error.

    There is no bar where that is no terminal, where INFO is not shown (`grasp_jax.core.log`), or where
    tqdm is not installed. Of a `trial` on the live table it is in that table.
    """
    if not logger.isEnabledFor(logging.INFO):
        return NoBar()
    if (board := current(trial)) is not None:
        return BoardBar(board, trial, total, description)
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # a bare GPU machine
        return NoBar()
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",  # 30.4M of bytes, and not 30408704
        disable=None,
    )


class EpochProgress:
    """Progress of a training: its row of the live table, or a bar, on a terminal; elsewhere the
    first epoch, the last and one every 20 s. Why it ended is said on all of them.

    Args:
      name: of what is trained, with which each line begins.
      max_epochs: epochs at most.
      done: epochs that an earlier process has done.
      partial: whether the first epoch of this process says nothing of the others, as for `TimeLeft`.
    """

    def __init__(self, name: str, max_epochs: int, done: int, partial: bool = False) -> None:
        self._name, self._max_epochs, self._time_left = name, max_epochs, TimeLeft(partial)
        self._board = current(name)
        self._bar = NoBar() if self._board else progress_bar(max_epochs, name, "epoch", done)
        if self._board is not None:
            self._board.say(name, TRAINING)
        self._last_line = float("-inf")
        self._compiles = False  # whether this was said
        self._not_shown = ""  # the newest epoch, if it was not shown

    def first_call(self, steps: Callable[P, T]) -> Callable[P, T]:
        """The function that sends training steps to the devices; if its first call is slow, because it compiles, a line says so."""
        called = False

        def sent(*args: P.args, **kwargs: P.kwargs) -> T:
            nonlocal called
            if called:
                return steps(*args, **kwargs)
            called = True
            timer = threading.Timer(SLOW, self._compiling)
            timer.daemon = True
            timer.start()
            try:
                return steps(*args, **kwargs)
            finally:
                timer.cancel()
                timer.join()  # so that "compiling" is not said after this
                if self._compiles and self._board is not None:
                    self._board.say(self._name, TRAINING)

        return sent

    def _compiling(self) -> None:
        self._compiles = True
        if self._board is not None:
            self._board.say(self._name, "compiling")
        else:
            logger.info(f"{self._name}: compiling the training step, which can take minutes")

    def epoch_done(self, epoch: int, state: EpochState, seconds: float) -> None:
        """Shows the state after an epoch, counted from 1, which took so many seconds without compilation."""
        left = self._time_left.left(epoch, self._max_epochs, seconds)
        if self._board is not None:
            self._board.update(self._name, f"{epoch} of {self._max_epochs}", state, left)
            return
        self._bar.set_postfix_str(str(state))
        self._bar.update()
        if self._bar.disable:
            count = f"epoch {epoch} of at most {self._max_epochs}"
            remaining = f", at most {clock(left)} left" if left else ""
            self._not_shown = f"{self._name}: {count}: {state}{remaining}"
        if time.perf_counter() - self._last_line > EVERY:
            self._say()

    def end(self, why: str) -> None:
        """Shows the last epoch, and why it was the last."""
        self.close()
        self._say()
        if self._board is not None:
            self._board.say(self._name, "trained")
        logger.info(f"{self._name}: {why}")

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def _say(self) -> None:
        if self._not_shown:
            logger.info(self._not_shown)
            self._not_shown, self._last_line = "", time.perf_counter()
