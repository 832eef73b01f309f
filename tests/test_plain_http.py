"""The transport for servers of one's own: every way in which HTTP/1.1 ends a body, connections kept and lost, and no way around a proxy."""

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from typing import Any

import openai
import pytest

from grasp_jax.knowledge.plain_http import client_for

BODY = '{"a": "é"}'.encode()
JSON = b"content-type: application/json\r\n"


def chunks(body: bytes) -> bytes:
    return b"".join(b"%x;note=1\r\n%s\r\n" % (len(body[k : k + 4]), body[k : k + 4]) for k in range(0, len(body), 4)) + b"0\r\nx: y\r\n\r\n"


REPLIES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(BODY), JSON) + BODY,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + JSON + b"\r\n" + chunks(BODY),
    "gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n" + chunks(gzip.compress(BODY)),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:%d\r\n\r\n" % len(BODY) + BODY,
    "end": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY,
}
BROKEN = {
    "nothing": b"",
    "half": REPLIES["length"][:-3],
    "half chunk": REPLIES["chunks"][:-20],
    "no http": b"SSH-2.0\r\n\r\n",
    "no number": b"HTTP/1.1 two hundred\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
}


def talk(replies: list[bytes], use: Callable[[Any, str], Coroutine[Any, Any, Any]], ends: bool = False) -> tuple[Any, list[list[bytes]]]:
    """What `use(client, address)` returns, and the requests of each connection of a server that gives these replies in turn."""
    connections: list[list[bytes]] = []
    waiting = iter(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(own := [])
        while head := await reader.read(65_536):
            own.append(head)
            reply = next(waiting)
            writer.write(reply)
            if ends or b"onnection: close" in reply or reply.startswith(b"HTTP/1.0"):
                break
        writer.close()

    async def main() -> Any:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            client = client_for(openai, address)
            try:
                return await use(client, address)
            finally:
                await client.aclose()

    return asyncio.run(main()), connections


async def posts(client: Any, address: str, times: int = 1) -> list[Any]:
    found = []
    for _ in range(times):
        answer = await client.post(f"{address}/v1/x?y=1", json={"b": 1}, timeout=5.0)
        found.append((answer.status_code, answer.json()))
        await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("way", REPLIES)
def test_every_way_to_end_a_body(way: str) -> None:
    """Some servers send chunks, some lengths, some just end; an answer would be cut, or waited for in vain, or a connection be wasted."""
    found, connections = talk([REPLIES[way]] * 3, lambda client, address: posts(client, address, 3))
    assert found == [(200, {"a": "é"})] * 3
    assert len(connections) == (3 if way in ("end", "close") else 1)
    head, body = connections[0][0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/x?y=1 HTTP/1.1\r\n") and body == b'{"b":1}'


@pytest.mark.parametrize("way", BROKEN)
def test_what_breaks_off_is_an_error_that_is_retried(way: str) -> None:
    """Half an answer would be kept as a whole one, or the run end in a traceback."""

    async def use(client: Any, address: str) -> Any:
        official = openai.AsyncOpenAI(api_key="x", base_url=address, max_retries=1, http_client=client)
        with pytest.raises(openai.APIConnectionError):
            await official.with_options(max_retries=0).post("/x", body={}, cast_to=dict[str, Any])

    _, connections = talk([BROKEN[way]], use, ends=True)
    assert len(connections) == 1


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    """After each pause longer than the server's patience, a request would fail."""
    found, connections = talk([REPLIES["length"]] * 2, lambda client, address: posts(client, address, 2), ends=True)
    assert len(found) == len(connections) == 2


def test_a_server_that_does_not_answer_in_time() -> None:
    """A hanging server would hold a request for ever; or the connection be given to the next one, which would read its answer."""

    async def use(client: Any, address: str) -> Any:
        official = openai.AsyncOpenAI(api_key="x", base_url=address, max_retries=0, timeout=0.1, http_client=client)
        with pytest.raises(openai.APITimeoutError):
            await official.post("/x", body={}, cast_to=dict[str, Any])
        return await posts(client, address)

    found, connections = talk([b"", REPLIES["length"]], use)
    assert found == [(200, {"a": "é"})] and len(connections) == 2


def test_proxies_and_encrypted_addresses_go_the_official_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key would go around a company's proxy, or over an open line."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert client_for(openai, "https://api.example.com/v1") is None and client_for(openai, "") is None
    assert client_for(openai, "http://10.0.0.1/v1") is not None
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert client_for(openai, "http://10.0.0.1/v1") is None
    monkeypatch.setenv("no_proxy", "10.0.0.1")
    assert client_for(openai, "http://10.0.0.1/v1") is not None
