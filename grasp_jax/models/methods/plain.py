"""The plain backbone: one trainable vector per item."""

import flax.linen as nn

from grasp_jax.config_dict import ConfigDict
from grasp_jax.models.id_encoder import IdEncoder
from grasp_jax.models.methods.method import Method


def encoder(config: ConfigDict, num_items: int, width: int) -> nn.Module:
    """`IdEncoder` of width D."""
    return IdEncoder(num_items, config.features)


METHOD = Method(encoder)
