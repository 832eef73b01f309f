"""Models trained together along a leading axis M: their seeds and rates, and the arrays of some of them.

Arrays are copied to the device by `jax.device_put`, because an implicit copy would make the device wait (see `jax.transfer_guard`).
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
    """The keys and rates of replicas, put on the device by `put`."""
    rates = np.array([(replica.dropout, replica.learning_rate) for replica in replicas], np.float32)
    return PerReplica(
        _keys(put(np.array([replica.seed for replica in replicas]))),
        put(rates[:, 0]),
        put(rates[:, 1]),
    )


_keys = jax.jit(jax.vmap(jax.random.key))


def take_replicas(tree: Any, rows: jax.Array | None) -> Any:
    """The arrays of some models: leaves [M, ...] -> [M', ...] for the models `rows` [M']. None: all models, without a copy."""
    return tree if rows is None else _gather(tree, rows)


def one_replica(tree: Any, row: int) -> Any:
    """The arrays of one model: leaves [M, ...] -> [...]."""
    return _gather(tree, jax.device_put(np.int32(row)))


def put_replicas(tree: Any, part: Any, rows: jax.Array | None) -> Any:
    """The tree with leaves [M, ...] in which `part` [M', ...] replaces the models `rows` [M']. None: `part` has all models."""
    return part if rows is None else _scatter(tree, part, rows)


@jax.jit
def _gather(tree: Any, rows: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


@jax.jit
def _scatter(tree: Any, part: Any, rows: jax.Array) -> Any:
    return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), tree, part)
