"""What a sequence model asks of a backbone."""

from typing import ClassVar

import flax.linen as nn
import jax

from grasp_jax.config import ModelConfig


def backbone_kernels(config: ModelConfig) -> str:
    """What `config.kernels` says to a backbone: auto, xla or pallas."""
    return "pallas" if config.kernels == "backbone" else config.kernels


class Backbone(nn.Module):
    """From the item vectors of packed histories to a state at each place, whose product with an item's vector is a score.

    The defaults are those of a causal backbone: the state at a place predicts the item after it, and depends on no later item.

    Attributes of the class:
      bidirectional: items are hidden behind a mask in training, and the state at a mask predicts the item that it hides.
    """

    bidirectional: ClassVar[bool] = False

    @property
    def is_causal(self) -> bool:
        """Whether a state depends on no later place. Where it does, and nothing is masked, the last item of a history is not shown."""
        return True

    @property
    def mask_at(self) -> str:
        """Where histories have a mask that is no item: "" (nowhere), or START or END of `data.packing`."""
        return ""

    def without_input_stage(self) -> "Backbone | None":
        """The same layers over vectors that are scaled by sqrt(D), have their positions and have dropped out already.

        None where the backbone does not do that itself, or cannot leave it out: then nobody else may do it before.
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
          segments: [R, L] int32 user row, -1 where empty; histories of one row must not mix.
          positions: [R, L] int32 position within the history.
          dropout: [] the rate, which needs the random stream "dropout"; None outside of training.
          places: [B] int32 places, row * L + column, whose states alone are wanted; None: all.

        Returns:
          o [R, L, D] float32; with `places`, [B, D].
        """
        raise NotImplementedError


class AroundBackbone(Backbone):
    """A backbone that holds another, and sees histories as that one does.

    Attributes:
      backbone: the one that it holds.
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
