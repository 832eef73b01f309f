"""HTTP connections whose requests have a head of bounded size that comes in bounded time; uvicorn has no such limits with httptools."""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# largest number of bytes before the head is complete; one read may also contain a body
LONGEST_HEAD = 512 * 1024


class BoundedHead(HttpToolsProtocol):
    """A connection on which the head of each request must arrive within a time limit."""

    head_seconds = 5.0

    @staticmethod
    def refused(status: int) -> None:
        """Is called with the status of each request that is refused before the application sees it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time limit of idle connections; the first byte starts that of the head."""
        super().connection_made(transport)
        self._in_head, self._head_bytes = True, 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._start_idle_limit()

    def data_received(self, data: bytes) -> None:
        """Parses the received bytes, or closes the connection."""
        if self._in_head:
            self._head_timer = self._head_timer or self._started()
            self._head_bytes += len(data)
            if self._head_bytes > LONGEST_HEAD:
                self._refuse(HTTPStatus.BAD_REQUEST, "The head of the request is too long.")
                return
        super().data_received(data)
        if self.cycle is not None and self.cycle.response_complete:
            # The body of a request that was refused before it came. uvicorn starts its limit for idle connections only after an answer.
            self._start_idle_limit()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not HTTP in the form of all other refusals, and closes the connection."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # the caller would take the refusal for the answer to an earlier request
            return
        self.refused(status)
        body = json.dumps({"error": message}).encode()
        head = (
            f"HTTP/1.1 {status:d} {status.phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        )
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head = False
        self._stopped()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next request may begin; the time limit of its head starts with its first byte."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the time limit."""
        self._stopped()
        super().connection_lost(exc)

    def _start_idle_limit(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _started(self) -> asyncio.TimerHandle:
        return self.loop.call_later(self.head_seconds, self._too_slow)

    def _stopped(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            words = f"The head of the request: not complete after {self.head_seconds:g} s."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, words)


def connections(head_seconds: float, refused: Callable[[int], None] | None = None) -> Any:
    """The class of connections with this time limit for heads; `refused` gets the status of each request that is refused."""
    own = {"head_seconds": head_seconds}
    return type(
        "BoundedHead", (BoundedHead,), own | ({"refused": staticmethod(refused)} if refused else {})
    )
