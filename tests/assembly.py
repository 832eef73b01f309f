"""The inputs of training on small data, made in the same way as in a run."""

from collections.abc import Mapping
from typing import Any

from grasp_jax.config import Config
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import leave_one_out
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.training.training_set import TrainingSet, TrainingSources, training_set


def assembled(
    log: InteractionLog,
    tables: Mapping[str, Any],
    method: str,
    backbone: str,
    fields: Mapping[str, Any],
) -> TrainingSet:
    """The training of a log, with nobody to validate on.

    Args:
      log: the interactions.
      tables: frozen tables of the method; empty for one without.
      method, backbone: names.
      fields: of the config, as `Config.with_fields` takes them.
    """
    config = Config().with_fields(fields)
    split = leave_one_out(log, config.data.max_length)
    width = next((tables[name].shape[1] for name in ("items", "text") if name in tables), 0)
    return training_set(
        config, method, backbone, TrainingSources(split, tables, width, make_mesh(), None)
    )


def sharpened(tables: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The tables with longer rows of users, so that gates are far from one half."""
    return {
        name: factor * table if name.startswith("users") else table
        for name, table in tables.items()
    }
