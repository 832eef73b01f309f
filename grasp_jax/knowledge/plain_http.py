"""HTTP/1.1 to a server of one's own, under the official client: a request costs half the processor time that it costs by httpx's own pool.

Only for plain http:// without a proxy; everything else goes the official client's way.
"""

import asyncio
import sys
import urllib.parse
import urllib.request
from types import ModuleType
from typing import Any

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def client_for(openai: ModuleType, base_url: str) -> Any:
    """The `http_client` for `openai.AsyncOpenAI`; None where its own is the right one."""
    address = urllib.parse.urlsplit(base_url)
    proxies = urllib.request.getproxies()
    proxied = ("http" in proxies or "all" in proxies) and not urllib.request.proxy_bypass(address.hostname or "")
    if address.scheme != "http" or proxied:
        return None
    base = next(base for base in openai.DefaultAsyncHttpxClient.__mro__ if base.__name__ == "AsyncClient")
    httpx = sys.modules[base.__module__.partition(".")[0]]  # httpx or httpx2, whichever this version of openai is built on
    return openai.DefaultAsyncHttpxClient(transport=PlainTransport(httpx))


class PlainTransport:
    """A transport of httpx with connections that are kept alive, as many as there are requests at one time.

    Raises:
      httpx's ConnectError, ConnectTimeout, ReadError, ReadTimeout and RemoteProtocolError, which the official client answers with a retry.
    """

    def __init__(self, httpx: ModuleType) -> None:
        self._httpx = httpx
        self._idle: list[Connection] = []

    async def handle_async_request(self, request: Any) -> Any:
        limits = request.extensions.get("timeout", {})
        httpx, content = self._httpx, await request.aread()
        try:
            reader, writer = await self._connection(request.url, limits.get("connect"))
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        kept = False
        try:
            async with asyncio.timeout(limits.get("read")):
                writer.write(_written(request, content))
                await writer.drain()
                status, headers = await _head(reader)
                body = await _body(reader, status, {name.lower(): value for name, value in headers})
            kept = (b"connection", b"close") not in {(name.lower(), value.lower()) for name, value in headers} and not reader.at_eof()
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer in time") from error
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
            raise httpx.RemoteProtocolError(f"the server broke off or does not speak HTTP/1.1 ({type(error).__name__})") from error
        except OSError as error:
            raise httpx.ReadError(str(error)) from error
        finally:
            if kept:
                self._idle.append((reader, writer))
            else:
                writer.close()
        return httpx.Response(status, headers=headers, content=body)

    async def _connection(self, url: Any, seconds: float | None) -> Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()  # by the server, meanwhile
        async with asyncio.timeout(seconds):
            return await asyncio.open_connection(url.host, url.port or 80)

    async def aclose(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()


def _written(request: Any, content: bytes) -> bytes:
    """The request as it goes over the line."""
    fields = b"".join(b"%s: %s\r\n" % field for field in request.headers.raw)
    return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (request.method.encode(), request.url.raw_path, fields, content)


async def _head(reader: asyncio.StreamReader) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Status and fields."""
    while True:
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        version, status = first.split(b" ")[:2]
        if not version.startswith(b"HTTP/1."):
            raise ValueError(first)
        if not 100 <= int(status) < 200:  # those come before the answer
            fields = [tuple(line.split(b":", 1)) for line in lines]
            headers = [(name.strip(), value.strip()) for name, value in fields]
            return int(status), headers + ([(b"connection", b"close")] if version == b"HTTP/1.0" else [])


async def _body(reader: asyncio.StreamReader, status: int, headers: dict[bytes, bytes]) -> bytes:
    """The body, whole: by chunks, by length, or up to the end."""
    if status in (204, 304):
        return b""
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        while await reader.readuntil(b"\r\n") != b"\r\n":  # trailing fields
            pass
        return b"".join(parts)
    if b"content-length" in headers:
        return await reader.readexactly(int(headers[b"content-length"]))
    return await reader.read()
