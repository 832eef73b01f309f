"""UniSRec (Hou et al., KDD 2022, arXiv 2206.05941): text vectors through a mixture of whitening experts, cosine scores, cross-entropy.

It is trained as by its public code (https://github.com/RUCAIBox/UniSRec) on one data set: with texts alone ("inductive"), or with the sum
of text and ID vectors ("transductive"). Its pre-training on other domains, which has two contrastive losses, is left out.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp

from grasp_jax.config import Config, ModelConfig
from grasp_jax.core.errors import UserError
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.backbones.cosine import CosineStates
from grasp_jax.models.encoders.mixture import MixtureEncoder
from grasp_jax.models.frozen import Bank, FrozenTable, of_bank
from grasp_jax.models.methods.base import Facts, Method, ModelSizes


@dataclasses.dataclass(frozen=True)
class UniSRec(Method):
    """Item vectors from texts, through a trained adaptor.

    Attributes:
      with_ids: whether ID vectors are added.
    """

    with_ids: bool = False

    needs_bank: ClassVar[bool] = True
    loss: ClassVar[str] = "ce"

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> MixtureEncoder:
        """`MixtureEncoder` with the config's fields."""
        options = config.unisrec
        return MixtureEncoder(
            num_items=sizes.num_items,
            width=sizes.width,
            features=config.features,
            experts=options.experts,
            dropout=options.adaptor_dropout,
            row_norm=config.row_norm,
            with_ids=self.with_ids,
            dtype=jnp.dtype(config.dtype),
        )

    def item_parameters(self, config: ModelConfig, sizes: ModelSizes) -> int:
        """E x D of each expert and, with IDs, V x D."""
        ids = sizes.num_items if self.with_ids else 0
        return (ids + config.unisrec.experts * sizes.width) * config.features

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """Item text."""
        return [of_bank(bank, "items")]

    def check(self, config: Config) -> None:
        """Refuses the adaptor's dropout if text rows are split over devices: each device then receives adapted vectors instead of text
        rows, so it has no entries of these to drop.

        Raises:
          UserError: the adaptor has dropout, and the mesh splits item tables.
        """
        if config.mesh.table > 1 and config.model.unisrec.adaptor_dropout:
            raise UserError(
                f"config.model.unisrec.adaptor_dropout: {config.model.unisrec.adaptor_dropout} with mesh.table={config.mesh.table}, "
                "which splits the item tables between devices; this dropout needs whole tables: expected 0"
            )

    def around_backbone(
        self, backbone: Backbone, config: ModelConfig, max_length: int
    ) -> CosineStates:
        """States of length 1, divided by the temperature."""
        return CosineStates(backbone, config.unisrec.cosine_temperature)
