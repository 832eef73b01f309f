"""Baselines without training: the most popular items, and the items with the most similar texts.

Both replace the backbone of the config by a formula, so their results do not depend on it.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from grasp_jax.config import ModelConfig
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.backbones.fixed import ConstantState, PooledHistory
from grasp_jax.models.encoders.fixed import CountEncoder, UnitTextEncoder
from grasp_jax.models.frozen import Bank, FrozenTable, of_bank
from grasp_jax.models.methods.base import Facts, Method, ModelSizes


class Popularity(Method):
    """The score of an item is its number of training interactions, the same for everybody."""

    trained: ClassVar[bool] = False

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> CountEncoder:
        """`CountEncoder`."""
        return CountEncoder()

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """[V, 1] float32 counts, exact up to 2^24."""
        return [FrozenTable("counts", facts.item_counts[:, None].astype(np.float32))]

    def around_backbone(
        self, backbone: Backbone, config: ModelConfig, max_length: int
    ) -> ConstantState:
        """The same state for everybody."""
        return ConstantState()


class SemanticNeighbours(Method):
    """The score of an item is the cosine of its text vector and a weighted sum of those of the user's history; newer items weigh more."""

    trained: ClassVar[bool] = False
    needs_bank: ClassVar[bool] = True

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> UnitTextEncoder:
        """`UnitTextEncoder`, E wide."""
        return UnitTextEncoder(sizes.width)

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """Item text."""
        return [of_bank(bank, "items")]

    def around_backbone(
        self, backbone: Backbone, config: ModelConfig, max_length: int
    ) -> PooledHistory:
        """A weighted sum of the history."""
        return PooledHistory(config.semantic_neighbours.decay)
