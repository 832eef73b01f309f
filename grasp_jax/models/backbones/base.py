"""The interface between a sequence model and its backbone."""

from typing import ClassVar

import flax.linen as nn
import jax

from grasp_jax.config import ModelConfig


class Backbone(nn.Module):
    """Computes a state at each place from the item vectors of packed histories. The inner product of a state and an item's vector is a
    score.

    The defaults are those of a causal backbone: the state at a place predicts the next item, and does not depend on later items.

    Attributes of the class:
      bidirectional: whether items are masked in training, so that the state at a mask predicts the masked item.
    """

    bidirectional: ClassVar[bool] = False

    @property
    def is_causal(self) -> bool:
        """Whether a state does not depend on later places. If it does and nothing is masked, the backbone does not see the last item of a
        history.
        """
        return True

    @property
    def mask_at(self) -> str:
        """Where histories have an additional mask: "" (nowhere), or START or END of `data.packing`."""
        return ""

    def without_input_stage(self) -> "Backbone | None":
        """The same layers without the input stage: the vectors are already scaled by sqrt(D), have position embeddings, and have passed
        dropout.

        None if the backbone has no such stage or cannot omit it; then no other module may apply the stage before.
        """
        return None

    @classmethod
    def from_config(cls, config: ModelConfig, max_length: int) -> "Backbone":
        """The backbone of a config's `model` section, for histories of up to `max_length` places."""
        raise NotImplementedError

    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """States of packed histories.

        Args:
          vectors: [R, L, D] item vectors.
          segments: [R, L] int32 user row, -1 for an empty place; a state must depend on its own history only.
          positions: [R, L] int32 position within the history.
          dropout: [] the rate, which needs the random stream "dropout"; None outside training.
          places: [B] int32 places, row * L + column, for which states are computed; None: all places.

        Returns:
          o [R, L, D] float32; with `places`, [B, D].
        """
        raise NotImplementedError


class BackboneWrapper(Backbone):
    """A backbone that contains another one, and reads histories in the same direction and with the same masks.

    Attributes:
      backbone: the contained backbone.
    """

    backbone: Backbone

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
