"""The plain backbone: one trainable vector per item."""

import flax.linen as nn
import ml_collections

from grasp_jax.models.id_encoder import IdEncoder
from grasp_jax.models.methods.method import Method


def encoder(config: ml_collections.ConfigDict, num_items: int, width: int) -> nn.Module:
    """`IdEncoder` of width D."""
    return IdEncoder(num_items, config.features)


METHOD = Method(encoder)
