"""The load generator of the serving benchmark measures the service and not its own connections.

Its clock moves only while all tasks wait, so that a busy machine changes nothing.
"""

import asyncio
import selectors
from types import SimpleNamespace

import pytest

from benchmarks import serving_load
from benchmarks.serving_load import Load

CLOSES = 0.4  # seconds after which the server closes an idle connection
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Clock(selectors.DefaultSelector):
    """What the loop waits with: the wait is over at once, and its time has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        self.now += 0 if found else timeout or 0
        return found


class Connection:
    """A connection to a server that answers every request and closes a connection that was idle for `CLOSES`."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self._wait()

    def write(self, request: bytes) -> None:
        if not self.reader.at_eof():
            self._end.cancel()
            self.reader.feed_data(ANSWER)
            self._wait()

    def close(self) -> None:
        self._end.cancel()

    def _wait(self) -> None:
        self._end = asyncio.get_running_loop().call_later(CLOSES, self.reader.feed_eof)


async def _opened(*_: object) -> tuple[asyncio.StreamReader, Connection]:
    opened = Connection()
    return opened.reader, opened


def _statuses(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Of 16 requests a second over 16 connections, so that each of them is idle for about a second between two requests."""
    clock, load = Clock(), Load(0, [b"{}"])
    monkeypatch.setattr(asyncio, "open_connection", _opened)
    monkeypatch.setattr(serving_load, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(load.run(seconds=3.0, warm=0.0, connections=16, rate=16.0))
    return load.statuses


def test_a_connection_that_the_server_closes_is_no_lost_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests that were sent on a connection that had been idle too long would be counted as not answered."""
    assert _statuses(monkeypatch)["broken"] > 0, "the server closes idle connections"
    monkeypatch.setattr(serving_load, "IDLE", CLOSES / 2)
    assert _statuses(monkeypatch) == {"200": 48, "none": 0}
