"""Validation after an epoch: the NDCG@10 by which epochs, rates and methods are chosen."""

from typing import Any

import numpy as np

from grasp_jax.evaluation.metrics import ndcg_at_10
from grasp_jax.evaluation.protocols import SAMPLED, UNSEEN
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.evaluation.ranking import full_ranks, sampled_ranks
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.training.early_stopping import Progress
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.replicas import one_replica

UNKNOWN = -1.0  # the score of a replica that was not validated


def validate(
    model: SequenceModel, params: Any, data: TrainingData, progress: Progress
) -> np.ndarray:
    """Validation NDCG@10 by the protocol `data.select`.

    Args:
      model: the module.
      params: of M replicas, leaves [M, ...].
      data: training data with a validation set.
      progress: says which replicas are active; these are validated.

    Returns:
      [M] scores, `UNKNOWN` for replicas that are not active.
    """
    assert data.valid is not None
    scores = np.full(len(progress.stopped), UNKNOWN)
    for m in progress.active:
        scores[m] = ndcg_at_10(
            validation_ranks(
                Ranker.of(model, one_replica(params, m), data.device, data.tables), data
            )
        )
    return scores


def validation_ranks(ranker: Ranker, data: TrainingData) -> np.ndarray:
    """[n] int32 ranks of the validation targets for one replica, by the protocol `data.select`."""
    valid = data.valid
    assert valid is not None
    if data.select == SAMPLED:
        return sampled_ranks(ranker, valid)
    ranks = full_ranks(ranker, valid, data.item_block, data.valid_seen)
    return ranks.unseen if data.select == UNSEEN else ranks.full
