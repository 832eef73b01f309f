"""The load generator of the serving benchmark measures the service and not its own connections."""

import asyncio
import contextlib

import pytest

from benchmarks import serving_load
from benchmarks.serving_load import Load

CLOSES = 0.4  # seconds after which the server closes an idle connection


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request on a connection, and closes it when it was idle for `CLOSES`."""
    with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        while True:
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CLOSES)
            await reader.readexactly(len(b"{}"))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    writer.close()


async def _statuses() -> dict[str, int]:
    """Of 16 requests a second over 16 connections, so that each of them is idle for about a second between two requests."""
    async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        load = Load(port, [b"{}"])
        await load.run(seconds=3.0, warm=0.0, connections=16, rate=16.0)
        return load.statuses


def test_a_connection_that_the_server_closes_is_no_lost_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests that were sent on a connection that had been idle too long would be counted as not answered."""
    assert asyncio.run(_statuses())["broken"] > 0, "the server closes idle connections"
    monkeypatch.setattr(serving_load, "IDLE", CLOSES / 2)
    found = asyncio.run(_statuses())
    assert found["200"] >= 40 and not found["broken"]
