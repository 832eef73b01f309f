"""The service without HTTP: the model that is served, its queue of requests, and the changes to it while it serves."""

import asyncio
import contextlib
import pathlib
import threading
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from grasp_jax.errors import EndpointError, UserError
from grasp_jax.serving.answers import as_text
from grasp_jax.serving.http.asking import listed, people_of, rows_of_similar
from grasp_jax.serving.http.changes import Item, check_new, with_new_items, with_removed
from grasp_jax.serving.http.finding import items_with
from grasp_jax.serving.http.indexing import PEOPLE, with_index
from grasp_jax.serving.http.metrics import JsonLines, Metrics
from grasp_jax.serving.http.placing import shapes_of, take_snapshot
from grasp_jax.serving.http.questions import Question, Questions
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
from grasp_jax.serving.http.snapshot import Snapshot
from grasp_jax.serving.http.source import Source, UsersOfData, below, open_source
from grasp_jax.serving.new_items import ignored_columns


class Served(NamedTuple):
    """What answers now."""

    snapshot: Snapshot
    users: UsersOfData | None


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
        self._changes, self._waiting_changes, self._reloading = asyncio.Lock(), 0, False
        self._added: dict[str, Item] = {}  # items that PUT added, by id, for the next model
        self._removed: set[str] = (
            set()
        )  # ids that no model may recommend, whether this model knows them or not
        self.questions = Questions(settings.limits, self.metrics)

    @property
    def state(self) -> str:
        """ "loading", "ready" or "stopping"."""
        if self._stopping.is_set():
            return "stopping"
        return "loading" if self._served is None else "ready"

    @property
    def served(self) -> Served:
        """What answers now.

        Raises:
          Refused: no model is loaded yet, or the service is stopping.
        """
        if self._served is None or self._stopping.is_set():
            self.metrics.refused.labels(self.state).inc()
            raise Refused(503, f"the service is {self.state}; ask again in a moment")
        return self._served

    def load(self, source: Source) -> Served | None:
        """Loads the first model and compiles its programs, which takes seconds; returns None if the service was stopped meanwhile.

        Raises:
          UserError: the model cannot be served.
        """
        served = self._take(source, None)
        if served is not None:
            self._serve(served)
        return served

    def stop(self) -> None:
        """Answers the waiting requests, and accepts no new ones."""
        self._stopping.set()
        self.questions.stop()

    def note(self, error: EndpointError) -> None:
        """Counts and logs a request that got 503 because an endpoint failed, without what the endpoint said: it may contain texts."""
        self.metrics.refused.labels("endpoint").inc()
        self.log.event("endpoint_failed", "error", endpoint=error.where)

    async def recommend(self, asked: Recommend) -> dict[str, Any]:
        """The answer to `POST /recommend`.

        Raises:
          UserError: an id is not known and `unknown` is "error"; `Refused` with 503 if too many people wait.
        """
        snapshot, users = self.served
        people = people_of(asked, snapshot, users)
        questions = [
            Question(snapshot, whose.person) for whose in people if len(whose.person.history)
        ]
        answers = iter(await self.questions.ask(questions))
        results = []
        for whose in people:
            if not len(whose.person.history):
                result = by_popularity(asked, whose, snapshot)
            elif asked.diversity or asked.why:  # in a thread, so that others are answered meanwhile
                result = await asyncio.to_thread(by_model, asked, whose, next(answers), snapshot)
            else:
                result = by_model(asked, whose, next(answers), snapshot)
            results.append(result)
        return {"model": snapshot.number, "results": results}

    async def find(self, words: str, k: int) -> dict[str, Any]:
        """The answer to `GET /items`: items whose titles contain the words.

        Raises:
          Refused: there are no words, k is not within its limits, or the search takes too long (503).
        """
        snapshot, most = self.served.snapshot, self.settings.limits.k
        if not 1 <= k <= most:
            raise Refused(422, f"k: {k}; expected a whole number from 1 to {most}")
        try:
            search = asyncio.to_thread(items_with, words, k, snapshot)
            return {"items": await asyncio.wait_for(search, self.settings.limits.seconds)}
        except TimeoutError:
            raise self.questions.too_late() from None

    async def similar(self, asked: Similar) -> dict[str, Any]:
        """The answer to `POST /similar`.

        Raises:
          Refused: an item is not known, or too many people wait.
        """
        snapshot = self.served.snapshot
        rows = rows_of_similar(asked, snapshot)
        answers = await self.questions.ask([Question(snapshot, row) for row in rows])
        cut = [own.of(slice(asked.k)) for own in answers]
        results = [
            {"item": name, "similar": listed(own, snapshot, "cosine")}
            for name, own in zip(asked.items, cut, strict=True)
        ]
        return {"model": snapshot.number, "results": results}

    async def add(self, asked: NewItems) -> dict[str, Any]:
        """The answer to `PUT /items`: adds all items of the request or, if one is refused, none. From now on they can be recommended.

        "ignored" names the fields that the model does not read; it is absent if there are none.

        Raises:
          UserError: an id is known or given twice, or the method of the model reads no text.
        """
        async with self._changing():
            snapshot, users = self.served
            new, again = check_new(asked.items, snapshot)
            changed = snapshot.with_again(again)
            if new:
                changed = await asyncio.to_thread(with_new_items, changed, new)
            self._added |= {as_text(item["item"]): item for item in new}
            self._removed -= {as_text(item["item"]) for item in asked.items}
            await asyncio.to_thread(self._serve, Served(changed, users))
            self.log.event("items_added", new=len(new), again=len(again))
            answer = {
                "added": len(new),
                "restored": len(again),
                "items": len(changed.by_popularity),
            }
            given = {name for item in asked.items for name in item}
            ignored = ignored_columns(snapshot.artifact, given)
            return {**answer, "ignored": ignored} if ignored else answer

    async def remove(self, name: str) -> dict[str, Any]:
        """The answer to `DELETE /items/{id}`: the item is not recommended any more.

        Raises:
          Refused: no item has the id, or it was removed before.
        """
        async with self._changing():
            snapshot, users = self.served
            row = snapshot.catalogue.rows.get(name)
            if row is None:
                example = str(snapshot.catalogue.ids[0])
                raise Refused(
                    404, f"items: no item has the id {shown(name)}; ids look like {example!r}"
                )
            if row in snapshot.removed:
                raise Refused(
                    404, f"items: {shown(name)} was removed before; PUT /items brings it back"
                )
            changed = snapshot.without(row)
            self._removed.add(name)
            await asyncio.to_thread(self._serve, Served(changed, users))
            self.log.event("item_removed")
            return {"removed": 1, "items": len(changed.by_popularity)}

    async def reload(self, asked: Reload) -> dict[str, Any]:
        """The answer to `POST /reload`: loads a model. The old model answers until the new one is ready.

        Items that PUT added are added to the new model if it does not know them, and removed items stay removed.

        Raises:
          UserError: another reload is running, the path is not allowed, or the model cannot be loaded; the old model stays.
        """
        if self._reloading:
            raise Refused(409, "reload: another one is running; ask again when it has finished")
        path = self._path if asked.path is None else below(self.settings.models, asked.path)
        self._reloading = True
        try:
            async with self._changing():
                old = self.served.snapshot
                served, left = await asyncio.to_thread(self._replacement, path, old)
                self._path = path
                await asyncio.to_thread(self._serve, served)
        finally:
            self._reloading = False
        about: dict[str, Any] = {
            "model": served.snapshot.number,
            "items": len(served.snapshot.by_popularity),
        }
        artifact = served.snapshot.artifact
        self.log.event("reloaded", **about, trained_on_all=artifact.trained_on_all)
        return about | ({"warning": left} if left else {})

    def _replacement(self, path: pathlib.Path, old: Snapshot) -> tuple[Served, str]:
        """The model of a path with the changes of items that this service has made, and the reasons why some could not be made."""
        served = self._take(open_source(path, self._data), old)
        if served is None:
            raise Refused(503, "the service is stopping; the model was not loaded")
        snapshot, left = served.snapshot, ""
        new = [item for name, item in self._added.items() if name not in snapshot.catalogue.rows]
        if new:
            try:
                snapshot = with_new_items(snapshot, new)
            except UserError as error:
                if isinstance(error, EndpointError):
                    self.note(error)
                left = f"{len(new)} items that had been added are not in the new model: {as_refused(error)}"
        return served._replace(snapshot=with_removed(snapshot, self._removed)), left

    def _take(self, source: Source, old: Snapshot | None) -> Served | None:
        settings = self.settings
        shapes = shapes_of(
            source.artifact, settings.batch_sizes, settings.lengths, settings.limits.k
        )
        snapshot = take_snapshot(source.artifact, shapes, old, self._keep_going)
        if snapshot is None:
            return None
        if settings.recall is not None:
            histories = [] if source.users is None else source.users.some_histories(PEOPLE)
            snapshot = with_index(snapshot, settings.recall, histories, self._keep_going)
            if snapshot is None:
                return None
            assert snapshot.index is not None
            self.log.event("index", recall=snapshot.index.recall, leaves=snapshot.index.leaves)
        return Served(snapshot, source.users)

    def _keep_going(self) -> bool:
        return not self._stopping.is_set()

    def _serve(self, served: Served) -> None:
        """Serves this model from now on. Properties that are computed at their first use are computed here, so that the next request need
        not wait.
        """
        snapshot = served.snapshot
        snapshot.is_open, snapshot.vectors, snapshot.catalogue.rows  # noqa: B018
        self.metrics.items.set(len(snapshot.by_popularity))
        self.metrics.model.set(served.snapshot.number)
        self.metrics.recall.set(1.0 if snapshot.index is None else snapshot.index.recall)
        self._served = served

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Held while one request changes the model. Other changes wait; their number and their time are limited."""
        limits = self.settings.limits
        if self._waiting_changes >= limits.changes:
            self.metrics.refused.labels("changes").inc()
            raise Refused(503, f"{limits.changes} changes wait already; ask again in a moment")
        self._waiting_changes += 1
        try:
            await asyncio.wait_for(self._changes.acquire(), limits.seconds)
        except TimeoutError:
            self.metrics.refused.labels("changes").inc()
            raise Refused(
                503, "another change or a reload is running; ask again in a moment"
            ) from None
        finally:
            self._waiting_changes -= 1
        try:
            yield
        finally:
            self._changes.release()
