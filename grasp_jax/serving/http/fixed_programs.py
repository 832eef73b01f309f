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
    gates_of,
    scores_of,
    states_of,
)

# largest number of excluded items that are passed as a list; more are passed as a mask of the catalogue
LEFT_OUT = 256
WRITTEN = 256  # rows of new items that one call writes
WHOLE = (
    2 * BLOCK
)  # up to so many rows all scores are kept in memory; a larger catalogue is scored in blocks
SMALL_SIZES = (1, 8, 64)  # people at once, of a catalogue of up to `WHOLE` rows
LARGE_SIZES = (1, 8, 16, 32, 64)  # of a larger one, where people who only fill up take long
GATED_BLOCK = 8192  # rows of a block for gated models, which compute more than a score for each row
ROUND, ROOM = (
    1024,
    512,
)  # a catalogue is padded to a multiple of `ROUND`, with room for at least `ROOM` new items


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

    def batch(self, people: int) -> int:
        """The size of the next batch where so many people, one at least, wait.

        The next larger size is filled up if it is half full and the next smaller one would leave a third of the people waiting; otherwise
        the smaller one is full, and those who are left may share the next batch with people who have come meanwhile.
        """
        full = [size for size in self.batch_sizes if size <= people]
        larger = [size for size in self.batch_sizes if size > people]
        if not full:
            return larger[0]
        fills_up = larger and larger[0] <= 2 * people and 2 * people >= 3 * full[-1]
        return larger[0] if fills_up else full[-1]

    def parts(self, people: Sequence[Any]) -> Iterator[tuple[Sequence[Any], int]]:
        """People who are answered together, batch by batch, and the size of the batch."""
        begin = 0
        while begin < len(people):
            size = self.batch(len(people) - begin)
            yield people[begin : begin + size], size
            begin += size

    def length(self, items: int) -> int:
        """The smallest length for a history of so many items."""
        return next(length for length in self.lengths if length >= items)


class Placed(NamedTuple):
    """A catalogue on the device, padded to C rows; or the shapes of one; or rows to be written into one.

    Attributes:
      items: the arrays of items that programs read, as `programs.scores_of` takes them; without gates the item vectors.
      alone: [C, D] float32 vectors with which a gated model compares items with each other; None: `items` has these vectors.
      inverse: [C] float32 one over the length of each vector.
    """

    items: Any
    alone: Any
    inverse: Any

    @property
    def vectors(self) -> jax.Array:
        """[C, D] float32 vectors with which items are compared with each other."""
        found: jax.Array = self.items if self.alone is None else self.alone
        return found


@dataclasses.dataclass(frozen=True)
class FixedPrograms:
    """Compiled programs.

    Attributes:
      key: equal for two models that can use the same programs.
      shapes: the shapes of the programs.
      states: by (batch, length): parameters, items, histories, lengths and, with gates, two text vectors -> states of people.
      best: by (batch, whether a mask is given): parameters, people, items, open [C], items to leave out -> scores and rows [b, pool].
      gates: by batch, only for a gated model: parameters, people, items, rows [b, pool] -> gates [b, pool, 3].
      similar: by batch: vectors [C, D], their inverse lengths [C], rows [b], open [C] -> cosines and rows [b, pool].
      write: a tree of [C, ...] arrays, `WRITTEN` rows of each and their places -> the tree with these rows.
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
    return -(-(num_items + ROOM) // ROUND) * ROUND


def batch_sizes_for(capacity: int) -> tuple[int, ...]:
    """People at once, ascending, of a catalogue of so many rows, where nobody says otherwise."""
    return SMALL_SIZES if capacity <= WHOLE else LARGE_SIZES


def key_of(of: ServedModel, shapes: Shapes) -> Hashable:
    """Everything that the programs depend on."""
    arrays = (("parameters", of.parameters), ("items", of.items))
    about = tuple(
        (kind, name, array.shape[kind == "items" :], str(array.dtype))
        for kind, named in arrays
        for name, array in sorted(named.items())
    )
    return of.model, of.max_history, of.query_dtype, about, shapes


def compile_programs(
    of: ServedModel, shapes: Shapes, keep_going: Callable[[], bool] = lambda: True
) -> FixedPrograms | None:
    """Compiles all programs that requests will need.

    Args:
      of: the model; of its items only the shape of a row is used.
      shapes: which shapes.
      keep_going: called before each compilation; if it returns False, the compilation is abandoned.

    Returns:
      The programs, or None if `keep_going` returned False.
    """
    parameters = {
        name: _argument(array.shape, array.dtype) for name, array in of.parameters.items()
    }
    each = {
        name: _argument((shapes.capacity, *rows.shape[1:]), rows.dtype)
        for name, rows in of.items.items()
    }
    items = each if of.model.gated else each[VECTORS]
    vectors = _argument((shapes.capacity, shapes.width), np.float32)
    inverse = _argument((shapes.capacity,), np.float32)
    is_open = _argument((shapes.capacity,), np.bool_)
    states, best, gates, similar = {}, {}, {}, {}
    with jax.default_matmul_precision(PRECISION):
        for b in shapes.batch_sizes:
            asked = [_argument((b,), np.int32)]
            if of.model.gated:
                asked += [_argument((b, of.items["items"].shape[1]), np.float32)] * 2
            for length in shapes.lengths:
                if not keep_going():
                    return None
                histories = _argument((b, length), np.int32)
                states[b, length] = _compiled(states_of(of), parameters, items, histories, *asked)
                person = jax.eval_shape(states_of(of), parameters, items, histories, *asked)
            left_out = {
                False: _argument((b, LEFT_OUT), np.int32),
                True: _argument((b, shapes.capacity), np.bool_),
            }
            for masked, argument in left_out.items():
                if not keep_going():
                    return None
                function = _best_of(of, shapes, masked)
                best[b, masked] = _compiled(function, parameters, person, items, is_open, argument)
            if of.model.gated:
                shown = _argument((b, shapes.pool), np.int32)
                gates[b] = _compiled(gates_of(of), parameters, person, items, shown)
            rows = _argument((b,), np.int32)
            similar[b] = _compiled(_similar_of(shapes), vectors, inverse, rows, is_open)
    whole = Placed(items, vectors if of.model.gated else None, inverse)
    written = jax.tree.map(lambda rows: _argument((WRITTEN, *rows.shape[1:]), rows.dtype), whole)
    write = _compiled(_write, whole, written, _argument((WRITTEN,), np.int32))
    return FixedPrograms(key_of(of, shapes), shapes, states, best, gates, similar, write)


def blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """[n, ...] rows in blocks of `WRITTEN`; the last block is padded with zeros."""
    for begin in range(0, len(rows), WRITTEN):
        block = rows[begin : begin + WRITTEN]
        yield np.pad(block, [(0, WRITTEN - len(block)), *[(0, 0)] * (rows.ndim - 1)])


def _best_of(of: ServedModel, shapes: Shapes, masked: bool) -> Callable[..., Any]:
    score, capacity, pool = scores_of(of), shapes.capacity, shapes.pool
    large = capacity > WHOLE
    block = min(capacity, GATED_BLOCK if of.model.gated else BLOCK) if large else capacity

    def best(
        parameters: Any, person: Any, items: Any, is_open: jax.Array, left_out: jax.Array
    ) -> Best:
        def of_block(first: jax.Array) -> jax.Array:
            def rows_of(whole: jax.Array, axis: int = 0) -> jax.Array:
                return jax.lax.dynamic_slice_in_dim(whole, first, block, axis)

            scores = score(parameters, person, jax.tree.map(rows_of, items))
            scores = jnp.where(rows_of(is_open), scores, -jnp.inf)
            if masked:
                return jnp.where(rows_of(left_out, 1), -jnp.inf, scores)
            people = jnp.arange(scores.shape[0])[:, None]
            there = jnp.where(left_out < first, block, left_out - first)
            return scores.at[people, there].set(-jnp.inf, mode="drop")

        return top_k_in_blocks(of_block, capacity, pool, block)

    def best_products(
        _: Any, states: jax.Array, vectors: jax.Array, is_open: jax.Array, left_out: jax.Array
    ) -> Best:
        return top_products(states, vectors, jnp.where(is_open, 1.0, jnp.nan), left_out, pool)

    return best_products if large and not masked and not of.model.gated else best


def _similar_of(shapes: Shapes) -> Callable[..., Any]:
    def similar(
        vectors: jax.Array, inverse: jax.Array, rows: jax.Array, is_open: jax.Array
    ) -> Best:
        unit = vectors[rows] * inverse[rows, None]
        if shapes.capacity > WHOLE:
            factors = jnp.where(is_open, inverse, jnp.nan)
            return top_products(unit, vectors, factors, rows[:, None], shapes.pool)
        cosines = jnp.where(is_open, (unit @ vectors.T) * inverse, -jnp.inf)
        cosines = cosines.at[jnp.arange(len(rows)), rows].set(-jnp.inf)
        return top_k(cosines, shapes.pool)

    return similar


def _write(whole: Any, rows: Any, places: jax.Array) -> Any:
    """Writes rows [n, ...] at the positions [n] into trees of [C, ...] arrays; a position past the end is dropped."""
    return jax.tree.map(lambda old, new: old.at[places].set(new, mode="drop"), whole, rows)


def _compiled(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    compiled: Callable[..., Any] = jax.jit(function).lower(*arguments).compile()
    return compiled


def _argument(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.dtype(dtype))
