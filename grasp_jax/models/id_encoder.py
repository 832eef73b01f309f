"""The plain backbone's item vectors: one trained row per item. Has the same methods as `HolisticEncoder`."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp


class UngatedEncoder(nn.Module):
    """Base of encoders whose item vectors are the same for every user; a score is o . v.

    A subclass sets `features`, the width of a vector, and has `item_features(tables, ids)`, which gives the vectors themselves.
    """

    def gates(self, logits: jax.Array | None, normaliser: jax.Array | None = None) -> None:
        """Vectors that no user changes have no gate."""
        return None

    def head_input(self, vectors: jax.Array, gates: None) -> jax.Array:
        """The vectors themselves: the score is their product with o."""
        return vectors

    def finish(self, head: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        return head

    def __call__(self, vectors: jax.Array, gates: None) -> jax.Array:
        """[..., D] -> [..., D]."""
        return vectors

    def last_layer(self, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Score weights and offset: o and 0."""
        return states, jnp.zeros(states.shape[:-1])

    def score_all(self, vectors: jax.Array, states: jax.Array, gates: None) -> jax.Array:
        """Scores of all pairs: [C, D] and [B, D] -> [B, C]."""
        return jnp.einsum("bd,cd->bc", states, vectors)


def id_rows(table: jax.Array, tables: Mapping[str, jax.Array], ids: jax.Array) -> jax.Array:
    """[V, D] -> [T, D] ID vectors; a training step that keeps the table elsewhere gives them itself, as "id_rows" among the tables."""
    return tables["id_rows"] if "id_rows" in tables else table[ids]


class IdEncoder(UngatedEncoder):
    """An ID table [V, D]; knowledge plays no part."""

    num_items: int
    features: int

    def setup(self) -> None:
        self.table = self.param("table", nn.initializers.xavier_normal(), (self.num_items, self.features))

    def item_features(self, tables: Mapping[str, jax.Array], ids: jax.Array | None = None) -> jax.Array:
        """[...] item rows -> [..., D]; the whole table for None."""
        return self.table if ids is None else id_rows(self.table, tables, ids)
