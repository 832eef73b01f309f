"""Scores by cosine, whatever the backbone: its states are made one long and divided by a temperature."""

import jax

from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.unit import unit


class CosineStates(Backbone):
    """A backbone's states o as o / |o| / temperature; with item vectors of length 1 a score is a cosine over the temperature.

    Attributes:
      backbone: whose states they are.
      temperature: by which cosines are divided.
    """

    backbone: Backbone
    temperature: float

    @property
    def bidirectional(self) -> bool:  # type: ignore[override]
        """As the backbone."""
        return self.backbone.bidirectional

    @property
    def is_causal(self) -> bool:
        """As the backbone."""
        return self.backbone.is_causal

    @property
    def mask_at(self) -> str:
        """As the backbone's."""
        return self.backbone.mask_at

    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Item vectors [R, L, D] -> states [R, L, D]; of [B] `places` alone, [B, D]."""
        return unit(self.backbone(vectors, segments, positions, dropout, places)) / self.temperature
