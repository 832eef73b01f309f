"""The queue in which the queries of all requests to the model wait. They are answered in batches, or refused with status 503."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from grasp_jax.serving.answers import Answer
from grasp_jax.serving.http.batching import Batcher, Overloaded
from grasp_jax.serving.http.metrics import Metrics
from grasp_jax.serving.http.requests import Refused
from grasp_jax.serving.http.settings import Limits
from grasp_jax.serving.http.snapshot import Person, ServingSnapshot


class Query(NamedTuple):
    """An entry of the queue: a person, or the row of an item whose nearest items are requested; and the model that answers."""

    snapshot: ServingSnapshot
    subject: Person | int


class QueryQueue:
    """The queue.

    Args:
      limits: its capacity, and the time within which a request is answered.
      metrics: counters of batches and refusals.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self._refused = limits, metrics.refused
        self._batcher: Batcher[Query, Answer] = Batcher(
            _group, _answer, _batch_size, limits.queue, metrics.batches.observe
        )
        metrics.waiting.set_function(lambda: self._batcher.waiting)

    def stop(self) -> None:
        """Answers the waiting queries, and accepts no new ones."""
        self._batcher.stop()

    def check_not_full(self) -> None:
        """Raises Refused with 503 if the queue is full. Called before the body is parsed, which takes most of the time of a refusal."""
        if self._batcher.waiting >= self.limits.queue:
            raise self._full()

    def _full(self) -> Refused:
        """The refusal of a request for which the queue has no room; counts it."""
        self._refused.labels("queue").inc()
        return Refused(503, f"{self._batcher.waiting} people wait already; try again in a moment")

    async def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Returns all answers, or raises `Refused` with 503."""
        seconds = self.limits.seconds
        try:
            future: Future[list[Answer]] = self._batcher.submit(queries, seconds)
        except Overloaded:
            raise self._full() from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not future.cancelled():
                raise  # the service stops: uvicorn cancels no request whose caller has gone
            raise self.timed_out() from None

    def timed_out(self) -> Refused:
        """The refusal of a request that was not answered in time; counts it."""
        self._refused.labels("time").inc()
        return Refused(503, f"no answer within {self.limits.seconds:g} s; try again in a moment")


def _group(query: Query) -> Any:
    if isinstance(query.subject, Person):
        return query.snapshot.group(query.subject)
    return query.snapshot, "similar"


def _batch_size(oldest: Query, waiting: int) -> int:
    return oldest.snapshot.programs.shapes.batch_size(waiting)


def _answer(queries: Sequence[Query]) -> list[Answer]:
    snapshot = queries[0].snapshot
    if isinstance(queries[0].subject, Person):
        return snapshot.answer([own.subject for own in queries if isinstance(own.subject, Person)])
    return snapshot.nearest([own.subject for own in queries if isinstance(own.subject, int)])
