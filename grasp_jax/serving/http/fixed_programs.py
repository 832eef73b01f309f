"""The programs of a served model, compiled at a few fixed shapes, so that no request waits for a compiler."""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.serving.programs import PRECISION, VECTORS, Answering, scores_of, states_of

LEFT_OUT = 256  # items to leave out of a person's list that are named one by one; more are given as a mask of the catalogue
WRITTEN = 256  # rows of new items that are written at once
ROUND, ROOM = (
    1024,
    512,
)  # a catalogue is filled up to a multiple of `ROUND`, with `ROOM` for new items at least


class Shapes(NamedTuple):
    """Which shapes are compiled.

    Attributes:
      batch_sizes: people at once, ascending.
      lengths: items of a history, ascending, the longest that the model reads the last one.
      capacity: C, rows of the catalogue with those that are still empty.
      pool: items that a program gives for each person, best first.
      width: D of the vectors that similar items are found by.
    """

    batch_sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    capacity: int
    pool: int
    width: int

    def batches(self, people: int) -> list[int]:
        """Sizes of batches that answer so many people together, none of them less than half full but for a smallest one."""
        found = []
        while people > 0:
            size = max(
                (size for size in self.batch_sizes if size <= 2 * people),
                default=self.batch_sizes[0],
            )
            found.append(size)
            people -= size
        return found

    def length(self, items: int) -> int:
        """The smallest length for a history of so many items."""
        return next(length for length in self.lengths if length >= items)


@dataclasses.dataclass(frozen=True)
class FixedPrograms:
    """Compiled programs.

    Attributes:
      key: equal for two models that the same programs serve.
      shapes: theirs.
      states: by (batch, length): parameters, items, histories, lengths and, with gates, two text vectors -> what is known of people.
      best: by (batch, whether a mask is given): parameters, people, items, open [C], items to leave out -> scores and rows [b, pool].
      similar: by batch: unit vectors [C, D], rows [b], open [C] -> cosines and rows [b, pool].
      write: items, unit vectors, `WRITTEN` rows of each and their places -> both with these rows.
    """

    key: Hashable
    shapes: Shapes
    states: Mapping[tuple[int, int], Callable[..., Any]]
    best: Mapping[tuple[int, bool], Callable[..., Any]]
    similar: Mapping[int, Callable[..., Any]]
    write: Callable[..., Any]


def capacity_for(num_items: int) -> int:
    """Rows for so many items and some more."""
    return -(-(num_items + ROOM) // ROUND) * ROUND


def key_of(of: Answering, shapes: Shapes) -> Hashable:
    """What decides the programs."""
    arrays = (("parameters", of.parameters), ("items", of.items))
    about = tuple(
        (kind, name, array.shape[kind == "items" :], str(array.dtype))
        for kind, named in arrays
        for name, array in sorted(named.items())
    )
    return of.model, of.max_history, of.query_dtype, about, shapes


def compile_programs(
    of: Answering, shapes: Shapes, goes_on: Callable[[], bool] = lambda: True
) -> FixedPrograms | None:
    """Compiles everything that requests will need.

    Args:
      of: the model; of its items only the shapes of a row are read.
      shapes: which shapes.
      goes_on: asked before each program; False gives up.

    Returns:
      The programs, or None where `goes_on` said so.
    """
    parameters = {
        name: _argument(array.shape, array.dtype) for name, array in of.parameters.items()
    }
    each = {
        name: _argument((shapes.capacity, *rows.shape[1:]), rows.dtype)
        for name, rows in of.items.items()
    }
    items = each if of.model.gated else each[VECTORS]
    unit = _argument((shapes.capacity, shapes.width), np.float32)
    is_open = _argument((shapes.capacity,), np.bool_)
    states, best, similar = {}, {}, {}
    with jax.default_matmul_precision(PRECISION):
        for b in shapes.batch_sizes:
            asked = [_argument((b,), np.int32)]
            if of.model.gated:
                asked += [_argument((b, of.items["items"].shape[1]), np.float32)] * 2
            for length in shapes.lengths:
                if not goes_on():
                    return None
                histories = _argument((b, length), np.int32)
                states[b, length] = _compiled(states_of(of), parameters, items, histories, *asked)
                person = jax.eval_shape(states_of(of), parameters, items, histories, *asked)
            left_out = {
                False: _argument((b, LEFT_OUT), np.int32),
                True: _argument((b, shapes.capacity), np.bool_),
            }
            for masked, argument in left_out.items():
                if not goes_on():
                    return None
                function = _best_of(of, shapes.pool, masked)
                best[b, masked] = _compiled(function, parameters, person, items, is_open, argument)
            rows = _argument((b,), np.int32)
            similar[b] = _compiled(_similar_of(shapes.pool), unit, rows, is_open)
    written = jax.tree.map(
        lambda whole: _argument((WRITTEN, *whole.shape[1:]), whole.dtype), (items, unit)
    )
    write = _compiled(_write, (items, unit), written, _argument((WRITTEN,), np.int32))
    return FixedPrograms(key_of(of, shapes), shapes, states, best, similar, write)


def blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """[n, ...] rows in blocks of `WRITTEN`, the last one filled up with zeros."""
    for begin in range(0, len(rows), WRITTEN):
        block = rows[begin : begin + WRITTEN]
        yield np.pad(block, [(0, WRITTEN - len(block)), *[(0, 0)] * (rows.ndim - 1)])


def _best_of(of: Answering, pool: int, masked: bool) -> Callable[..., Any]:
    score = scores_of(of)

    def best(
        parameters: Any, person: Any, items: Any, is_open: jax.Array, left_out: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        scores = jnp.where(is_open, score(parameters, person, items), -jnp.inf)
        if masked:
            scores = jnp.where(left_out, -jnp.inf, scores)
        else:
            people = jnp.arange(scores.shape[0])[:, None]
            there = jnp.where(left_out < 0, scores.shape[1], left_out)
            scores = scores.at[people, there].set(-jnp.inf, mode="drop")
        return jax.lax.top_k(scores, pool)

    return best


def _similar_of(pool: int) -> Callable[..., Any]:
    def similar(
        unit: jax.Array, rows: jax.Array, is_open: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        cosines = jnp.where(is_open, unit[rows] @ unit.T, -jnp.inf)
        cosines = cosines.at[jnp.arange(len(rows)), rows].set(-jnp.inf)
        return jax.lax.top_k(cosines, pool)

    return similar


def _write(whole: Any, rows: Any, places: jax.Array) -> Any:
    """Trees of [C, ...] with rows [n, ...] of others at places [n]; a place past the end is dropped."""
    return jax.tree.map(lambda old, new: old.at[places].set(new, mode="drop"), whole, rows)


def _compiled(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    compiled: Callable[..., Any] = jax.jit(function).lower(*arguments).compile()
    return compiled


def _argument(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.dtype(dtype))
