"""Scores by cosine, for any backbone: its states are scaled to length 1 and divided by a temperature."""

import jax

from grasp_jax.models.backbones.base import BackboneWrapper
from grasp_jax.models.unit import unit


class CosineStates(BackboneWrapper):
    """A backbone's states o as o / |o| / temperature; with item vectors of length 1 a score is a cosine over the temperature.

    Attributes:
      backbone: computes the states.
      temperature: divisor of the cosines.
    """

    temperature: float

    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Item vectors [R, L, D] -> states [R, L, D]; with [B] `places`, only their states [B, D]."""
        return unit(self.backbone(vectors, segments, positions, dropout, places)) / self.temperature
