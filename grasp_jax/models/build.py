"""Builds a model from the names in a config."""

import dataclasses

from grasp_jax.config import ModelConfig
from grasp_jax.core.errors import UserError
from grasp_jax.models.auxiliary import AuxiliaryLoss
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.sequence_model import SequenceModel


def build_backbone(
    config: ModelConfig, method: str, backbone: str, max_length: int = 0
) -> Backbone:
    """The module that computes states in a model of `method` with the backbone that a config names.

    Args:
      config: the `model` section.
      method, backbone: in `METHODS` and `BACKBONES`.
      max_length: longest packed history; 0 if only properties of the module are needed.

    Raises:
      UserError: the class of the backbone, or the method, returns something else than a `Backbone`.
    """
    plain = BACKBONES[backbone].from_config(config, max_length)
    module = METHODS[method].around_backbone(plain, config, max_length)
    for made, by in (
        (plain, f"backbone {backbone!r}: from_config(config, max_length)"),
        (module, f"method {method!r}: around_backbone(backbone, config, max_length)"),
    ):
        if not isinstance(made, Backbone):
            raise UserError(f"{by} returns {made!r}; expected an object of a subclass of Backbone")
    return module


def build_model(
    config: ModelConfig, method: str, backbone: str, sizes: ModelSizes, projection: str = "token"
) -> SequenceModel:
    """The model named by `method` and `backbone`.

    Args:
      config: the `model` section.
      method, backbone: in `METHODS` and `BACKBONES`.
      sizes: sizes of the catalogue, the histories, the knowledge bank and a batch.
      projection: "token" or "table", from `choose_projection`.

    Raises:
      UserError: the method returns something else than an `ItemEncoder`, a `Backbone`, or an `AuxiliaryLoss` or None.
    """
    if config.kernels == "auto" and sizes.shares > 1:  # kernels cannot be split over devices
        config = dataclasses.replace(config, kernels="xla")
    encoder = METHODS[method].encoder(config, sizes)
    if not isinstance(encoder, ItemEncoder):
        raise UserError(
            f"method {method!r}: encoder(config, sizes) returns {encoder!r}; expected an object of a subclass of ItemEncoder"
        )
    auxiliary = METHODS[method].auxiliary(config, sizes)
    if auxiliary is not None and not isinstance(auxiliary, AuxiliaryLoss):
        raise UserError(
            f"method {method!r}: auxiliary(config, sizes) returns {auxiliary!r}; expected an object of a subclass of AuxiliaryLoss, or None"
        )
    return SequenceModel(
        encoder=encoder,
        backbone=build_backbone(config, method, backbone, sizes.max_length),
        projection=projection,
        auxiliary=auxiliary,
        shares=sizes.shares,
    )
