"""Models trained together along a leading axis M: what tells them apart, and the parts of a tree that are some of theirs.

What goes to the device here goes by `jax.device_put`, for a copy that nobody sees would make the device wait (`jax.transfer_guard`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Replica:
    """One of the models trained together."""

    seed: int
    dropout: float
    learning_rate: float

    @property
    def name(self) -> str:
        """A name that distinguishes it from the other replicas and can name a folder."""
        return f"seed{self.seed}-dropout{self.dropout}-rate{self.learning_rate}"


class PerReplica(NamedTuple):
    """Values that a step reads for each model: [M] random keys, and [M] float32 of each rate."""

    keys: jax.Array
    dropout: jax.Array
    learning_rate: jax.Array


def per_replica(
    replicas: Sequence[Replica], put: Callable[[Any], Any] = jax.device_put
) -> PerReplica:
    """Copies them to the device, or to the place that `put` decides."""
    rates = np.array([(replica.dropout, replica.learning_rate) for replica in replicas], np.float32)
    return PerReplica(
        _keys(put(np.array([replica.seed for replica in replicas]))),
        put(rates[:, 0]),
        put(rates[:, 1]),
    )


_keys = jax.jit(jax.vmap(jax.random.key))


def take(tree: Any, rows: jax.Array | None) -> Any:
    """Leaves [M, ...] -> [M', ...] of the models `rows` [M']; None: of all, without a copy."""
    return tree if rows is None else _rows(tree, rows)


def one_of(tree: Any, row: int) -> Any:
    """Leaves [M, ...] -> [...] of one model."""
    return _rows(tree, jax.device_put(np.int32(row)))


def put(tree: Any, part: Any, rows: jax.Array | None) -> Any:
    """Leaves [M, ...] with those of `part`, [M', ...], for the models `rows`; None: `part` is all of them."""
    return part if rows is None else _with_rows(tree, part, rows)


@jax.jit
def _rows(tree: Any, rows: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


@jax.jit
def _with_rows(tree: Any, part: Any, rows: jax.Array) -> Any:
    return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), tree, part)
