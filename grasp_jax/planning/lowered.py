"""The fields that may make a job smaller, and the sizes of a step with each of them lowered, for `planning.remedy`."""

from collections.abc import Callable
from typing import Any

from grasp_jax.config import Config
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.encoders import is_fitted
from grasp_jax.planning.workload import Workload

SEEDS = "train fewer seeds, learning rates and dropouts together"
# functions from a config and E to the sizes of a step
WorkOf = Callable[[Config, int], Workload]


def lowered_works(config: Config, width: int, work_of: WorkOf) -> dict[str, Workload]:
    """What one may do to a config, in words, and the sizes of a step after it: most numbers are halved.

    Args:
      config: of the method alone.
      width: E.
      work_of: the sizes of a step of the method.
    """
    work, own = work_of(config, width), config.model
    found = {
        "lower config.eval.num_negatives": work._replace(candidates=work.candidates // 2),
        "lower config.eval.valid_users": work._replace(evaluated=work.evaluated // 2),
        "lower config.eval.user_block": work._replace(
            user_block=_half(min(work.user_block, work.users))
        ),
        "lower config.eval.item_block": work._replace(
            item_block=_half(min(work.item_block, work.items))
        ),
        _narrower(config): work_of(config, _half(width)),
    }
    if work.models > 1:
        found[SEEDS] = work._replace(models=_half(work.models))
    changes: dict[str, Any] = {
        "lower config.train.batch_size": {"train.batch_size": _half(config.train.batch_size)},
        "lower config.train.negatives": {"train.negatives": _half(config.train.negatives)},
        "lower config.model.features": {"model.features": _half(own.features)},
        "lower config.model.mlp": {"model.mlp": tuple(map(_half, own.mlp))},
        "lower config.model.num_layers": {"model.num_layers": _half(own.num_layers)},
        "lower config.model.plus.text_width": {
            "model.plus.text_width": _half(min(own.plus.text_width, width))
        },
        "set config.model.table_dtype=float16": {"model.table_dtype": "float16"},
    }
    for words, fields in changes.items():
        try:
            found[words] = work_of(config.with_fields(fields), width)
        except UserError:  # a run refuses this value
            continue
    return found


def _half(count: int) -> int:
    return max(count // 2, 1)


def _narrower(config: Config) -> str:
    """What makes text vectors narrower, in words."""
    knowledge = config.knowledge
    if knowledge.reduction.kind != "none":
        return "lower config.knowledge.reduction.width"
    if is_fitted(knowledge.encoder):
        return "lower config.knowledge.width"
    return "set config.knowledge.reduction.kind=pca and .width"
