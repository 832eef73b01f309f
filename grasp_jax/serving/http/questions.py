"""The questions of all requests to the model: they wait in one queue, and are answered in batches or refused with 503."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from grasp_jax.serving.answers import Answer
from grasp_jax.serving.http.batching import Batcher, Overloaded
from grasp_jax.serving.http.metrics import Metrics
from grasp_jax.serving.http.requests import Refused
from grasp_jax.serving.http.settings import Limits
from grasp_jax.serving.http.snapshot import Person, Snapshot


class Question(NamedTuple):
    """An entry of the queue: a person, or the row of an item whose neighbours are requested; and the model that answers."""

    snapshot: Snapshot
    about: Person | int


class Questions:
    """The queue.

    Args:
      limits: its size, and the time within which a request is answered.
      metrics: counters of batches and refusals.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self._refused = limits, metrics.refused
        self._batcher: Batcher[Question, Answer] = Batcher(
            _group, _answer, _together, limits.queue, metrics.batches.observe
        )
        metrics.waiting.set_function(lambda: self._batcher.waiting)

    def stop(self) -> None:
        """Answers the waiting questions, and accepts no new ones."""
        self._batcher.stop()

    def check_room(self) -> None:
        """Raises Refused with 503 if the queue is full, which needs no body: to read and check one takes most of the time of a refusal."""
        if self._batcher.waiting >= self.limits.queue:
            raise self._full()

    def _full(self) -> Refused:
        """The refusal of a request for which the queue has no room; counts it."""
        self._refused.labels("queue").inc()
        return Refused(503, f"{self._batcher.waiting} people wait already; ask again in a moment")

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Returns all answers, or raises `Refused` with 503."""
        seconds = self.limits.seconds
        try:
            future: Future[list[Answer]] = self._batcher.submit(questions, seconds)
        except Overloaded:
            raise self._full() from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not future.cancelled():
                raise  # the service stops: uvicorn cancels no request whose caller has gone
            raise self.too_late() from None

    def too_late(self) -> Refused:
        """The refusal of a request that was not answered in time; counts it."""
        self._refused.labels("time").inc()
        return Refused(503, f"no answer within {self.limits.seconds:g} s; ask again in a moment")


def _group(question: Question) -> Any:
    if isinstance(question.about, Person):
        return question.snapshot.group(question.about)
    return question.snapshot, "similar"


def _together(question: Question, waiting: int) -> int:
    return question.snapshot.programs.shapes.batch(waiting)


def _answer(questions: Sequence[Question]) -> list[Answer]:
    snapshot = questions[0].snapshot
    if isinstance(questions[0].about, Person):
        return snapshot.answer([own.about for own in questions if isinstance(own.about, Person)])
    return snapshot.nearest([own.about for own in questions if isinstance(own.about, int)])
