"""Our own: GRASP's text with other parts, each a field of `config.model.plus` or `config.train`.

Text knowledge as in GRASP, without the gates, which hardly move as published; an ID residual that is trusted as far as an item has been
seen; and a softmax over negatives that the whole batch shares.
"""

from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp

from grasp_jax.config import ModelConfig
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.holistic import HolisticEncoder
from grasp_jax.models.encoders.residual import ResidualEncoder
from grasp_jax.models.frozen import ITEM_TABLES, Bank, FrozenTable, of_bank
from grasp_jax.models.methods.base import Facts, Method, ModelSizes


class GRASPPlus(Method):
    """Text, and an ID residual."""

    needs_bank: ClassVar[bool] = True
    loss: ClassVar[str] = "softmax"

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> ItemEncoder:
        """`ResidualEncoder`, or `HolisticEncoder` where the residual is switched off."""
        plus = config.plus
        text = HolisticEncoder(
            width=sizes.width,
            features=config.features,
            hidden=tuple(config.mlp),
            gate=plus.gate,
            row_norm=plus.row_norm,
            dtype=jnp.dtype(config.dtype),
            scale=config.gate_scale,
            gate_dropout=config.gate_dropout,
        )
        return ResidualEncoder(text, sizes.num_items, plus.id_dropout) if plus.id_residual else text

    def gated(self, config: ModelConfig) -> bool:
        """Unless the gate is "none"."""
        return bool(config.plus.gate != "none")

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """Items, their neighbours' means, and the "trust" n / (n + c) of each item."""
        n, c = facts.item_counts, facts.config.plus.id_trust
        trust = n / (n + c) if c else n >= 0
        return [
            *(of_bank(bank, name) for name in ITEM_TABLES),
            FrozenTable("trust", trust.astype("float32")),
        ]
