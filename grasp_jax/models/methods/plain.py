"""The plain backbone: one trainable vector per item."""

from grasp_jax.config import ModelConfig
from grasp_jax.models.encoders.id_table import IdEncoder
from grasp_jax.models.methods.base import Method, ModelSizes


class Plain(Method):
    """ID vectors and nothing else."""

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> IdEncoder:
        """`IdEncoder` of width D."""
        return IdEncoder(sizes.num_items, config.features)

    def item_parameters(self, config: ModelConfig, sizes: ModelSizes) -> int:
        """V x D: the ID table."""
        return sizes.num_items * config.features
