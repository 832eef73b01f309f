"""The middleware before every route: checks the token and the body, answers errors in one line, and writes metrics and the log."""

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.serving.http.requests import Refused, as_refused
from grasp_jax.serving.http.service import Service

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PROBES = ("/health", "/ready")
WITHOUT_TOKEN = (*PROBES, "/")  # the page has no data of the model
WITHOUT_LIMIT = (*PROBES, "/metrics")  # answered however many requests are in progress
ROUTES = (
    *WITHOUT_TOKEN,
    "/recommend",
    "/compare",
    "/similar",
    "/items",
    "/reload",
    "/metrics",
    "/docs",
    "/openapi.json",
)
WITH_BODY = ("POST", "PUT", "PATCH")


class ClientDisconnected(Exception):
    """The caller closed the connection before the body was complete."""


class Guard:
    """An ASGI middleware around the routes of a service, and of the second model that it compares with."""

    def __init__(self, app: App, service: Service, second: Service | None = None) -> None:
        self.app, self.service = app, service
        self._queues = dict.fromkeys(("/recommend", "/similar"), service.queue)  # by path
        if second is not None:
            self._queues["/compare"] = second.queue
        token = service.settings.token
        self._token = None if token is None else token.encode("ascii")
        self._in_flight = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
                return
            await self.app(scope, receive, send)
            return
        started, status, request_id = time.perf_counter(), 0, uuid.uuid4().hex[:12]
        is_head = scope["method"] == "HEAD"  # answered as GET, without the body

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        self._in_flight += 1
        try:
            self._check(scope)
            body = await self._body(scope, receive)
            routed = {**scope, "method": "GET"} if is_head else scope
            await self.app(routed, _replayed(body, receive), send_with_id)
        except ClientDisconnected:
            # nobody reads this answer; other servers use the same status for this case
            status = 499
        except Exception as error:
            if not isinstance(error, UserError):
                self.service.log.fault(error, request=request_id)
            if not status:
                await refuse(error, send_with_id)
        finally:
            self._in_flight -= 1
        seconds, route = time.perf_counter() - started, _route(scope)
        self.service.metrics.requests.labels(route, str(status)).inc()
        self.service.metrics.seconds.labels(route).observe(seconds)
        if self.service.settings.log_requests:
            facts = {
                "request": request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
            }
            self.service.log.event("request", milliseconds=round(1000 * seconds, 2), **facts)

    def _check(self, scope: Message) -> None:
        """Raises Refused if a request has no valid token, if too many are in progress or wait, or if its body is not JSON."""
        headers = dict(scope["headers"])
        if self._token is not None and scope["path"] not in WITHOUT_TOKEN:
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            is_valid = hmac.compare_digest(token.strip(), self._token)
            if scheme.lower() != b"bearer" or not is_valid:
                raise Refused(
                    401,
                    "authorization: missing or wrong; expected 'Bearer ' and the token of the service",
                )
        limit = self.service.settings.limits.queue
        if self._in_flight > limit and scope["path"] not in WITHOUT_LIMIT:
            self.service.metrics.refused.labels("requests").inc()
            raise Refused(503, f"{limit} requests are in progress already; try again in a moment")
        if scope["method"] == "POST" and scope["path"] in self._queues:
            self._queues[scope["path"]].check_not_full()
        if scope["method"] not in WITH_BODY:
            return
        content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if content_type != b"application/json" and headers.get(b"content-length") != b"0":
            raise Refused(415, "content-type: expected application/json")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refused(415, "content-encoding: expected a body that is not compressed")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise Refused(400, "content-length: expected a whole number")
        self._check_size(int(length[:19]))

    def _check_size(self, size: int) -> None:
        limit = self.service.settings.limits.body_bytes
        if size > limit:
            raise Refused(413, f"the body: more than {limit:,} bytes; send several requests")

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        """The complete body of a request that has one.

        Raises:
          Refused: the body is too large or arrives too slowly.
          ClientDisconnected: the caller closed the connection.
        """
        if scope["method"] not in WITH_BODY:
            return b""
        seconds, parts, size = self.service.settings.limits.body_seconds, [], 0
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    self._check_size(size)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Refused(
                408,
                f"the body: not complete after {seconds:g} s; send it faster, or send less in a request",
            ) from None


async def refuse(error: Exception, send: Send) -> None:
    """Answers with one line. For an internal error the line says only that there was one."""
    refused = as_refused(error)
    status = refused.status
    body = json.dumps({"error": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += {
        401: [(b"www-authenticate", b"Bearer")],
        503: [(b"retry-after", b"1")],
        # the rest of the body must not be read as the next request
        408: [(b"connection", b"close")],
        413: [(b"connection", b"close")],
    }.get(status, [])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Receives first the body that was read already, then the messages of the connection."""
    body_sent = False

    async def receive_replayed() -> Message:
        nonlocal body_sent
        if body_sent:
            return await receive()
        body_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_replayed


def _route(scope: Message) -> str:
    """The path without ids, for metrics and the log."""
    path: str = scope["path"]
    if path.startswith("/items/"):
        return "/items/{id}"
    return path if path in ROUTES else "other"
