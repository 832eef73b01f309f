"""Training once more on everything, for production: for as many epochs as a validated run chose, without validation or test."""

import pathlib
from collections.abc import Mapping

import numpy as np

from grasp_jax.config import Config
from grasp_jax.config.model import MATCH_PART
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.encoders import is_fitted
from grasp_jax.models.fusion_parts import part_weights
from grasp_jax.models.methods import METHODS
from grasp_jax.training.replicas import one_replica
from grasp_jax.trials.chosen import Chosen
from grasp_jax.trials.run import Run

FOLDER = "refit"  # within the workdir of the validated run


def refit_workdir(run: Run) -> pathlib.Path:
    """The folder of the model that is trained on all interactions."""
    return run.workdir / FOLDER


def refit_config(run: Run, chosen: Chosen) -> Config:
    """The config of a refit: the chosen method, backbone and rates, and as many epochs as were best for them, the mean over seeds.

    Args:
      run: the validated run.
      chosen: what its validation prefers.

    Raises:
      UserError: nothing was validated.
    """
    if run.config.data.split == "none":
        reason = (
            "config.data.split: 'none' has no validation part, so no number of epochs was chosen"
        )
        raise UserError(f"{run.workdir}: {reason}; refit another run")
    trial, progress = chosen.trial, chosen.snapshot.progress
    epochs = max(1, round(float(np.mean(progress.best_epoch[chosen.replicas]))))
    replica = trial.replicas[chosen.replica]
    keeps_encoder = (
        trial.config.train.start_from
        and METHODS[trial.method].needs_bank
        and is_fitted(trial.config.knowledge.encoder)
    )
    weights = part_weights(trial.model, one_replica(chosen.snapshot.best_params, chosen.replica))
    return trial.config.with_fields(
        {
            **_with_weights(trial.config, weights),
            "data.split": "none",
            "model.dropout": (replica.dropout,),
            "train.learning_rate": (replica.learning_rate,),
            "train.seeds": (replica.seed,),
            "train.max_epochs": epochs,
            # a separate bank, WORKDIR/refit/knowledge, because users' texts now contain all interactions
            "knowledge.path": "",
            # a model that is trained on from an earlier one must read texts as that one did, and so by the same encoder
            "knowledge.since": str(run.bank_folder) if keeps_encoder else "",
        }
    )


def _with_weights(config: Config, weights: Mapping[str, float]) -> dict[str, object]:
    """Fields that give the parts of late fusion the weights that validation chose; none for a model without parts."""
    if not weights:
        return {}
    counted = "+".join(kind for kind, weight in weights.items() if weight)
    of_match = weights.get(MATCH_PART) or 1.0  # a match that does not count keeps its weight
    return {
        "model.plus.parts": counted,
        "model.plus.match_weight": config.model.plus.match_weight * of_match,
    }
