"""From the names in a config to a model."""

import dataclasses

from grasp_jax.config import ModelConfig
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.sequence_model import SequenceModel


def build_model(
    config: ModelConfig, method: str, backbone: str, sizes: ModelSizes, projection: str = "token"
) -> SequenceModel:
    """The model named by `method` and `backbone`.

    Args:
      config: the `model` section.
      method, backbone: in `METHODS` and `BACKBONES`.
      sizes: of the catalogue, the histories, the knowledge and a batch.
      projection: "token" or "table", from `choose_projection`.
    """
    if config.kernels == "auto" and sizes.shares > 1:  # no kernel is cut into parts
        config = dataclasses.replace(config, kernels="xla")
    chosen = METHODS[method]
    named = BACKBONES[backbone].from_config(config, sizes.max_length)
    return SequenceModel(
        encoder=chosen.encoder(config, sizes),
        backbone=chosen.around_backbone(named, config, sizes.max_length),
        projection=projection,
        auxiliary=chosen.auxiliary(config, sizes),
        shares=sizes.shares,
    )
