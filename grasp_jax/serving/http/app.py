"""The routes of a service in FastAPI; no other file depends on FastAPI."""

import contextlib
import json
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Match

import grasp_jax
from grasp_jax.core.errors import EndpointError, UserError
from grasp_jax.serving.http.guard import Guard
from grasp_jax.serving.http.requests import (
    Body,
    NewItems,
    Recommend,
    Refused,
    Reload,
    Similar,
    as_refused,
    read,
    shown,
)
from grasp_jax.serving.http.service import Service

BodyType = TypeVar("BodyType", bound=Body)
PAGE = pathlib.Path(__file__).with_name("page.html")
PAGE_HEADERS = {  # the page loads nothing from other hosts, and other pages may not embed it in a frame
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",
}
REFUSED = {
    "description": "bad input, or too much at once; one line says what and how to mend it",
    "content": {"application/json": {"example": {"error": "k: 0; expected ..."}}},
}
RESPONSES: dict[int | str, dict[str, Any]] = {422: REFUSED, 503: REFUSED}


def create_app(
    service: Service,
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    second: Service | None = None,
) -> FastAPI:
    """Makes the application with its routes.

    Args:
      service: the service that answers the requests.
      start, stop: called when the server starts, before the first request, and after the last answer.
      second: a second model that the page compares with the first; None: there is none.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await start()
        yield
        await stop()

    app = FastAPI(
        title="grasp-serve",
        description="Recommendations of a model of grasp_jax.",
        version=grasp_jax.__version__,
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.service = service
    app.add_middleware(Guard, service=service, second=second)
    app.add_exception_handler(HTTPException, _error_response)
    app.add_exception_handler(UserError, _error_response)

    add_answers(app, service)
    add_comparison(app, service, second)
    add_changes(app, service)
    add_probes(app, service, second)
    return app


def add_answers(app: FastAPI, service: Service) -> None:
    """Adds the routes that use the model, and the page that calls them."""

    @app.post("/recommend", responses=RESPONSES, openapi_extra=_body_of(Recommend))
    async def recommend(request: Request) -> Response:
        """Recommends the best items for each user, or for each history."""
        return _json(await service.recommend(await _parsed(Recommend, request, service)))

    @app.post("/similar", responses=RESPONSES, openapi_extra=_body_of(Similar))
    async def similar(request: Request) -> Response:
        """Finds the nearest items of each item, by the cosine of their vectors."""
        return _json(await service.similar(await _parsed(Similar, request, service)))

    @app.get("/items", responses=RESPONSES)
    async def find_items(request: Request, search: str = "", k: str = "10") -> Response:
        """Finds items whose titles contain every word of the search, the most bought items first."""
        if unknown := [name for name in request.query_params if name not in ("search", "k")]:
            raise Refused(
                422, f"{shown(unknown[0])}: no such parameter; expected some of search, k"
            )
        if not (k.isascii() and k.isdigit() and len(k) < 10):
            raise Refused(422, f"k: {shown(k)}; expected a whole number")
        return _json(await service.find(search, int(k)))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        """A page to try the model; it calls the other routes."""
        return Response(
            PAGE.read_bytes(), media_type="text/html; charset=utf-8", headers=PAGE_HEADERS
        )


def add_comparison(app: FastAPI, service: Service, second: Service | None) -> None:
    """Adds the route that uses the second model."""

    @app.post("/compare", responses=RESPONSES, openapi_extra=_body_of(Recommend))
    async def compare(request: Request) -> Response:
        """Recommends items with the model of --compare; requests and answers are those of /recommend."""
        if second is None:
            raise Refused(
                404, "compare: there is no second model; start the service with --compare=FOLDER"
            )
        return _json(await second.recommend(await _parsed(Recommend, request, service)))


def add_changes(app: FastAPI, service: Service) -> None:
    """Adds the routes that change which items are recommended."""

    @app.put("/items", responses=RESPONSES, openapi_extra=_body_of(NewItems))
    async def put_items(request: Request) -> Response:
        """Adds items by their texts; from now on they can be recommended. Items that were removed come back with their old texts."""
        return _json(await service.add(await _parsed(NewItems, request, service)))

    @app.delete("/items/{name:path}", responses=RESPONSES)
    async def delete_item(name: str) -> Response:
        """Removes an item from all recommendations."""
        return _json(await service.remove(name))

    @app.post("/reload", responses=RESPONSES, openapi_extra=_body_of(Reload))
    async def reload(request: Request) -> Response:
        """Loads the model of the same path again, or of another path. The old model answers until the new one is ready."""
        body = await request.body()
        return _json(await service.reload(read(Reload, body or b"{}", service.settings.limits)))


def add_probes(app: FastAPI, service: Service, second: Service | None) -> None:
    """Adds the routes that report the state of the service."""

    @app.get("/health")
    async def health() -> Response:
        """Says that the process answers."""
        return _json({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        """Whether the model answers: 200, or 503 while the model is loading or the service is stopping."""
        states = [own.state for own in (service, second) if own and own.state != "ready"]
        if states:
            return _json({"status": states[0]}, 503)
        about = {"status": "ready", **_about(service)}
        return _json(about | ({} if second is None else {"compare": _about(second)}))

    @app.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        pages = [own.metrics.page() for own in (service, second) if own is not None]
        return Response(b"".join(pages), media_type=CONTENT_TYPE_LATEST)


def _about(service: Service) -> dict[str, Any]:
    """Describes the model of a service."""
    served = service.served
    snapshot = served.snapshot
    return {
        "model": snapshot.number,
        "method": snapshot.artifact.method,
        "backbone": snapshot.artifact.backbone,
        "trained_on_all": snapshot.artifact.trained_on_all,
        "items": len(snapshot.by_popularity),
        "exclude_seen": snapshot.artifact.config.recommend.exclude_seen,
        "users": served.users is not None,
        "data": served.data,
        "search": "exact" if snapshot.index is None else "approximate",
        "recall": 1.0 if snapshot.index is None else snapshot.index.recall,
    }


async def _parsed(kind: type[BodyType], request: Request, service: Service) -> BodyType:
    """The parsed body of a request."""
    return read(kind, await request.body(), service.settings.limits)


async def _error_response(request: Request, error: Exception) -> Response:
    """The answer to a request that was refused: one line."""
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        refused, headers = _http_error(error, request)
    else:
        refused = as_refused(error)
        headers = {"retry-after": "1"} if refused.status == 503 else {}
    if isinstance(error, EndpointError):
        request.app.state.service.log_endpoint_failure(error)
    return _json({"error": str(refused)}, refused.status, headers)


def _http_error(error: HTTPException, request: Request) -> tuple[Refused, dict[str, str]]:
    """The message and the headers for a path or an HTTP method that no route has."""
    path = request.url.path[:60]
    if error.status_code == 404:
        return Refused(404, f"{path!r}: no such path; /docs lists all"), {}
    if error.status_code != 405:
        return Refused(error.status_code, str(error.detail)), {}
    methods = _methods(request)
    message = f"{request.method} {path!r}: expected {methods or 'another method'}"
    return Refused(405, message), {"allow": methods} if methods else {}


def _methods(request: Request) -> str:
    """The HTTP methods of all routes with the path of the request; `Guard` answers HEAD where there is GET."""
    routes: list[Any] = [
        route for route in request.app.routes if route.matches(request.scope)[0] is Match.PARTIAL
    ]
    methods = {method for route in routes for method in route.methods}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status, headers, media_type="application/json")


def _body_of(kind: type[Body]) -> dict[str, Any]:
    """The body of a route for the OpenAPI page. `requests.read` parses it, because it knows the limits."""
    schema = kind.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
