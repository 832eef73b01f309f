"""LLM-ESR (Liu et al., 2024, arXiv 2405.20646): two views of an item, and a user's state pulled to those of similar users.

The ID table starts from principal components of the text, as LLMInit's. Self-distillation: 0.1 times the squared distance between a
user's newest state and the mean newest state of the 10 users with the nearest text, which takes no gradient.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config_dict import ConfigDict
from grasp_jax.knowledge.neighbours import top_neighbours
from grasp_jax.models.dual_view import DualView, DualViewEncoder
from grasp_jax.models.gru4rec import GRU4Rec
from grasp_jax.models.methods.llminit import principal_components, start_from_components
from grasp_jax.models.methods.method import Bank, Facts, Method
from grasp_jax.models.segments import newest_places


class Distillation(nn.Module):
    """The auxiliary loss of one batch.

    Attributes:
      num_users: B, users of a batch.
      weight: alpha.
    """

    num_users: int
    weight: float

    def __call__(self, tables: Any, segments: jax.Array, states: jax.Array, items: jax.Array, vectors: jax.Array) -> jax.Array:
        """Segments [R, L], states [R, L, W] -> weighted mean squared error; 0 while no user has a state to learn from."""
        if "states" not in tables:
            return jnp.zeros(())
        places, users, there = newest_places(segments, self.num_users)
        teachers = jax.lax.stop_gradient(tables["states"][tables["similar_users"][users]].mean(axis=1))
        error = ((states.reshape(-1, states.shape[-1])[places] - teachers) ** 2).mean(axis=-1)
        return self.weight * jnp.where(there, error, 0.0).sum() / jnp.maximum(there.sum(), 1)


def encoder(config: ConfigDict, num_items: int, width: int) -> nn.Module:
    """`DualViewEncoder`; a view is D wide."""
    return DualViewEncoder(num_items, width, config.features)


def two_views(backbone: nn.Module, config: ConfigDict, max_length: int) -> nn.Module:
    """Cross-attention before the shared backbone."""
    return DualView(backbone, config.features, max_length, not backbone.bidirectional and config.causal, not isinstance(backbone, GRU4Rec))


def tables(bank: Bank, facts: Facts) -> Bank:
    """Item text, its principal components, and the nearest users of each user."""
    users = np.asarray(bank["users"], np.float32)
    return {
        "items": bank["items"],
        **principal_components(bank, facts),
        "similar_users": top_neighbours(users, min(facts.config.llm_esr.similar_users, len(users) - 1)),
    }


def distillation(config: ConfigDict, width: int, num_users: int) -> nn.Module:
    """`Distillation` with the config's alpha."""
    return Distillation(num_users, config.llm_esr.alpha)


METHOD = Method(encoder, tables, start_from_components, distillation, around_backbone=two_views, needs_bank=True, reads_states=True)
