"""The weights of the parts of late fusion's score in a trained model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from grasp_jax.models.backbones.towers import PART_WEIGHTS, Towers
from grasp_jax.models.sequence_model import SequenceModel


def part_names(model: SequenceModel) -> tuple[str, ...]:
    """The name of each part that has a weight; none for a model without parts, or if all parts always count."""
    return tuple(model.backbone.kinds) if isinstance(model.backbone, Towers) else ()


def part_weights(model: SequenceModel, params: Any) -> dict[str, float]:
    """The weight of each part in one trained model; empty for a model without parts, or if all parts always count."""
    names = part_names(model)
    weights = np.asarray(params["backbone"][PART_WEIGHTS]) if names else ()
    return dict(zip(names, map(float, weights), strict=True))


def is_lowered(weights: Mapping[str, float]) -> bool:
    """Whether a part counts less than in full."""
    return any(weight != 1.0 for weight in weights.values())
