"""Connections of the service whose requests are refused before their bodies come."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("httptools")

from uvicorn.server import ServerState  # noqa: E402

from grasp_jax.serving.http.protocol import connections  # noqa: E402

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"
LONG = 120.0  # seconds, for a busy machine


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answers 503 without reading the body."""
    await send(
        {"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


REFUSED: list[int] = []  # statuses of requests whose heads were refused


async def never(scope: Any, receive: Any, send: Any) -> None:
    """Does not answer."""
    await asyncio.sleep(LONG)


@contextlib.asynccontextmanager
async def connected(
    keep_alive: float, head_seconds: float = LONG, app: Any = refuse
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server that refuses everything, and closes an idle connection after so many seconds."""
    http: Any = connections(head_seconds, REFUSED.append)
    config = uvicorn.Config(app, http=http, timeout_keep_alive=keep_alive)  # type: ignore[arg-type]
    config.load()
    state = ServerState()

    def connection() -> Any:
        return config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[operator]

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


async def talk(keep_alive: float, requests: int) -> list[bytes]:
    """The first lines of the answers to some requests on one connection, each body sent after its answer; then what comes until the
    service closes the connection.
    """
    async with connected(keep_alive) as (reader, writer):
        found = []
        for _ in range(requests):
            writer.write(HEAD)
            found.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
            writer.write(b"body")
        if keep_alive < LONG:
            found.append(await reader.read())
    return found


def test_an_idle_connection_is_closed_although_its_request_was_refused() -> None:
    """Clients that are refused while the service is full would keep their connections for ever."""
    *answers, rest = asyncio.run(asyncio.wait_for(talk(0.2, 1), LONG))
    assert answers == [b"HTTP/1.1 503 Service Unavailable"] and rest == b""


def test_a_refused_body_is_not_taken_for_the_next_request() -> None:
    """The next request on the connection would be answered 400."""
    assert (
        asyncio.run(asyncio.wait_for(talk(10 * LONG, 3), LONG))
        == [b"HTTP/1.1 503 Service Unavailable"] * 3
    )


async def say(content: bytes, head_seconds: float = LONG) -> tuple[bytes, bytes]:
    """Head and body of the answer to some bytes."""
    REFUSED.clear()
    async with connected(LONG, head_seconds) as (reader, writer):
        writer.write(content)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return head, body


def test_what_is_no_http_is_refused_like_all_else() -> None:
    """A client that reads the JSON of refusals would fail at a plain text."""
    head, body = asyncio.run(asyncio.wait_for(say(b"no HTTP\r\n\r\n"), LONG))
    assert head.startswith(b"HTTP/1.1 400") and b"content-type: application/json" in head
    assert f"content-length: {len(body)}".encode() in head
    assert list(json.loads(body)) == ["error"]
    assert REFUSED == [400]


def test_a_head_that_comes_too_slowly_is_answered_and_counted() -> None:
    """The caller would see a closed connection, and the operator nothing at all."""
    head, body = asyncio.run(asyncio.wait_for(say(HEAD[:20], head_seconds=0.2), LONG))
    assert head.startswith(b"HTTP/1.1 408 Request Timeout")
    assert "not complete after 0.2 s" in json.loads(body)["error"] and REFUSED == [408]


def test_a_new_connection_may_wait_as_long_as_one_that_was_used() -> None:
    """A proxy that opens connections before it needs them would find them closed."""

    async def late() -> bytes:
        async with connected(LONG, head_seconds=0.1) as (reader, writer):
            await asyncio.sleep(0.5)
            writer.write(HEAD)
            return await reader.readuntil(b"\r\n\r\n")

    assert asyncio.run(asyncio.wait_for(late(), LONG)).startswith(b"HTTP/1.1 503")


def test_a_slow_second_head_is_not_answered_in_place_of_the_first_request() -> None:
    """The caller would read 408 as the answer to the request that is still computed."""

    async def two() -> bytes:
        async with connected(LONG, head_seconds=0.2, app=never) as (reader, writer):
            writer.write(HEAD + b"body")
            await asyncio.sleep(0.2)
            writer.write(b"G")
            return await reader.read()

    REFUSED.clear()
    assert asyncio.run(asyncio.wait_for(two(), LONG)) == b"" and not REFUSED
