"""A backbone for each tower of late fusion (`encoders.towers`): all of the same kind, with separate parameters and dropout."""

from collections.abc import Sequence
from typing import TypeGuard

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.backbones.base import Backbone, BackboneWrapper
from grasp_jax.models.backbones.fixed import PooledHistory
from grasp_jax.models.batch import split_towers

PART_WEIGHTS = "part_weights"  # [n] factors of the states of each part


class Towers(BackboneWrapper):
    """Concatenated states of several backbones.

    Attributes:
      backbone: each tower has a copy of it, of width D.
      features: D, the width of one tower.
      dropouts: dropout rate of each tower, or None for the rate of the config's `model.dropout`.
      match_decay: `decay` of `PooledHistory`, which computes the history's vector for the match, if item vectors have a text after the
        towers.
      kinds: name of each tower, and of the match if there is one, as in `config.model.PARTS`. Empty: all parts always count.
      counted: names of the parts that count outside training; None: all, until `training.fusion_weights` chooses.
    """

    features: int
    dropouts: Sequence[float | None]
    match_decay: float = 1.0
    kinds: Sequence[str] = ()
    counted: Sequence[str] | None = None

    @nn.compact
    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Item vectors [R, L, n * D + E] -> states [R, L, n * D + E]; with [B] `places`, only their states [B, n * D + E]."""
        widths = [self.features] * len(self.dropouts)
        views = split_towers(vectors, widths)
        states = []
        for k, (view, tower_rate) in enumerate(zip(views, self.dropouts, strict=True)):
            rate = dropout if tower_rate is None or dropout is None else jnp.float32(tower_rate)
            tower = self.backbone.clone(parent=self, name=f"tower{k}")
            states.append(tower(view, segments, positions, rate, places))
        text = vectors[..., sum(widths) :]
        if text.shape[-1]:
            pooled = PooledHistory(self.match_decay)
            states.append(pooled(text, segments, positions, None, places))
        if self.kinds:
            weights = self.param(PART_WEIGHTS, self._counted_at_start)
            if dropout is None:  # each tower is trained as if it were alone
                states = [weight * state for weight, state in zip(weights, states, strict=True)]
        return jnp.concatenate(states, axis=-1)

    def _counted_at_start(self, _: jax.Array) -> jax.Array:
        """[n] float32, one for each part: 1 for the parts that count, otherwise 0. Training does not change it."""
        counted = self.kinds if self.counted is None else self.counted
        return jnp.array([float(kind in counted) for kind in self.kinds], jnp.float32)


def validation_chooses_parts(backbone: Backbone) -> TypeGuard[Towers]:
    """Whether validation chooses how much each part of a backbone's states counts: it has such parts, and the config names none."""
    return isinstance(backbone, Towers) and bool(backbone.kinds) and backbone.counted is None
