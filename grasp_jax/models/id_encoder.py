"""The plain backbone's item vectors: one trained row per item. Has the same methods as `HolisticEncoder`."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class IdEncoder(nn.Module):
    """An ID table [V, D]; gates and knowledge play no part."""

    num_items: int
    features: int

    def setup(self) -> None:
        self.table = self.param("table", nn.initializers.xavier_normal(), (self.num_items, self.features))

    def lookup(self, ids: jax.Array) -> jax.Array:
        """[...] item rows -> [..., D]."""
        return self.table[ids]

    def gates(self, logits: jax.Array | None, normaliser: jax.Array | None = None) -> None:
        """An ID vector has no gate."""
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
