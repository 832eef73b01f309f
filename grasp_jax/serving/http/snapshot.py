"""A model as it is served at one moment: nothing in it changes, so that requests in flight end with the model they began with."""

import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.models.methods import METHODS
from grasp_jax.serving.answers import Answer
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.serving.export import filled_up
from grasp_jax.serving.histories import query_vectors
from grasp_jax.serving.http.approximate import Index
from grasp_jax.serving.http.fixed_programs import LEFT_OUT, FixedPrograms, Placed

NO_ROWS = np.empty(0, np.int32)


class Person(NamedTuple):
    """A person for whom items are recommended.

    Attributes:
      history: [n] int32 item rows, oldest first, at least one.
      left_out: [m] int32 item rows that are excluded.
      allowed: item rows to choose from; None: all.
      queries: for a gated model, two text vectors [E]; None: they are computed from the history.
      with_gates: whether the answer has the gates of a gated model.
    """

    history: np.ndarray
    left_out: np.ndarray = NO_ROWS
    allowed: np.ndarray | None = None
    queries: tuple[np.ndarray, np.ndarray] | None = None
    with_gates: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """A served model.

    Attributes:
      artifact: the model with all items that are known now.
      base: the model as it was loaded, without items that were added later; its encoder computes their vectors.
      params: parameters of `base` on the device.
      programs: compiled.
      parameters: the parameters that programs read, on the device.
      placed: the items, padded to the capacity, on the device.
      removed: rows that are not recommended.
      number: 1 for the first model of a service, one more for each reload.
      index: index for approximate search; None: exact search.
    """

    artifact: Artifact
    base: Artifact
    params: Any
    programs: FixedPrograms
    parameters: Mapping[str, jax.Array]
    placed: Placed
    removed: frozenset[int]
    number: int
    index: Index | None = None

    @property
    def catalogue(self) -> Catalogue:
        """All items, including removed ones."""
        return self.artifact.catalogue

    @functools.cached_property
    def served(self) -> np.ndarray:
        """[C] bool: rows that may be recommended."""
        found: np.ndarray = np.arange(self.programs.shapes.capacity) < len(self.catalogue.ids)
        found[list(self.removed)] = False
        return found

    @functools.cached_property
    def is_open(self) -> jax.Array:
        """`served` on the device."""
        return jnp.asarray(self.served)

    @functools.cached_property
    def vectors(self) -> np.ndarray:
        """[C, D] item vectors on the host; on a CPU the same memory."""
        return np.asarray(self.placed.vectors)

    def unit(self, rows: np.ndarray) -> np.ndarray:
        """[n, D] vectors of length one of item rows [n]."""
        vectors: np.ndarray = self.vectors[rows]
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        found: np.ndarray = vectors / np.maximum(lengths, 1e-12)
        return found

    @functools.cached_property
    def by_popularity(self) -> np.ndarray:
        """[V] rows that may be recommended, the most bought items first."""
        order = self.catalogue.by_count
        kept: np.ndarray = order[self.served[order]]
        return kept

    @functools.cached_property
    def trust(self) -> Mapping[str, np.ndarray]:
        """`Method.trust` of all items."""
        artifact = self.artifact
        method, model = METHODS[artifact.method], artifact.config.model
        return method.trust(model, self.catalogue.counts, artifact.fitted)

    def group(self, person: Person) -> Hashable:
        """Equal for people who can be answered by one call of the programs."""
        # To write a text may fail, for those alone who need it.
        return self, self._is_masked(person), person.queries is None

    def answer(self, people: Sequence[Person]) -> list[Answer]:
        """The best items of people of one `group`.

        Raises:
          UserError: the gates read the text of a user, and the model has no encoder for it.
        """
        found: list[Answer] = []
        for part, size in self.programs.shapes.parts(people):
            found += self._answer_batch(part, size)
        return found

    def _answer_batch(self, people: Sequence[Person], size: int) -> list[Answer]:
        """Answers at most `size` people with the programs for this batch size."""
        shapes, masked = self.programs.shapes, self._is_masked(people[0])
        known = self._known(people, size)
        if self.index is not None and not masked:
            states = np.asarray(known)[: len(people)]
            served, unwanted = (
                self.served[: len(self.catalogue.ids)],
                [own.left_out for own in people],
            )
            if found := self.index.answer(states, self.vectors, served, unwanted, shapes.pool):
                return found
        left_out: np.ndarray
        if masked:
            left_out = np.zeros((size, shapes.capacity), bool)
            for line, person in zip(left_out, people, strict=False):
                if person.allowed is not None:
                    line[:] = True
                    line[person.allowed] = False
                line[person.left_out] = True
        else:
            left_out = np.full((size, LEFT_OUT), -1, np.int32)
            for line, person in zip(left_out, people, strict=False):
                line[: len(person.left_out)] = person.left_out
        best = self.programs.best[size, masked](
            self.parameters, known, self.placed.items, self.is_open, left_out
        )
        answers = _answers(best, len(people))
        if not (self.artifact.gated and any(person.with_gates for person in people)):
            return answers
        gates = np.asarray(
            self.programs.gates[size](self.parameters, known, self.placed.items, best[1])
        )
        return [
            own._replace(gates=line[: len(own.items)])
            for own, line in zip(answers, gates, strict=False)
        ]

    def _known(self, people: Sequence[Person], size: int) -> Any:
        """What `programs.states` say of people of all lengths, as one tree of [size, ...]: the search passes over the items once."""
        shapes = self.programs.shapes
        lengths = np.array(
            [shapes.length(min(len(own.history), shapes.lengths[-1])) for own in people]
        )
        order = np.argsort(lengths, kind="stable")
        made = []
        for length in np.unique(lengths).tolist():
            alike = [people[n] for n in order if lengths[n] == length]
            made += [self._states(part, length, b) for part, b in shapes.parts(alike)]
        back = np.argsort(order)
        return jax.tree.map(lambda *rows: _rows(np.concatenate(rows)[back], size), *made)

    def _states(self, people: Sequence[Person], length: int, size: int) -> Any:
        """What `programs.states` say of at most `size` people, without the rows that only fill up."""
        newest = [person.history[-length:] for person in people]
        histories = np.zeros((size, length), np.int32)
        histories[: len(people), : max(map(len, newest))] = filled_up(newest, 0)
        lengths = np.ones(size, np.int32)
        lengths[: len(people)] = [len(own) for own in newest]
        queries = [_rows(own, size) for own in self._queries(people)] if self.artifact.gated else []
        known = self.programs.states[size, length](
            self.parameters, self.placed.items, histories, lengths, *queries
        )
        return jax.tree.map(lambda rows: np.asarray(rows)[: len(people)], known)

    def nearest(self, rows: Sequence[int]) -> list[Answer]:
        """The nearest items of each of some items, and their cosines."""
        found: list[Answer] = []
        for part, size in self.programs.shapes.parts(rows):
            asked = np.zeros(size, np.int32)
            asked[: len(part)] = part
            vectors, inverse = self.placed.vectors, self.placed.inverse
            cosines = self.programs.similar[size](vectors, inverse, asked, self.is_open)
            found += _answers(cosines, len(part))
        return found

    def most_popular(self, k: int, left_out: np.ndarray, allowed: np.ndarray | None) -> Answer:
        """The answer for people without a known item, as in `answers.answer`: without scores."""
        if allowed is None:
            order = self.by_popularity
        else:  # ranked as `by_popularity` is, without a pass over the whole catalogue
            own = np.unique(allowed)
            own = own[self.served[own]]
            order = own[np.argsort(-self.catalogue.counts[own], kind="stable")]
        first = order[: k + len(left_out)]
        items = first[~np.isin(first, left_out)][:k]
        return Answer(items, np.full(len(items), np.nan, np.float32))

    def without(self, row: int) -> "Snapshot":
        """The same model, but one item is not recommended any more; histories may still contain it."""
        return dataclasses.replace(self, removed=self.removed | {row})

    def with_again(self, rows: Sequence[int]) -> "Snapshot":
        """The same model, but removed items are recommended again."""
        return dataclasses.replace(self, removed=self.removed - set(rows))

    def _is_masked(self, person: Person) -> bool:
        """Whether what is left out is given as a mask of the catalogue."""
        return person.allowed is not None or len(person.left_out) > LEFT_OUT

    def _queries(self, people: Sequence[Person]) -> list[np.ndarray]:
        """Two arrays [n, E] float32 of text vectors, for a gated model."""
        unknown = [n for n, person in enumerate(people) if person.queries is None]
        made = query_vectors(self.artifact, [people[n].history for n in unknown]) if unknown else []
        found = []
        for which in range(2):
            given = [person.queries[which] if person.queries else NO_ROWS for person in people]
            for own, n in enumerate(unknown):
                given[n] = made[which][own]
            found.append(given)
        return [np.stack(own).astype(np.float32) for own in found]


def _rows(rows: np.ndarray, size: int) -> np.ndarray:
    """[n, E] rows padded to so many."""
    return np.pad(rows, ((0, size - len(rows)), (0, 0)))


def _answers(found: tuple[jax.Array, jax.Array], count: int) -> list[Answer]:
    """Scores and rows [b, pool] of a program, without the excluded items."""
    scores, rows = jax.device_get(found)
    finite = (scores != -np.inf).sum(axis=1)
    return [Answer(rows[n, : finite[n]], scores[n, : finite[n]]) for n in range(count)]
