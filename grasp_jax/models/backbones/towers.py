"""A backbone for each tower of late fusion (`encoders.towers`): the same kind, with parameters and dropout of its own."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.backbones.base import AroundBackbone
from grasp_jax.models.backbones.fixed import PooledHistory
from grasp_jax.models.batch import parts_of_towers

PART_WEIGHTS = "part_weights"  # [P] by which the states of each part are multiplied


class Towers(AroundBackbone):
    """States of several backbones, side by side.

    Attributes:
      backbone: what each tower has a copy of, D wide.
      features: D, of one tower.
      dropouts: of each tower its rate of dropout, or None for the rate that the config's `model.dropout` gives.
      match_decay: `decay` of `PooledHistory`, which makes the history's side of the match, the text after the towers, if there is any.
      kinds: name of each tower, and of the match where there is one, as `config.model.PARTS` has them. Empty: all count, always.
      counted: the names of those that count outside of training; None: all, until `training.parts` chooses.
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
        """Item vectors [R, L, n * D + E] -> states [R, L, n * D + E]; of [B] `places` alone, [B, n * D + E]."""
        widths = [self.features] * len(self.dropouts)
        views = parts_of_towers(vectors, widths)
        states = []
        for k, (view, own) in enumerate(zip(views, self.dropouts, strict=True)):
            rate = dropout if own is None or dropout is None else jnp.float32(own)
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
        """[P] float32: 1 for the parts that count, else 0. Training leaves it as it is."""
        counted = self.kinds if self.counted is None else self.counted
        return jnp.array([float(kind in counted) for kind in self.kinds], jnp.float32)
