"""The process of a service: a socket, the model, the server, and an orderly end."""

import asyncio
import dataclasses
import gc
import logging
import pathlib
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.main import FAULT, REFUSED
from grasp_jax.serving.histories import check_one_query
from grasp_jax.serving.http.app import create_app
from grasp_jax.serving.http.metrics import FIRST, SECOND, JsonLines, Metrics
from grasp_jax.serving.http.protocol import connections
from grasp_jax.serving.http.service import Service
from grasp_jax.serving.http.settings import Settings
from grasp_jax.serving.http.source import OpenedModel, open_model

BACKLOG = 2048
KEEP_ALIVE = 75  # seconds that an idle connection stays open: longer than proxies keep theirs (60 s), which would else send on a closed one
GRACE = 30  # seconds in which requests in progress are answered after SIGTERM


def serve(
    path: pathlib.Path,
    data: str | None,
    settings: Settings,
    address: tuple[str, int],
    compare: pathlib.Path | None = None,
) -> int:
    """Serves until SIGTERM or Ctrl-C; returns the exit status.

    Args:
      path: the folder of a saved model, or a workdir.
      data: a folder of interactions with the users for a saved model.
      settings: settings of the service.
      address: host and port.
      compare: the path of a second model for the page; None: there is none.

    Raises:
      UserError: the address is in use or not of this machine, or there is no model that can be served.
    """
    _exit_on_sigterm()
    log = _log()
    with _listen(*address) as listening:
        paths = [path] if compare is None else [path, compare]
        services = []
        for own, prefix in zip(paths, (FIRST, SECOND), strict=False):
            opened = open_model(own, data)
            if opened.artifact.gated:
                check_one_query(opened.artifact)
            services.append((Service(settings, own, data, log, Metrics(prefix)), opened))
        server, outcome = _build_server(services)
        host, port = listening.getsockname()[:2]
        log.event("listening", host=host, port=port, token=settings.token is not None)
        signal.signal(signal.SIGTERM, lambda *_: None)  # the server raises it again when it ends
        signal.signal(signal.SIGINT, lambda *_: None)
        server.run([listening])
    log.event("stopped", status=outcome.status)
    return outcome.status


def _freeze_loaded_objects() -> None:
    """Excludes everything that is loaded by now from garbage collection: each collection would stop all answers for a fifth of a second."""
    gc.collect()
    gc.freeze()


@dataclasses.dataclass
class Outcome:
    """The exit status of a server, once it has run."""

    status: int = 0


def _build_server(models: Sequence[tuple[Service, OpenedModel]]) -> tuple[uvicorn.Server, Outcome]:
    """The server, and its exit status. When it listens, it loads one or two models in a thread, and it stops if one cannot be loaded."""
    outcome = Outcome()
    tasks: set[asyncio.Task[None]] = set()
    services = [service for service, _ in models]
    first = services[0]

    async def load() -> None:
        try:
            loaded = []
            for service, opened in models:
                served = await asyncio.to_thread(service.load, opened)
                if served is None:
                    return
                loaded.append(served)
            _freeze_loaded_objects()
            snapshot = loaded[0].snapshot
            first.log.event(
                "ready",
                method=snapshot.artifact.method,
                backbone=snapshot.artifact.backbone,
                trained_on_all=snapshot.artifact.trained_on_all,
                items=len(snapshot.by_popularity),
                data=loaded[0].data,
            )
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            outcome.status, server.should_exit = REFUSED, True
        except Exception as error:
            first.log.fault(error)
            outcome.status, server.should_exit = FAULT, True

    async def start() -> None:
        tasks.add(asyncio.create_task(load()))

    async def stop() -> None:
        for service in services:
            await asyncio.to_thread(service.stop)
        await asyncio.gather(*tasks)

    app = create_app(first, start, stop, *services[1:])
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=KEEP_ALIVE,
        http=connections(first.settings.limits.body_seconds, first.count_refused_head),
    )
    server = uvicorn.Server(config)
    return server, outcome


def _listen(host: str, port: int) -> socket.socket:
    """A socket on the address.

    Raises:
      UserError: another process has the port, or the address is not of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--host={host}: no such address ({error}); expected one of this machine"
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise UserError(
            f"--host={host} --port={port}: cannot listen there ({error.strerror}); stop the program that uses the port, or name another"
        ) from error
    return listening


def _exit_on_sigterm() -> None:
    """Until the server listens, SIGTERM ends the process with status 0."""

    def exit_process(_: int, __: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, exit_process)


def _log() -> JsonLines:
    """Writes all log messages of libraries and of this package as JSON, and warnings of Python too."""
    log = JsonLines()
    logging.captureWarnings(True)
    logging.getLogger().handlers = [log]
    # no other handler, and no message twice
    for name in (*logging.root.manager.loggerDict, logger.name):
        library_logger = logging.getLogger(name)
        library_logger.handlers, library_logger.propagate = [], True
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logger.setLevel(logging.WARNING)
    return log
