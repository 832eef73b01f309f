"""A bounded queue of questions, and the one thread that answers them, as many at once as are waiting."""

import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Question = TypeVar("Question")
Found = TypeVar("Found")


class Overloaded(Exception):
    """The queue has no room."""


@dataclasses.dataclass(eq=False)
class _Ticket(Generic[Found]):
    """The questions of one request.

    Attributes:
      future: receives all answers together.
      answers: the answers so far.
      missing: the number of answers that are still missing.
      deadline: `time.monotonic` after which the request has given up.
    """

    future: "Future[list[Found]]"
    answers: list[Any]
    missing: int
    deadline: float


@dataclasses.dataclass(eq=False)
class _Entry(Generic[Question, Found]):
    """A question, its position in its request, and its group."""

    ticket: _Ticket[Found]
    place: int
    question: Question
    group: Hashable


class Batcher(Generic[Question, Found]):
    """Answers questions in batches.

    While one batch is computed, new questions gather in the queue. So batches are large under load, and without load no question waits for
    others. A batch has the oldest question and the next ones of its group. Questions of other groups wait for a separate batch, which later
    questions may join.

    Args:
      group: function of a question; questions with equal groups are answered together.
      answer: function that answers questions of one group, as many as `together` returned.
      together: function of the oldest question and the number of waiting questions of its group that returns the size of the next batch.
      room: number of questions that may wait.
      seen: called with the size of each batch, for metrics.
    """

    def __init__(
        self,
        group: Callable[[Question], Hashable],
        answer: Callable[[Sequence[Question]], list[Found]],
        together: Callable[[Question, int], int],
        room: int,
        seen: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._group, self._answer, self._together = group, answer, together
        self._room, self._seen = room, seen
        self._queue: list[_Entry[Question, Found]] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return len(self._queue)

    def submit(self, questions: Sequence[Question], seconds: float) -> "Future[list[Found]]":
        """Returns a future of all answers, in the order of the questions. Questions that are not answered within `seconds` are dropped.

        Raises:
          Overloaded: there is no room for all of them, or the batcher was stopped.
        """
        ticket: _Ticket[Found] = _Ticket(
            Future(), [None] * len(questions), len(questions), time.monotonic() + seconds
        )
        if not questions:
            ticket.future.set_result([])
            return ticket.future
        entries = [
            _Entry(ticket, n, question, self._group(question))
            for n, question in enumerate(questions)
        ]
        with self._changed:
            if self._stopped or len(self._queue) + len(questions) > self._room:
                raise Overloaded
            self._queue.extend(entries)
            self._changed.notify()
        return ticket.future

    def stop(self) -> None:
        """Answers the waiting questions, accepts no new ones, and ends the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._stopped:
                    self._changed.wait()
                if not self._queue:
                    return
                self._queue = [entry for entry in self._queue if _is_wanted(entry)]
                try:
                    taken = self._take() if self._queue else []
                # this is the only thread that answers, and must not end
                except BaseException as error:
                    _fail(self._queue, error)
                    taken, self._queue = [], []
            if taken:
                self._answer_batch(taken)

    def _take(self) -> list[_Entry[Question, Found]]:
        """Removes the next batch from the queue, which holds something."""
        oldest = self._queue[0]
        alike = [entry for entry in self._queue if entry.group == oldest.group]
        taken = alike[: self._together(oldest.question, len(alike))]
        places = set(map(id, taken))
        self._queue = [entry for entry in self._queue if id(entry) not in places]
        return taken

    def _answer_batch(self, entries: list[_Entry[Question, Found]]) -> None:
        try:
            self._seen(len(entries))
            answers = self._answer([entry.question for entry in entries])
            answered = list(zip(entries, answers, strict=True))
        # whatever the error is, other requests must still be answered
        except BaseException as error:
            _fail(entries, error)
            return
        for entry, answer in answered:
            ticket = entry.ticket
            ticket.answers[entry.place] = answer
            ticket.missing -= 1
            if not ticket.missing:
                _settle(ticket, None)


def _is_wanted(entry: _Entry[Any, Any]) -> bool:
    """Whether somebody still waits for the answer; gives up a request that is past its deadline."""
    if entry.ticket.deadline < time.monotonic():
        entry.ticket.future.cancel()
    return not entry.ticket.future.done()


def _fail(entries: Sequence[_Entry[Question, Found]], error: BaseException) -> None:
    """Gives the error to everybody who waits for these answers."""
    for entry in entries:
        _settle(entry.ticket, error)


def _settle(ticket: _Ticket[Found], error: BaseException | None) -> None:
    """Sets the result of a future, unless it was cancelled."""
    if ticket.future.done() or not ticket.future.set_running_or_notify_cancel():
        return
    if error is None:
        ticket.future.set_result(ticket.answers)
    else:
        ticket.future.set_exception(error)
