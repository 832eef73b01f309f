"""What stands in place of a backbone where nothing is trained: states that are a formula of the items of a history."""

import jax
import jax.numpy as jnp

from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.unit import unit


class SameForAll(Backbone):
    """The state [1.] at every place, so that a score is the item's own number."""

    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """[R, L, 1] ones; with [B] `places`, [B, 1]."""
        return jnp.ones((*(segments.shape if places is None else places.shape), 1))


class PooledHistory(Backbone):
    """The state at a place is the direction of a weighted sum of the vectors up to it.

    Attributes:
      decay: weight of an item beside that of the item after it: 1 weighs all alike, 0 reads the newest alone.
    """

    decay: float

    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Item vectors [R, L, D] -> states [R, L, D] of length 1; of [B] `places` alone, [B, D]."""
        length = segments.shape[1]
        age = jnp.arange(length)[:, None] - jnp.arange(length)  # [L, L] of the item, at a place
        weights = jnp.where(age >= 0, jnp.float32(self.decay) ** jnp.maximum(age, 0), 0.0)
        same = (segments[:, :, None] == segments[:, None, :]) & (segments >= 0)[:, None, :]
        states = unit(jnp.einsum("rqk,rkd->rqd", weights * same, vectors))
        return states if places is None else states.reshape(-1, states.shape[-1])[places]
