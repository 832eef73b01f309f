"""The programs of a served model, compiled at a few fixed shapes, so that no request waits for a compiler."""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.evaluation.top_k import BLOCK, Best, top_k, top_k_in_blocks, top_products
from grasp_jax.serving.programs import (
    PRECISION,
    VECTORS,
    ServedModel,
    array_argument,
    gates_of,
    scores_of,
    states_of,
)

# largest number of excluded items that are passed as a list; more are passed as a mask of the catalogue
MOST_EXCLUDED = 256
ROWS_PER_WRITE = 256  # rows of new items that one call writes
# up to so many rows all scores are kept in memory; a larger catalogue is scored in blocks
MOST_UNBLOCKED = 2 * BLOCK
SMALL_SIZES = (1, 8, 64)  # people in a batch, for a catalogue of up to `MOST_UNBLOCKED` rows
LARGE_SIZES = (1, 8, 16, 32, 64)  # for a larger one, where padding of a batch takes long
GATED_BLOCK = 8192  # rows of a block for gated models, which compute more than a score for each row
CAPACITY_MULTIPLE = 1024  # of the rows to which a catalogue is padded
SPARE_ROWS = 512  # for new items, at least


class Shapes(NamedTuple):
    """The shapes for which programs are compiled.

    Attributes:
      batch_sizes: numbers of people in a batch, ascending.
      lengths: numbers of items in a history, ascending; the last is the longest history that the model reads.
      capacity: C, rows of the catalogue, including empty rows for new items.
      pool: number of items that a program returns for each person, best first.
      width: D of the vectors with which similar items are found.
    """

    batch_sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    capacity: int
    pool: int
    width: int

    def batch_size(self, waiting: int) -> int:
        """The size of the next batch if so many people, at least one, wait.

        The next larger size is padded if it is half full and the next smaller one would leave a third of the people waiting; otherwise
        the smaller one is full, and the others may share the next batch with people who arrive meanwhile.
        """
        full = [size for size in self.batch_sizes if size <= waiting]
        larger = [size for size in self.batch_sizes if size > waiting]
        if not full:
            return larger[0]
        padded = larger and larger[0] <= 2 * waiting and 2 * waiting >= 3 * full[-1]
        return larger[0] if padded else full[-1]

    def batches(self, people: Sequence[Any]) -> Iterator[tuple[Sequence[Any], int]]:
        """The people of each batch, and the size of the batch."""
        begin = 0
        while begin < len(people):
            size = self.batch_size(len(people) - begin)
            yield people[begin : begin + size], size
            begin += size

    def padded_length(self, items: int) -> int:
        """The smallest length that holds a history of so many items."""
        return next(length for length in self.lengths if length >= items)


class DeviceCatalogue(NamedTuple):
    """A catalogue on the device, padded to C rows; or the shapes of one; or rows to be written into one.

    Attributes:
      items: the arrays of items that programs read, as `programs.scores_of` takes them; without gates the item vectors.
      neutral_vectors: [C, D] float32 vectors with which a gated model compares items with each other; None: `items` has these vectors.
      inverse_norms: [C] float32 one over the length of each vector.
    """

    items: Any
    neutral_vectors: Any
    inverse_norms: Any

    @property
    def vectors(self) -> jax.Array:
        """[C, D] float32 vectors with which items are compared with each other."""
        vectors: jax.Array = self.items if self.neutral_vectors is None else self.neutral_vectors
        return vectors


@dataclasses.dataclass(frozen=True)
class FixedPrograms:
    """Compiled programs.

    Attributes:
      key: equal for two models that can use the same programs.
      shapes: the shapes of the programs.
      states: by (batch, length): parameters, items, histories, lengths and, with gates, two text vectors -> states of people.
      best: by (batch, whether a mask is given): parameters, people, items, available [C], excluded items -> scores and rows [b, pool].
      gates: by batch, only for a gated model: parameters, people, items, rows [b, pool] -> gates [b, pool, 3].
      similar: by batch: vectors [C, D], their inverse norms [C], rows [b], available [C] -> cosines and rows [b, pool].
      write: a tree of [C, ...] arrays, `ROWS_PER_WRITE` rows of each and their positions -> the tree with these rows.
    """

    key: Hashable
    shapes: Shapes
    states: Mapping[tuple[int, int], Callable[..., Any]]
    best: Mapping[tuple[int, bool], Callable[..., Any]]
    gates: Mapping[int, Callable[..., Any]]
    similar: Mapping[int, Callable[..., Any]]
    write: Callable[..., Any]


def capacity_for(num_items: int) -> int:
    """Number of rows for so many items and some new ones."""
    return -(-(num_items + SPARE_ROWS) // CAPACITY_MULTIPLE) * CAPACITY_MULTIPLE


def batch_sizes_for(capacity: int) -> tuple[int, ...]:
    """The default batch sizes, ascending, for a catalogue of so many rows."""
    return SMALL_SIZES if capacity <= MOST_UNBLOCKED else LARGE_SIZES


def key_of(served: ServedModel, shapes: Shapes) -> Hashable:
    """Everything that the programs depend on."""
    arrays = (("parameters", served.parameters), ("items", served.items))
    about = tuple(
        (kind, name, array.shape[kind == "items" :], str(array.dtype))
        for kind, named in arrays
        for name, array in sorted(named.items())
    )
    return served.model, served.max_history, served.query_dtype, about, shapes


def compile_programs(
    served: ServedModel, shapes: Shapes, keep_going: Callable[[], bool] = lambda: True
) -> FixedPrograms | None:
    """Compiles all programs that requests will need.

    Args:
      served: the model; of its items only the shape of a row is used.
      shapes: which shapes.
      keep_going: called before each compilation; if it returns False, the compilation is abandoned.

    Returns:
      The programs, or None if `keep_going` returned False.
    """
    parameters = {
        name: array_argument(array.shape, array.dtype) for name, array in served.parameters.items()
    }
    item_arrays = {
        name: array_argument((shapes.capacity, *rows.shape[1:]), rows.dtype)
        for name, rows in served.items.items()
    }
    items = item_arrays if served.model.gated else item_arrays[VECTORS]
    vectors = array_argument((shapes.capacity, shapes.width), np.float32)
    inverse_norms = array_argument((shapes.capacity,), np.float32)
    available = array_argument((shapes.capacity,), np.bool_)
    states, best, gates, similar = {}, {}, {}, {}
    with jax.default_matmul_precision(PRECISION):
        for b in shapes.batch_sizes:
            inputs = [array_argument((b,), np.int32)]
            if served.model.gated:
                inputs += [array_argument((b, served.items["items"].shape[1]), np.float32)] * 2
            for length in shapes.lengths:
                if not keep_going():
                    return None
                histories = array_argument((b, length), np.int32)
                states[b, length] = _compiled(
                    states_of(served), parameters, items, histories, *inputs
                )
                person = jax.eval_shape(states_of(served), parameters, items, histories, *inputs)
            excluded = {
                False: array_argument((b, MOST_EXCLUDED), np.int32),
                True: array_argument((b, shapes.capacity), np.bool_),
            }
            for masked, argument in excluded.items():
                if not keep_going():
                    return None
                function = _best_of(served, shapes, masked)
                best[b, masked] = _compiled(
                    function, parameters, person, items, available, argument
                )
            if served.model.gated:
                answer_rows = array_argument((b, shapes.pool), np.int32)
                gates[b] = _compiled(gates_of(served), parameters, person, items, answer_rows)
            rows = array_argument((b,), np.int32)
            similar[b] = _compiled(_similar_of(shapes), vectors, inverse_norms, rows, available)
    catalogue = DeviceCatalogue(items, vectors if served.model.gated else None, inverse_norms)
    written = jax.tree.map(
        lambda rows: array_argument((ROWS_PER_WRITE, *rows.shape[1:]), rows.dtype), catalogue
    )
    write = _compiled(_write, catalogue, written, array_argument((ROWS_PER_WRITE,), np.int32))
    return FixedPrograms(key_of(served, shapes), shapes, states, best, gates, similar, write)


def blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """[n, ...] rows in blocks of `ROWS_PER_WRITE`; the last block is padded with zeros."""
    for begin in range(0, len(rows), ROWS_PER_WRITE):
        block = rows[begin : begin + ROWS_PER_WRITE]
        yield np.pad(block, [(0, ROWS_PER_WRITE - len(block)), *[(0, 0)] * (rows.ndim - 1)])


def _best_of(served: ServedModel, shapes: Shapes, masked: bool) -> Callable[..., Any]:
    score, capacity, pool = scores_of(served), shapes.capacity, shapes.pool
    large = capacity > MOST_UNBLOCKED
    block = min(capacity, GATED_BLOCK if served.model.gated else BLOCK) if large else capacity

    def best(
        parameters: Any, person: Any, items: Any, available: jax.Array, excluded: jax.Array
    ) -> Best:
        def block_scores(first: jax.Array) -> jax.Array:
            def block_of_rows(array: jax.Array, axis: int = 0) -> jax.Array:
                return jax.lax.dynamic_slice_in_dim(array, first, block, axis)

            scores = score(parameters, person, jax.tree.map(block_of_rows, items))
            scores = jnp.where(block_of_rows(available), scores, -jnp.inf)
            if masked:
                return jnp.where(block_of_rows(excluded, 1), -jnp.inf, scores)
            people = jnp.arange(scores.shape[0])[:, None]
            columns = jnp.where(excluded < first, block, excluded - first)
            return scores.at[people, columns].set(-jnp.inf, mode="drop")

        return top_k_in_blocks(block_scores, capacity, pool, block)

    def best_products(
        _: Any, states: jax.Array, vectors: jax.Array, available: jax.Array, excluded: jax.Array
    ) -> Best:
        return top_products(states, vectors, jnp.where(available, 1.0, jnp.nan), excluded, pool)

    return best_products if large and not masked and not served.model.gated else best


def _similar_of(shapes: Shapes) -> Callable[..., Any]:
    def similar(
        vectors: jax.Array, inverse_norms: jax.Array, rows: jax.Array, available: jax.Array
    ) -> Best:
        unit = vectors[rows] * inverse_norms[rows, None]
        if shapes.capacity > MOST_UNBLOCKED:
            factors = jnp.where(available, inverse_norms, jnp.nan)
            return top_products(unit, vectors, factors, rows[:, None], shapes.pool)
        cosines = jnp.where(available, (unit @ vectors.T) * inverse_norms, -jnp.inf)
        cosines = cosines.at[jnp.arange(len(rows)), rows].set(-jnp.inf)
        return top_k(cosines, shapes.pool)

    return similar


def _write(catalogue: Any, rows: Any, positions: jax.Array) -> Any:
    """Writes rows [n, ...] at the positions [n] into trees of [C, ...] arrays; a position past the end is dropped."""
    return jax.tree.map(lambda old, new: old.at[positions].set(new, mode="drop"), catalogue, rows)


def _compiled(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    compiled: Callable[..., Any] = jax.jit(function).lower(*arguments).compile()
    return compiled
