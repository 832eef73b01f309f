"""Counters of a service for Prometheus, and its log: one JSON object a line, without ids, items or texts of anybody."""

import contextlib
import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TextIO

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
FIRST, SECOND = "grasp_serve", "grasp_serve_compare"  # prefixes of metrics
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one model in `GET /metrics`, in a separate registry.

    Args:
      prefix: of all names. The second model of a service has another one, and no metrics of requests and of the process.
    """

    def __init__(self, prefix: str = FIRST) -> None:
        own = self.registry = CollectorRegistry()
        if prefix == FIRST:
            ProcessCollector(registry=own)
            PlatformCollector(registry=own)
        of_requests = own if prefix == FIRST else None
        self.requests = Counter(
            f"{prefix}_requests", "requests answered", ["route", "status"], registry=of_requests
        )
        self.seconds = Histogram(
            f"{prefix}_request_seconds",
            "time from the end of a request's head to the end of its answer",
            ["route"],
            buckets=SECONDS,
            registry=of_requests,
        )
        self.batches = Histogram(
            f"{prefix}_batch_size", "queries answered in one batch", buckets=BATCHES, registry=own
        )
        self.refused = Counter(
            f"{prefix}_overload", "requests refused with 503", ["reason"], registry=own
        )
        self.waiting = Gauge(f"{prefix}_waiting", "people in the queue", registry=own)
        self.items = Gauge(f"{prefix}_items", "items that may be recommended", registry=own)
        self.model = Gauge(
            f"{prefix}_model",
            "1 for the first model served, one more for each loaded since",
            registry=own,
        )
        self.recall = Gauge(
            f"{prefix}_recall",
            "share of the ten best items that a search finds, as measured at the start",
            registry=own,
        )

    def page(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class JsonLines(logging.Handler):
    """Writes events and log messages as JSON, one on each line.

    Args:
      stream: the output; None: `sys.stdout` at the time of writing.
      clock: seconds since 1970.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._stream, self._clock, self._lock = stream, clock, threading.Lock()

    def event(self, name: str, level: str = "info", **facts: object) -> None:
        """Writes one line. If the stream is closed, the line is dropped and the service continues."""
        line = {"time": round(self._clock(), 3), "level": level, "event": name, **facts}
        text = json.dumps(line, ensure_ascii=True, default=str)
        with self._lock, contextlib.suppress(OSError, ValueError):
            print(text, file=self._stream or sys.stdout, flush=True)

    def fault(self, error: BaseException, **facts: object) -> None:
        """Logs an internal error: its type and the lines of code. Its text may contain a user's data and is left out."""
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
        self.event("fault", "error", kind=type(error).__name__, where=where, **facts)

    def emit(self, record: logging.LogRecord) -> None:
        """A logger's message."""
        if record.exc_info and record.exc_info[1] is not None:
            self.fault(record.exc_info[1], logger=record.name)
        else:
            self.event(
                "message", record.levelname.lower(), logger=record.name, text=record.getMessage()
            )
