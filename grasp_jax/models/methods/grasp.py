"""GRASP (arXiv 2511.20177) and the ablations of its Table 4, which differ in the gate and in the attentions that are used."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp

from grasp_jax.config import ModelConfig
from grasp_jax.models.encoders.holistic import HolisticEncoder
from grasp_jax.models.frozen import ITEM_TABLES, Bank, FrozenTable, of_bank
from grasp_jax.models.methods.base import Facts, Method, ModelSizes


def mlp_parameters(config: ModelConfig, width: int) -> int:
    """Weights of the MLP of Eq. 5, which reads four vectors of the width E; 0 if it is not known yet."""
    if not width:
        return 0
    widths = (4 * width, *config.mlp, config.features)
    return sum(a * b for a, b in itertools.pairwise(widths))


@dataclasses.dataclass(frozen=True)
class GRASP(Method):
    """Holistic attention over text.

    Attributes:
      gate: a kind of `gates.pair_gates`; "": the kind of the config.
      keep: which of the self, similar and global attentions are used.
    """

    gate: str = ""
    keep: tuple[bool, bool, bool] = (True, True, True)

    needs_bank: ClassVar[bool] = True

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> HolisticEncoder:
        """`HolisticEncoder` with the config's fields."""
        return HolisticEncoder(
            width=sizes.width,
            features=config.features,
            hidden=tuple(config.mlp),
            gate=self.gate or config.gate,
            row_norm=config.row_norm,
            keep=self.keep,
            dtype=jnp.dtype(config.dtype),
            scale=config.gate_scale,
        )

    def item_parameters(self, config: ModelConfig, sizes: ModelSizes) -> int:
        """The weights of the MLP."""
        return mlp_parameters(config, sizes.width)

    def gated(self, config: ModelConfig) -> bool:
        """True unless the gate is "none"."""
        return bool((self.gate or config.gate) != "none")

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """Items, and the means of their neighbours."""
        return [of_bank(bank, name) for name in ITEM_TABLES]
