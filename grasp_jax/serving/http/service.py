"""The service without HTTP: the model that is served, its queue of queries, and the changes to it while it serves."""

import asyncio
import contextlib
import dataclasses
import pathlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from grasp_jax.core.errors import EndpointError, UserError
from grasp_jax.serving.answers import as_text
from grasp_jax.serving.http.changes import (
    Item,
    check_new,
    with_changes,
    with_new_items,
    with_removed,
)
from grasp_jax.serving.http.id_mapping import as_json_items, requested_people, requested_rows
from grasp_jax.serving.http.indexing import PEOPLE, with_index
from grasp_jax.serving.http.metrics import JsonLines, Metrics
from grasp_jax.serving.http.placing import shapes_of, take_snapshot
from grasp_jax.serving.http.query_queue import Query, QueryQueue
from grasp_jax.serving.http.requests import (
    NewItems,
    Recommend,
    Refused,
    Reload,
    Similar,
    as_refused,
    shown,
)
from grasp_jax.serving.http.results import by_model, by_popularity
from grasp_jax.serving.http.settings import Settings
from grasp_jax.serving.http.snapshot import ServingSnapshot
from grasp_jax.serving.http.source import (
    OpenedModel,
    UsersOfData,
    folder_below,
    lost_users,
    open_model,
)
from grasp_jax.serving.http.title_search import TitleSearches
from grasp_jax.serving.new_item_columns import ignored_columns


class Served(NamedTuple):
    """The model that answers requests, and its users."""

    snapshot: ServingSnapshot
    users: UsersOfData | None

    @property
    def data(self) -> dict[str, Any] | None:
        """The `DataSize` of the data of the users, for JSON; None if there are no users."""
        return None if self.users is None else self.users.size._asdict()


class Service:
    """Answers requests from the moment when its model is ready.

    Args:
      settings: limits and other settings.
      path: the path of the model, for `reload`.
      data: a folder of interactions with the users for a saved model.
      log: writes the events of the service.
      metrics: counters, for the service of a second model; None: those of a first one.
    """

    def __init__(
        self,
        settings: Settings,
        path: pathlib.Path,
        data: str | None = None,
        log: JsonLines | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.settings, self.metrics, self.log = settings, metrics or Metrics(), log or JsonLines()
        self._path, self._data = path, data
        self._served: Served | None = None
        self._stopping = threading.Event()
        self._change_lock, self._waiting_changes = asyncio.Lock(), 0
        self._reloading = False
        self._added: dict[str, Item] = {}  # items that PUT added, by id, for the next model
        # ids that no model may recommend, whether this model knows them or not
        self._removed: set[str] = set()
        # titles, by id, of items that PUT brought back although the items table of the model lacks them, for the next model that lacks them
        self._restored: dict[str, str] = {}
        self.queue = QueryQueue(settings.limits, self.metrics)
        self._searches = TitleSearches(settings.limits.searches, self.metrics)

    @property
    def state(self) -> str:
        """ "loading", "ready" or "stopping"."""
        if self._stopping.is_set():
            return "stopping"
        return "loading" if self._served is None else "ready"

    @property
    def served(self) -> Served:
        """The model that answers requests now, and its users.

        Raises:
          Refused: no model is loaded yet, or the service is stopping.
        """
        if self._served is None or self._stopping.is_set():
            self.metrics.refused.labels(self.state).inc()
            raise Refused(503, f"the service is {self.state}; try again in a moment")
        return self._served

    def load(self, opened: OpenedModel) -> Served | None:
        """Loads the first model and compiles its programs, which takes seconds; returns None if the service was stopped meanwhile.

        Raises:
          UserError: the model cannot be served.
        """
        served = self._build(opened, None)
        if served is not None:
            self._serve(served)
        return served

    def stop(self) -> None:
        """Answers the waiting requests, and accepts no new ones."""
        self._stopping.set()
        self.queue.stop()

    def count_refused_head(self, status: int) -> None:
        """Counts and logs a request whose head is no HTTP, too long or too slow, so that its route is not known."""
        self.metrics.requests.labels("other", str(status)).inc()
        if self.settings.log_requests:
            self.log.event("request", route="other", status=status)

    def log_endpoint_failure(self, error: EndpointError) -> None:
        """Counts and logs a request that got 503 because an endpoint failed, without what the endpoint said: it may contain texts."""
        self.metrics.refused.labels("endpoint").inc()
        self.log.event("endpoint_failed", "error", endpoint=error.where)

    async def recommend(self, request: Recommend) -> dict[str, Any]:
        """The answer to `POST /recommend`.

        Raises:
          UserError: an id is not known and `unknown` is "error"; `Refused` with 503 if too many people wait.
        """
        snapshot, users = self.served
        people = requested_people(request, snapshot, users)
        known = [own.person for own in people if len(own.person.history)]
        answers = iter(await self.queue.answer([Query(snapshot, person) for person in known]))
        results = []
        for own in people:
            if not len(own.person.history):
                result = by_popularity(request, own, snapshot)
            elif request.diversity or request.why:
                # in a thread, so that others are answered meanwhile
                result = await asyncio.to_thread(by_model, request, own, next(answers), snapshot)
            else:
                result = by_model(request, own, next(answers), snapshot)
            results.append(result)
        return {"model": snapshot.number, "results": results}

    async def find(self, text: str, k: int) -> dict[str, Any]:
        """The answer to `GET /items`: items whose titles contain the words of the text.

        Raises:
          Refused: there are no words, k is not within its limits, or the search takes too long or too many wait (503).
        """
        snapshot, most = self.served.snapshot, self.settings.limits.k
        if not 1 <= k <= most:
            raise Refused(422, f"k: {k}; expected a whole number from 1 to {most}")
        try:
            return {"items": await self._searches.find(text, k, snapshot, self.settings.limits)}
        except TimeoutError:
            raise self.queue.timed_out() from None

    async def similar(self, request: Similar) -> dict[str, Any]:
        """The answer to `POST /similar`.

        Raises:
          Refused: an item is not known, or too many people wait.
        """
        snapshot = self.served.snapshot
        rows = requested_rows(request, snapshot)
        answers = await self.queue.answer([Query(snapshot, row) for row in rows])
        results = [
            {
                "item": name,
                "similar": as_json_items(own.select(slice(request.k)), snapshot, "cosine"),
            }
            for name, own in zip(request.items, answers, strict=True)
        ]
        return {"model": snapshot.number, "results": results}

    async def add(self, request: NewItems) -> dict[str, Any]:
        """The answer to `PUT /items`: changes all items of the request or, if one is refused, none. From now on they can be recommended.

        "corrected" counts items that an earlier request added and that have another text now, "old_text" has ids of items that came back
        and whose text in the request is not used, and "ignored" names the fields that the model does not read; these three are absent if
        there are none.

        Raises:
          UserError: an id is given twice or is that of an item of the model, or the method of the model reads no text.
        """
        async with self._exclusive_change():
            snapshot, users = self.served
            changes = check_new(request.items, snapshot, self._added)
            changed = await asyncio.to_thread(with_changes, snapshot, changes)
            encoded = changes.new + changes.corrected
            catalogue = snapshot.catalogue

            def remember() -> None:
                self._added |= {as_text(item["item"]): item for item in encoded}
                self._removed -= {as_text(item["item"]) for item in request.items}
                # if the table of a later model drops one of the other items, that is the newer wish
                self._restored |= {
                    as_text(catalogue.ids[row]): title for row, title in changes.titles.items()
                }

            await asyncio.to_thread(self._serve, Served(changed, users), remember)
            self.log.event(
                "items_added",
                new=len(changes.new),
                again=len(changes.restored),
                corrected=len(changes.corrected),
            )
            columns = {name for item in request.items for name in item}
            more = {
                "corrected": len(changes.corrected),
                "old_text": changes.old_text,
                "ignored": ignored_columns(snapshot.artifact, columns),
            }
            return {
                "added": len(changes.new),
                "restored": len(changes.restored),
                "items": len(changed.by_popularity),
                **{name: value for name, value in more.items() if value},
            }

    async def remove(self, name: str) -> dict[str, Any]:
        """The answer to `DELETE /items/{id}`: the item is not recommended any more.

        Raises:
          Refused: no item has the id, it was removed before, or the items table lacks it; in the last case later models do not recommend it
            either.
        """
        async with self._exclusive_change():
            snapshot, users = self.served
            name = as_text(name)
            row = snapshot.catalogue.rows.get(name)
            if row is None:
                example = str(snapshot.catalogue.ids[0])
                raise Refused(
                    404, f"items: no item has the id {shown(name)}; ids look like {example!r}"
                )
            if row in snapshot.removed and not snapshot.catalogue.recommended[row]:
                self._removed.add(name)  # also for a model that recommends such items
                raise Refused(
                    404,
                    f"items: {shown(name)} is not recommended, because the items table lacks it; PUT /items brings it back",
                )
            if row in snapshot.removed:
                raise Refused(
                    404, f"items: {shown(name)} was removed before; PUT /items brings it back"
                )
            changed = dataclasses.replace(snapshot, removed=snapshot.removed | {row})

            def remember() -> None:
                self._removed.add(name)
                self._restored.pop(name, None)

            await asyncio.to_thread(self._serve, Served(changed, users), remember)
            self.log.event("item_removed")
            return {"removed": 1, "items": len(changed.by_popularity)}

    async def reload(self, request: Reload) -> dict[str, Any]:
        """The answer to `POST /reload`: loads a model. The old model answers until the new one is ready.

        Items that PUT added are added to the new model if it does not know them, and removed items stay removed.

        Raises:
          UserError: another reload is running, the path is not allowed, or the model cannot be loaded; the old model stays.
        """
        if self._reloading:
            raise Refused(409, "reload: another one is running; try again when it has finished")
        path = self._path
        if request.path is not None:
            path = folder_below(self.settings.models, request.path)
        self._reloading = True
        try:
            async with self._exclusive_change():
                old = self.served
                served, warning = await asyncio.to_thread(self._replacement, path, old.snapshot)
                await asyncio.to_thread(self._serve, served, lambda: setattr(self, "_path", path))
        finally:
            self._reloading = False
        about: dict[str, Any] = {
            "model": served.snapshot.number,
            "items": len(served.snapshot.by_popularity),
            "data": served.data,
        }
        artifact = served.snapshot.artifact
        self.log.event("reloaded", **about, trained_on_all=artifact.trained_on_all)
        lost = lost_users(old.users, served.users)
        if lost:
            self.log.event("data_shrank", "warning", text=lost)
        warnings = "; ".join(text for text in (lost, warning) if text)
        return about | ({"warning": warnings} if warnings else {})

    def _replacement(self, path: pathlib.Path, old: ServingSnapshot) -> tuple[Served, str]:
        """The model of a path with the added and removed items of this service, and a warning if some could not be added."""
        served = self._build(open_model(path, self._data), old)
        if served is None:
            raise Refused(503, "the service is stopping; the model was not loaded")
        snapshot, warning = served.snapshot, ""
        new = [item for name, item in self._added.items() if name not in snapshot.catalogue.rows]
        if new:
            try:
                snapshot = with_new_items(snapshot, new)
            except UserError as error:
                if isinstance(error, EndpointError):
                    self.log_endpoint_failure(error)
                warning = f"{len(new)} items that had been added are not in the new model: {as_refused(error)}"
        changed = with_removed(snapshot, self._removed, self._restored)
        return served._replace(snapshot=changed), warning

    def _build(self, opened: OpenedModel, old: ServingSnapshot | None) -> Served | None:
        """Compiles a model, with its index if the search is approximate; returns None if the service was stopped meanwhile."""
        settings = self.settings
        shapes = shapes_of(
            opened.artifact, settings.batch_sizes, settings.lengths, settings.limits.k
        )
        snapshot = take_snapshot(opened.artifact, shapes, old, self._keep_going)
        if snapshot is None:
            return None
        if settings.recall is not None:
            histories = [] if opened.users is None else opened.users.some_histories(PEOPLE)
            snapshot = with_index(snapshot, settings.recall, histories, self._keep_going)
            if snapshot is None:
                return None
            assert snapshot.index is not None
            self.log.event("index", recall=snapshot.index.recall, leaves=snapshot.index.leaves)
        return Served(snapshot, opened.users)

    def _keep_going(self) -> bool:
        return not self._stopping.is_set()

    def _serve(self, served: Served, remember: Callable[[], None] | None = None) -> None:
        """Serves this model from now on. Properties that are computed at their first use are computed here, so that the next request need
        not wait.

        Args:
          served: the model.
          remember: notes the change for later models. It is called when nothing can fail any more, so that a change whose caller gets an
            error is not applied by the next reload.
        """
        snapshot, catalogue = served.snapshot, served.snapshot.catalogue
        snapshot.available_on_device, snapshot.vectors, snapshot.trust  # noqa: B018
        catalogue.rows, catalogue.folded_titles  # noqa: B018
        items, number = len(snapshot.by_popularity), snapshot.number
        recall = 1.0 if snapshot.index is None else snapshot.index.recall
        self._served = served
        if remember is not None:
            remember()
        self.metrics.items.set(items)
        self.metrics.model.set(number)
        self.metrics.recall.set(recall)

    @contextlib.asynccontextmanager
    async def _exclusive_change(self) -> AsyncIterator[None]:
        """Held while one request changes the model. Other changes wait; their number and their time are limited."""
        limits = self.settings.limits
        if self._waiting_changes >= limits.changes:
            self.metrics.refused.labels("changes").inc()
            raise Refused(503, f"{limits.changes} changes wait already; try again in a moment")
        self._waiting_changes += 1
        try:
            await asyncio.wait_for(self._change_lock.acquire(), limits.seconds)
        except TimeoutError:
            self.metrics.refused.labels("changes").inc()
            raise Refused(
                503, "another change or a reload is running; try again in a moment"
            ) from None
        finally:
            self._waiting_changes -= 1
        try:
            yield
        finally:
            self._change_lock.release()
