"""LLM-ESR (Liu et al., 2024, arXiv 2405.20646): two views of each item, and self-distillation from similar users.

The ID table starts from principal components of the text, like LLMInit's. The self-distillation loss is 0.1 times the squared distance
between a user's newest state and the mean newest state of the 10 users with the most similar text, without gradient through the latter.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config import Config, ModelConfig
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.neighbours import NONE
from grasp_jax.knowledge.neighbours.search import top_neighbours
from grasp_jax.models.auxiliary import AuxiliaryLoss, BatchStates
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.backbones.dual_view import DualView
from grasp_jax.models.batch import NO_CONTEXT, Params, StepContext, Tables
from grasp_jax.models.encoders.dual_view import DualViewEncoder
from grasp_jax.models.frozen import Bank, FrozenTable, of_bank
from grasp_jax.models.methods.base import Facts, Method, ModelSizes
from grasp_jax.models.methods.llminit import (
    components_to_start_from,
    fitted_components,
    start_from_components,
    start_of_new,
)
from grasp_jax.models.new_items import NewTexts, ReadOfNew
from grasp_jax.models.segments import newest_places


class Distillation(AuxiliaryLoss):
    """Pulls a user's newest state to the mean of those of similar users.

    Attributes:
      batch_users: B, users of a batch.
      weight: alpha.
    """

    batch_users: int
    weight: float

    def __call__(
        self, tables: Tables, batch: BatchStates, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[] weighted mean squared error over the users of the batch; 0 outside training, where there are no states. A similar user without
        a history enters the mean as zeros; a user without similar ones is not pulled.
        """
        if context.states is None:
            return jnp.zeros(())
        places, users, exist = newest_places(batch.segments, self.batch_users)
        similar = tables["similar_users"][users]
        exist &= similar[:, 0] != NONE
        teachers = jax.lax.stop_gradient(
            context.states[jnp.maximum(similar, 0)].mean(axis=1)  # of users without any: not used
        )
        newest = batch.states.reshape(-1, batch.states.shape[-1])[places]
        error = ((newest - teachers) ** 2).mean(axis=-1)
        return self.weight * jnp.where(exist, error, 0.0).sum() / jnp.maximum(exist.sum(), 1)


def _filled(similar: np.ndarray) -> np.ndarray:
    """[N, K] similar users; users with fewer than K have the nearest in the other places too, those without any keep `NONE`."""
    return np.where(similar == NONE, similar[:, :1], similar)


class LLMESR(Method):
    """Two views, cross-attention, and self-distillation."""

    needs_bank: ClassVar[bool] = True
    reads_states: ClassVar[bool] = True

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> DualViewEncoder:
        """`DualViewEncoder`; a view is D wide."""
        return DualViewEncoder(
            sizes.num_items, sizes.width, config.features, jnp.dtype(config.dtype)
        )

    def item_parameters(self, config: ModelConfig, sizes: ModelSizes) -> int:
        """V x D of the ID view, and E x E/2 + E/2 x D of the adapter."""
        half = sizes.width // 2
        return sizes.num_items * config.features + half * (sizes.width + config.features)

    def starts_from_text(self, config: ModelConfig) -> bool:
        """Always."""
        return True

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """Item text, its principal components, and the nearest users of each user.

        The search for these users is always exact, whatever `config.knowledge.retrieval` says, with a float32 copy of their text vectors
        on the host: 4 N E bytes, and a time that grows with the square of N.
        """
        users = np.asarray(bank["users"], np.float32)
        similar = top_neighbours(users, min(facts.config.llm_esr.similar_users, len(users) - 1))
        return [
            of_bank(bank, "items"),
            components_to_start_from(bank, facts),
            FrozenTable("similar_users", _filled(similar)),
        ]

    def start(self, params: Params, tables: Tables) -> Params:
        """Starts the ID table from text."""
        return start_from_components(params, tables)

    def fitted(self, bank: Bank, facts: Facts) -> Mapping[str, np.ndarray]:
        """The components from which the ID table starts."""
        return fitted_components(bank, facts)

    def of_new_items(self, texts: NewTexts) -> ReadOfNew:
        """Text vectors, and the ID vectors from which training would start; errors as in `start_of_new`."""
        return super().of_new_items(texts)._replace(ids=start_of_new(texts))

    def auxiliary(self, config: ModelConfig, sizes: ModelSizes) -> Distillation:
        """`Distillation` with the config's alpha."""
        return Distillation(sizes.num_users, config.llm_esr.alpha)

    def check(self, config: Config) -> None:
        """Checks that D is even, because the cross-attention has two heads.

        Raises:
          UserError: D is odd.
        """
        if config.model.features % 2:
            raise UserError(
                f"config.model.features: {config.model.features}; llm_esr's cross-attention has two heads and needs an even number"
            )

    def around_backbone(self, backbone: Backbone, config: ModelConfig, max_length: int) -> DualView:
        """Cross-attention before the shared backbone. The input stage of the backbone, if it can be omitted, moves before the
        cross-attention.
        """
        causal = not backbone.bidirectional and config.causal
        layers = backbone.without_input_stage()
        return DualView(layers or backbone, config.features, max_length, causal, layers is not None)
