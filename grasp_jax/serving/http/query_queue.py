"""The queue in which the queries of all requests to the model wait. One thread answers them, as many in a batch as are waiting.

While one batch is computed, new queries gather in the queue. So batches are large under load, and without load no query waits for others.
"""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from grasp_jax.serving.answers import Answer
from grasp_jax.serving.http.metrics import Metrics
from grasp_jax.serving.http.requests import Refused
from grasp_jax.serving.http.settings import Limits
from grasp_jax.serving.http.snapshot import Person, ServingSnapshot


class Query(NamedTuple):
    """An entry of the queue: a person, or the row of an item whose nearest items are requested; and the model that answers."""

    snapshot: ServingSnapshot
    subject: Person | int

    def group(self) -> Hashable:
        """Queries with equal groups are answered in one batch."""
        if isinstance(self.subject, Person):
            return self.snapshot.group(self.subject)
        return self.snapshot, "similar"

    def batch_size(self, waiting: int) -> int:
        """The size of the next batch, if so many queries of this group wait."""
        return self.snapshot.programs.shapes.batch_size(waiting)

    def answers(self, batch: Sequence["Query"]) -> list[Answer]:
        """The answers of a batch of this group."""
        if isinstance(self.subject, Person):
            return self.snapshot.answer(
                [own.subject for own in batch if isinstance(own.subject, Person)]
            )
        return self.snapshot.nearest([own.subject for own in batch if isinstance(own.subject, int)])


@dataclasses.dataclass(eq=False)
class _Request:
    """The queries of one request.

    Attributes:
      answers: one for each query, None while it is missing.
      missing: how many are.
      deadline: `time.monotonic` after which the request has given up.
      future: receives all answers together.
    """

    answers: list[Any]
    missing: int
    deadline: float
    future: "Future[list[Answer]]" = dataclasses.field(default_factory=Future)

    def is_pending(self) -> bool:
        """Whether somebody still waits for the answers; cancels the request if it is past its deadline."""
        if self.deadline < time.monotonic():
            self.future.cancel()
        return not self.future.done()

    def answer(self, position: int, answer: Answer) -> None:
        """Sets an answer, and the result after the last one."""
        self.answers[position] = answer
        self.missing -= 1
        if not self.missing and self._is_wanted():
            self.future.set_result(self.answers)

    def fail(self, error: BaseException) -> None:
        """Raises the error where the answers are waited for."""
        if self._is_wanted():
            self.future.set_exception(error)

    def _is_wanted(self) -> bool:
        return not self.future.done() and self.future.set_running_or_notify_cancel()


class _Entry(NamedTuple):
    """A query, its group, its request and its position there."""

    query: Query
    group: Hashable
    request: _Request
    position: int


class QueryQueue:
    """The queue.

    A batch has the oldest query and the next ones of its group. Queries of other groups wait for a separate batch, which later queries may
    join.

    Args:
      limits: its capacity, and the time within which a request is answered.
      metrics: counters of batches and refusals.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self._refused, self._sizes = limits, metrics.refused, metrics.batches
        self._entries: list[_Entry] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()
        metrics.waiting.set_function(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        """Number of queries in the queue."""
        return len(self._entries)

    def stop(self) -> None:
        """Answers the waiting queries, accepts no new ones, and ends the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def check_not_full(self) -> None:
        """Raises Refused with 503 if the queue is full. Called before the body is parsed, which takes most of the time of a refusal."""
        if self.waiting >= self.limits.queue:
            raise self._full()

    def _full(self) -> Refused:
        """The refusal of a request for which the queue has no room; counts it."""
        self._refused.labels("queue").inc()
        return Refused(503, f"{self.waiting} people wait already; try again in a moment")

    async def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Returns all answers, or raises `Refused` with 503."""
        future = self.submit(queries, self.limits.seconds)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.seconds)
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not future.cancelled():
                raise  # the service stops: uvicorn cancels no request whose caller has gone
            raise self.timed_out() from None

    def timed_out(self) -> Refused:
        """The refusal of a request that was not answered in time; counts it."""
        self._refused.labels("time").inc()
        return Refused(503, f"no answer within {self.limits.seconds:g} s; try again in a moment")

    def submit(self, queries: Sequence[Query], seconds: float) -> "Future[list[Answer]]":
        """Returns a future of all answers, in the order of the queries. Queries that are not answered within `seconds` are dropped.

        Raises:
          Refused: with 503, if the queue has no room for all of them, or was stopped.
        """
        request = _Request([None] * len(queries), len(queries), time.monotonic() + seconds)
        if not queries:
            request.future.set_result([])
            return request.future
        entries = [_Entry(query, query.group(), request, n) for n, query in enumerate(queries)]
        with self._changed:
            if self._stopped or len(self._entries) + len(queries) > self.limits.queue:
                raise self._full()
            self._entries.extend(entries)
            self._changed.notify()
        return request.future

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._entries and not self._stopped:
                    self._changed.wait()
                if not self._entries:
                    return
                self._entries = [entry for entry in self._entries if entry.request.is_pending()]
                try:
                    batch = self._next_batch() if self._entries else []
                # this is the only thread that answers, and must not end
                except BaseException as error:
                    _fail(self._entries, error)
                    batch, self._entries = [], []
            if batch:
                self._answer_batch(batch)

    def _next_batch(self) -> list[_Entry]:
        """Removes the next batch from the queue, which is not empty."""
        oldest = self._entries[0]
        same_group = [entry for entry in self._entries if entry.group == oldest.group]
        batch = same_group[: oldest.query.batch_size(len(same_group))]
        in_batch = set(map(id, batch))
        self._entries = [entry for entry in self._entries if id(entry) not in in_batch]
        return batch

    def _answer_batch(self, batch: list[_Entry]) -> None:
        try:
            self._sizes.observe(len(batch))
            answers = batch[0].query.answers([entry.query for entry in batch])
            answered = list(zip(batch, answers, strict=True))
        # whatever the error is, other requests must still be answered
        except BaseException as error:
            _fail(batch, error)
            return
        for entry, answer in answered:
            entry.request.answer(entry.position, answer)


def _fail(entries: Sequence[_Entry], error: BaseException) -> None:
    """Raises the error in every request that waits for one of these answers."""
    for entry in entries:
        entry.request.fail(error)
