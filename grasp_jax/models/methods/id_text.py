"""The simplest combinations of ID and text vectors: sum, or concatenation mapped to D (`encoders.id_text`); trained by cross-entropy."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp

from grasp_jax.config import ModelConfig
from grasp_jax.models.encoders.id_text import IdTextEncoder
from grasp_jax.models.frozen import Bank, FrozenTable, of_bank
from grasp_jax.models.methods.base import Facts, Method, ModelSizes


@dataclasses.dataclass(frozen=True)
class IdText(Method):
    """An ID vector and a linear map of text.

    Attributes:
      concatenates: whether they are concatenated instead of added.
    """

    concatenates: bool = False

    needs_bank: ClassVar[bool] = True
    loss: ClassVar[str] = "ce"

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> IdTextEncoder:
        """`IdTextEncoder` with the config's fields."""
        return IdTextEncoder(
            sizes.num_items,
            sizes.width,
            config.features,
            config.row_norm,
            self.concatenates,
            jnp.dtype(config.dtype),
        )

    def item_parameters(self, config: ModelConfig, sizes: ModelSizes) -> int:
        """V x D of IDs, E x D of the text and, for concatenation, 2D x D."""
        joined = 2 * config.features if self.concatenates else 0
        return (sizes.num_items + sizes.width + joined) * config.features

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """Item text."""
        return [of_bank(bank, "items")]
