"""A bounded queue of queries, and the one thread that answers them, as many in a batch as are waiting."""

import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Query = TypeVar("Query")
Answer = TypeVar("Answer")


class Overloaded(Exception):
    """The queue is full."""


@dataclasses.dataclass(eq=False)
class _PendingRequest(Generic[Answer]):
    """The queries of one request.

    Attributes:
      future: receives all answers together.
      answers: the answers so far.
      missing: the number of answers that are still missing.
      deadline: `time.monotonic` after which the request has given up.
    """

    future: "Future[list[Answer]]"
    answers: list[Any]
    missing: int
    deadline: float


@dataclasses.dataclass(eq=False)
class _QueuedQuery(Generic[Query, Answer]):
    """A query, its position in its request, and its group."""

    request: _PendingRequest[Answer]
    position: int
    query: Query
    group: Hashable


class Batcher(Generic[Query, Answer]):
    """Answers queries in batches (dynamic batching).

    While one batch is computed, new queries gather in the queue. So batches are large under load, and without load no query waits for
    others. A batch has the oldest query and the next ones of its group. Queries of other groups wait for a separate batch, which later
    queries may join.

    Args:
      group: function of a query; queries with equal groups are answered in one batch.
      answer: function that answers queries of one group, as many as `batch_size` returned.
      batch_size: function of the oldest query and the number of waiting queries of its group that returns the size of the next batch.
      capacity: number of queries that may wait.
      on_batch: called with the size of each batch, for metrics.
    """

    def __init__(
        self,
        group: Callable[[Query], Hashable],
        answer: Callable[[Sequence[Query]], list[Answer]],
        batch_size: Callable[[Query, int], int],
        capacity: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._group, self._answer, self._batch_size = group, answer, batch_size
        self._capacity, self._on_batch = capacity, on_batch
        self._queue: list[_QueuedQuery[Query, Answer]] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of queries in the queue."""
        return len(self._queue)

    def submit(self, queries: Sequence[Query], seconds: float) -> "Future[list[Answer]]":
        """Returns a future of all answers, in the order of the queries. Queries that are not answered within `seconds` are dropped.

        Raises:
          Overloaded: the queue has no room for all of them, or the batcher was stopped.
        """
        request: _PendingRequest[Answer] = _PendingRequest(
            Future(), [None] * len(queries), len(queries), time.monotonic() + seconds
        )
        if not queries:
            request.future.set_result([])
            return request.future
        entries = [
            _QueuedQuery(request, n, query, self._group(query)) for n, query in enumerate(queries)
        ]
        with self._changed:
            if self._stopped or len(self._queue) + len(queries) > self._capacity:
                raise Overloaded
            self._queue.extend(entries)
            self._changed.notify()
        return request.future

    def stop(self) -> None:
        """Answers the waiting queries, accepts no new ones, and ends the thread."""
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
                self._queue = [entry for entry in self._queue if _is_pending(entry)]
                try:
                    batch = self._next_batch() if self._queue else []
                # this is the only thread that answers, and must not end
                except BaseException as error:
                    _fail(self._queue, error)
                    batch, self._queue = [], []
            if batch:
                self._answer_batch(batch)

    def _next_batch(self) -> list[_QueuedQuery[Query, Answer]]:
        """Removes the next batch from the queue, which is not empty."""
        oldest = self._queue[0]
        same_group = [entry for entry in self._queue if entry.group == oldest.group]
        batch = same_group[: self._batch_size(oldest.query, len(same_group))]
        in_batch = set(map(id, batch))
        self._queue = [entry for entry in self._queue if id(entry) not in in_batch]
        return batch

    def _answer_batch(self, batch: list[_QueuedQuery[Query, Answer]]) -> None:
        try:
            self._on_batch(len(batch))
            answers = self._answer([entry.query for entry in batch])
            answered = list(zip(batch, answers, strict=True))
        # whatever the error is, other requests must still be answered
        except BaseException as error:
            _fail(batch, error)
            return
        for entry, answer in answered:
            request = entry.request
            request.answers[entry.position] = answer
            request.missing -= 1
            if not request.missing:
                _resolve(request, None)


def _is_pending(entry: _QueuedQuery[Any, Any]) -> bool:
    """Whether somebody still waits for the answer; cancels a request that is past its deadline."""
    if entry.request.deadline < time.monotonic():
        entry.request.future.cancel()
    return not entry.request.future.done()


def _fail(entries: Sequence[_QueuedQuery[Query, Answer]], error: BaseException) -> None:
    """Raises the error in every request that waits for one of these answers."""
    for entry in entries:
        _resolve(entry.request, error)


def _resolve(request: _PendingRequest[Answer], error: BaseException | None) -> None:
    """Sets the result or the error of a future, unless it was cancelled."""
    if request.future.done() or not request.future.set_running_or_notify_cancel():
        return
    if error is None:
        request.future.set_result(request.answers)
    else:
        request.future.set_exception(error)
