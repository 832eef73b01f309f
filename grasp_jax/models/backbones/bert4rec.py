"""BERT4Rec (Sun et al., 2019, arXiv 1904.06690) over packed rows: items are hidden behind a mask and looked for from both sides.

The blocks are SASRec's without the causal mask, as in LLM-ESR, whose rows the paper reports. The mask is a vector of the sequence model;
which items are hidden in training is `training.targets`' business.
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
            config.features,
            max_length,
            config.num_layers,
            config.num_heads,
            dtype=jnp.dtype(config.dtype),
            block=config.block,
            padded_length=config.padded_length,
            kernels=config.kernels,
        )
