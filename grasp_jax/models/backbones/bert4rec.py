"""BERT4Rec (Sun et al., 2019, arXiv 1904.06690) over packed rows: predicts masked items from the items before and after them.

The blocks are SASRec's without the causal mask, as in LLM-ESR, whose results the paper reports. The mask vector is a parameter of the
sequence model, and `training.targets` decides which items are masked in training.
"""

from typing import ClassVar

import jax.numpy as jnp

from grasp_jax.config import ModelConfig
from grasp_jax.data.packing import END
from grasp_jax.models.backbones.sasrec import SASRec


class BERT4Rec(SASRec):
    """The state at a masked position predicts the item that the mask hides; see `SASRec` for the attributes."""

    causal: bool = False

    bidirectional: ClassVar[bool] = True

    @property
    def mask_at(self) -> str:
        """After the newest item: "what comes next?"."""
        return END

    @classmethod
    def from_config(cls, config: ModelConfig, max_length: int) -> "BERT4Rec":
        """As `SASRec.from_config`; `config.causal` is SASRec's alone."""
        return cls(
            features=config.features,
            max_length=max_length,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            dtype=jnp.dtype(config.dtype),
            block=config.block,
            padded_length=config.padded_length,
            kernels=config.kernels,
        )
