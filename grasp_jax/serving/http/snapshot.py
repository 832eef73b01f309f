"""An immutable snapshot of the served model, so that a request in flight ends with the model with which it began."""

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
from grasp_jax.serving.export import padded
from grasp_jax.serving.histories import query_vectors
from grasp_jax.serving.http.approximate import Index
from grasp_jax.serving.http.fixed_programs import MOST_EXCLUDED, DeviceCatalogue, FixedPrograms

NO_ROWS = np.empty(0, np.int32)


class Person(NamedTuple):
    """A person for whom items are recommended.

    Attributes:
      history: [n] int32 item rows, oldest first, at least one.
      excluded: [m] int32 item rows that are excluded.
      allowed: [a] int32 item rows to choose from; None: all.
      text_vectors: for a gated model, two text vectors [E]; None: they are computed from the history.
      with_gates: whether the answer has the gates of a gated model.
    """

    history: np.ndarray
    excluded: np.ndarray = NO_ROWS
    allowed: np.ndarray | None = None
    text_vectors: tuple[np.ndarray, np.ndarray] | None = None
    with_gates: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class ServingSnapshot:
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
    placed: DeviceCatalogue
    removed: frozenset[int]
    number: int
    index: Index | None = None

    @property
    def catalogue(self) -> Catalogue:
        """All items, including removed ones."""
        return self.artifact.catalogue

    @functools.cached_property
    def available(self) -> np.ndarray:
        """[C] bool: rows that may be recommended."""
        available: np.ndarray = np.arange(self.programs.shapes.capacity) < len(self.catalogue.ids)
        available[list(self.removed)] = False
        return available

    @functools.cached_property
    def available_on_device(self) -> jax.Array:
        """`available` on the device."""
        return jnp.asarray(self.available)

    @functools.cached_property
    def vectors(self) -> np.ndarray:
        """[C, D] item vectors on the host; on a CPU the same memory."""
        return np.asarray(self.placed.vectors)

    def unit(self, rows: np.ndarray) -> np.ndarray:
        """[n, D] vectors of length one of item rows [n]."""
        vectors: np.ndarray = self.vectors[rows]
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        unit: np.ndarray = vectors / np.maximum(lengths, 1e-12)
        return unit

    @functools.cached_property
    def by_popularity(self) -> np.ndarray:
        """[V] rows that may be recommended, the most bought items first."""
        order = self.catalogue.by_count
        available: np.ndarray = order[self.available[order]]
        return available

    @functools.cached_property
    def trust(self) -> Mapping[str, np.ndarray]:
        """`Method.trust` of all items."""
        artifact = self.artifact
        method, model = METHODS[artifact.method], artifact.config.model
        return method.trust(model, self.catalogue.counts, artifact.fitted)

    def group(self, person: Person) -> Hashable:
        """Equal for people who can be answered by one call of the programs."""
        # Writing and encoding a text may fail; then only the people who need it must fail.
        return self, self._is_masked(person), person.text_vectors is None

    def answer(self, people: Sequence[Person]) -> list[Answer]:
        """The best items of people of one `group`.

        Raises:
          UserError: the gates read the text of a user, and the model has no encoder for it.
        """
        answers: list[Answer] = []
        for batch, size in self.programs.shapes.batches(people):
            answers += self._answer_batch(batch, size)
        return answers

    def _answer_batch(self, people: Sequence[Person], size: int) -> list[Answer]:
        """Answers at most `size` people with the programs for this batch size."""
        shapes, masked = self.programs.shapes, self._is_masked(people[0])
        state = self._state(people, size)
        if self.index is not None and not masked:
            states = np.asarray(state)[: len(people)]
            available = self.available[: len(self.catalogue.ids)]
            excluded = [person.excluded for person in people]
            if answers := self.index.answer(states, self.vectors, available, excluded, shapes.pool):
                return answers
        excluded_items = self._excluded_items(people, size)
        best = self.programs.best[size, masked](
            self.parameters, state, self.placed.items, self.available_on_device, excluded_items
        )
        answers = _answers(best, len(people))
        if not (self.artifact.gated and any(person.with_gates for person in people)):
            return answers
        gates = np.asarray(
            self.programs.gates[size](self.parameters, state, self.placed.items, best[1])
        )
        return [
            answer._replace(gates=rows[: len(answer.items)])
            for answer, rows in zip(answers, gates, strict=False)
        ]

    def _excluded_items(self, people: Sequence[Person], size: int) -> np.ndarray:
        """What `programs.best` must not return: [size, C] bool, or lists of rows [size, MOST_EXCLUDED], padded with -1."""
        if self._is_masked(people[0]):
            mask = np.zeros((size, self.programs.shapes.capacity), bool)
            for line, person in zip(mask, people, strict=False):
                if person.allowed is not None:
                    line[:] = True
                    line[person.allowed] = False
                line[person.excluded] = True
            return mask
        rows = np.full((size, MOST_EXCLUDED), -1, np.int32)
        for line, person in zip(rows, people, strict=False):
            line[: len(person.excluded)] = person.excluded
        return rows

    def _state(self, people: Sequence[Person], size: int) -> Any:
        """The results of `programs.states` for histories of all lengths, as one tree of [size, ...]: one search then serves all people."""
        shapes = self.programs.shapes
        lengths = np.array(
            [shapes.padded_length(min(len(own.history), shapes.lengths[-1])) for own in people]
        )
        order = np.argsort(lengths, kind="stable")
        trees = []
        for length in np.unique(lengths).tolist():
            same_length = [people[n] for n in order if lengths[n] == length]
            trees += [
                self._state_of_length(batch, length, b) for batch, b in shapes.batches(same_length)
            ]
        original_order = np.argsort(order)
        return jax.tree.map(
            lambda *rows: _padded_rows(np.concatenate(rows)[original_order], size), *trees
        )

    def _state_of_length(self, people: Sequence[Person], length: int, size: int) -> Any:
        """The result of `programs.states` for at most `size` people, without the rows of padding."""
        newest = [person.history[-length:] for person in people]
        histories = np.zeros((size, length), np.int32)
        histories[: len(people), : max(map(len, newest))] = padded(newest, 0)
        lengths = np.ones(size, np.int32)
        lengths[: len(people)] = [len(own) for own in newest]
        text_vectors = []
        if self.artifact.gated:
            text_vectors = [_padded_rows(rows, size) for rows in self._text_vectors(people)]
        state = self.programs.states[size, length](
            self.parameters, self.placed.items, histories, lengths, *text_vectors
        )
        return jax.tree.map(lambda rows: np.asarray(rows)[: len(people)], state)

    def nearest(self, rows: Sequence[int]) -> list[Answer]:
        """The nearest items of each of the items `rows`, and their cosines."""
        answers: list[Answer] = []
        for batch, size in self.programs.shapes.batches(rows):
            queries = np.zeros(size, np.int32)
            queries[: len(batch)] = batch
            vectors, norms = self.placed.vectors, self.placed.inverse_norms
            best = self.programs.similar[size](vectors, norms, queries, self.available_on_device)
            answers += _answers(best, len(batch))
        return answers

    def most_popular(self, k: int, excluded: np.ndarray, allowed: np.ndarray | None) -> Answer:
        """The answer for people without a known item, as in `answers.answer`: without scores.

        Args:
          k: largest number of items.
          excluded: [m] int32 item rows to leave out.
          allowed: [a] int32 item rows to choose from; None: all.
        """
        if allowed is None:
            order = self.by_popularity
        else:  # ranked as `by_popularity` is, without a pass over the whole catalogue
            rows = np.unique(allowed)
            rows = rows[self.available[rows]]
            order = rows[np.argsort(-self.catalogue.counts[rows], kind="stable")]
        first = order[: k + len(excluded)]
        items = first[~np.isin(first, excluded)][:k]
        return Answer(items, np.full(len(items), np.nan, np.float32))

    def _is_masked(self, person: Person) -> bool:
        """Whether the excluded items are passed as a mask of the catalogue."""
        return person.allowed is not None or len(person.excluded) > MOST_EXCLUDED

    def _text_vectors(self, people: Sequence[Person]) -> list[np.ndarray]:
        """Two arrays [n, E] float32, for a gated model; those that are not given are computed from the history."""
        missing = [n for n, person in enumerate(people) if person.text_vectors is None]
        histories = [people[n].history for n in missing]
        computed = query_vectors(self.artifact, histories) if missing else []
        arrays = []
        for which in range(2):
            rows = [own.text_vectors[which] if own.text_vectors else NO_ROWS for own in people]
            for k, n in enumerate(missing):
                rows[n] = computed[which][k]
            arrays.append(np.stack(rows).astype(np.float32))
        return arrays


def _padded_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """[n, E] rows padded to [size, E]."""
    return np.pad(rows, ((0, size - len(rows)), (0, 0)))


def _answers(best: tuple[jax.Array, jax.Array], count: int) -> list[Answer]:
    """The first `count` rows of scores and item rows [b, pool] of a program, without the excluded items."""
    scores, rows = jax.device_get(best)
    finite = (scores != -np.inf).sum(axis=1)
    return [Answer(rows[n, : finite[n]], scores[n, : finite[n]]) for n in range(count)]
