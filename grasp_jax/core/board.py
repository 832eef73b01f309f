"""One live table of all trainings of a run, if the standard output is a terminal; otherwise lines are printed.

The table is drawn when something in it changes, not many times a second, so it does not slow down the training.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Any

COLUMNS = ("trial", "epoch", "loss", "validation", "best", "tokens/s", "time left", "state")
LONG_EPOCH = 60.0  # seconds
WAITING, TRAINING = "waiting", "training"


@dataclasses.dataclass(frozen=True)
class EpochState:
    """A training after an epoch.

    Attributes:
      loss: mean over the epoch and the models that were trained in it.
      validation: the best model's NDCG@10 of this epoch, between 0 and 1; None without validation.
      best: of all epochs; None without validation.
      rate: interactions read in a second; None if it is not known.
      training: models that were trained.
    """

    loss: float
    validation: float | None
    best: float | None
    rate: float | None
    training: int

    def __str__(self) -> str:
        """As a line of a log has it."""
        best = "" if self.best is None else f", best validation NDCG@10 {100 * self.best:.2f} %"
        noun = "model" if self.training == 1 else "models"
        rate = "" if self.rate is None else f", {self.rate:,.0f} tokens/s"
        return f"loss {self.loss:.4f}{rate}{best}, {self.training} {noun} in training"


class Board:
    """The table: a row for each trial; `update` and `say` change one and draw all.

    Args:
      names: of the trials, in their order.
      console: rich's, or one for a test.
    """

    def __init__(self, names: Sequence[str], console: Any) -> None:
        from rich.live import Live

        blank = ("",) * (len(COLUMNS) - 2)
        self._rows = {name: (name, *blank, WAITING) for name in names}
        self._live = Live(self._table(), console=console, auto_refresh=False)
        self._live.start()
        console.show_cursor(True)  # a signal may end the process, and nobody would show it again

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def update(self, name: str, epoch: str, state: EpochState, seconds_left: float | None) -> None:
        """After an epoch of a trial; `epoch` in words, such as "3 of 40"; `seconds_left` is None if nobody knows."""
        self._rows[name] = (
            name,
            epoch,
            f"{state.loss:.4f}",
            _percent(state.validation),
            _percent(state.best),
            "" if state.rate is None else f"{state.rate:,.0f}",
            "" if seconds_left is None else f"at most {clock(seconds_left)}",
            TRAINING,
        )
        self._draw()

    def say(self, name: str, state: str) -> None:
        """What a trial is doing now; once it trains no more no time is left."""
        row = self._rows[name]
        left = row[-2] if state == TRAINING else ""
        self._rows[name] = (*row[:-2], left, state)
        self._draw()

    def close(self) -> None:
        """Leaves the table as it is."""
        self._live.stop()

    def _draw(self) -> None:
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in COLUMNS:
            table.add_column(
                name, justify="left" if name in ("trial", "state") else "right", overflow="fold"
            )
        for row in self._rows.values():
            table.add_row(*row)
        return table


_boards: list[Board] = []


def current(name: str) -> Board | None:
    """The table on the screen, if there is one with a row for this trial."""
    return _boards[-1] if _boards and name in _boards[-1] else None


def show_state(name: str, state: str) -> None:
    """Says what a trial is doing, if there is a table."""
    if (shown := current(name)) is not None:
        shown.say(name, state)


@contextlib.contextmanager
def board(names: Sequence[str]) -> Iterator[None]:
    """While trials are trained: shows the table, if the standard output is a terminal and rich is installed."""
    shown = _open(names)
    if shown is None:
        yield
        return
    _boards.append(shown)
    try:
        yield
    finally:
        _boards.remove(shown)
        shown.close()


def _open(names: Sequence[str]) -> Board | None:
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ModuleNotFoundError:  # a bare GPU machine
        return None
    console = Console(file=sys.stdout)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    return Board(names, console)


class TimeLeft:
    """How long the epochs to come will take, by those that this process has trained; compilation is not counted.

    The first of them does not count, because programs are traced and loaded in it. It alone gives an estimate only if it was long, so that
    this work hardly matters, and whole.

    Args:
      partial: whether the first epoch says nothing of the others: an earlier process has done some of its steps, or in it processes have
        waited for the compilation of one another.
    """

    def __init__(self, partial: bool = False) -> None:
        self._partial, self._epochs, self._seconds = partial, 0, 0.0

    def left(self, epoch: int, max_epochs: int, seconds: float) -> float | None:
        """Seconds that are left if training continues to `max_epochs`; None if that is not known yet. Called after each epoch.

        Args:
          epoch: number of epochs that are done.
          max_epochs: number of epochs at most.
          seconds: duration of the newest epoch without compilation.
        """
        more = max(max_epochs - epoch, 0)
        self._epochs += 1
        if not more:
            return 0.0
        if self._epochs == 1:
            return seconds * more if seconds >= LONG_EPOCH and not self._partial else None
        self._seconds += seconds
        return self._seconds / (self._epochs - 1) * more


def clock(seconds: float) -> str:
    """'0:42', '12:05' or '3:10:00'."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"
