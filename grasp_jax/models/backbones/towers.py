"""A backbone for each tower of late fusion (`encoders.towers`): the same kind, with parameters and dropout of its own."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.backbones.base import AroundBackbone


class Towers(AroundBackbone):
    """States of several backbones, side by side.

    Attributes:
      backbone: what each tower has a copy of, D wide.
      dropouts: of each tower its rate of dropout, or None for the rate that the config's `model.dropout` gives.
    """

    dropouts: Sequence[float | None]

    @nn.compact
    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Item vectors [R, L, n * D] -> states [R, L, n * D]; of [B] `places` alone, [B, n * D]."""
        views = jnp.split(vectors, len(self.dropouts), axis=-1)
        states = []
        for k, (view, own) in enumerate(zip(views, self.dropouts, strict=True)):
            rate = dropout if own is None or dropout is None else jnp.float32(own)
            tower = self.backbone.clone(parent=self, name=f"tower{k}")
            states.append(tower(view, segments, positions, rate, places))
        return jnp.concatenate(states, axis=-1)
