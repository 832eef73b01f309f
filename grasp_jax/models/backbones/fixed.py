"""Backbones without parameters, for methods that are not trained: states computed from a history by a formula."""

import jax
import jax.numpy as jnp

from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.unit import unit


class ConstantState(Backbone):
    """The state [1.] at every place, so that a score equals the item's vector [1]."""

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
    """The state at a place is a weighted sum of the vectors up to it, scaled to length 1.

    Attributes:
      decay: weight of an item relative to the item after it: with 1 all items weigh the same, with 0 only the newest one counts.
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
        """Item vectors [R, L, D] -> states [R, L, D] of length 1; with [B] `places`, only their states [B, D]."""
        length = segments.shape[1]
        # [L, L] weight of an item at a place
        age = jnp.arange(length)[:, None] - jnp.arange(length)
        weights = jnp.where(age >= 0, jnp.float32(self.decay) ** jnp.maximum(age, 0), 0.0)
        same = (segments[:, :, None] == segments[:, None, :]) & (segments >= 0)[:, None, :]
        states = unit(jnp.einsum("rqk,rkd->rqd", weights * same, vectors))
        return states if places is None else states.reshape(-1, states.shape[-1])[places]
