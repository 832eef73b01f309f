"""Chooses by validation, at the end of training, which parts of late fusion's score count.

Each tower is trained by a separate loss, so a tower with wrong texts still adds its score to the scores of the others. To leave it out
needs no training: its state is multiplied by 0 (`models.backbones.towers`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from grasp_jax.evaluation.metrics import ndcg_gains
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.log import logger
from grasp_jax.models.backbones.towers import PART_WEIGHTS, Towers
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.parallel.mesh import replicate
from grasp_jax.training.early_stopping import Progress
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.records import has_labels
from grasp_jax.training.replicas import Replica, one_replica
from grasp_jax.training.snapshot import Snapshot
from grasp_jax.training.validation import validation_ranks

PARTS = "parts"  # the event of its lines in metrics.jsonl
STANDARD_ERRORS = 2.0  # a part is left out if validation gains more than so many standard errors


def without_harmful_parts(job: TrainingJob, snapshot: Snapshot) -> Snapshot:
    """The best parameters of each replica, with the weight 0 for the parts that `parts_to_keep` leaves out.

    Models without parts, with named parts (`config.model.plus.parts`) or without validation stay as they are.
    """
    backbone, data = job.model.backbone, job.data
    if not _chooses_parts(job):
        return snapshot
    kinds = tuple(dict.fromkeys(backbone.kinds))
    before = np.asarray(snapshot.best_params["backbone"][PART_WEIGHTS])
    weights = np.ones_like(before)
    for m, replica in enumerate(job.replicas):
        ranker = Ranker.of(
            job.model, one_replica(snapshot.best_params, m), data.device, data.tables
        )
        gains = functools.cache(functools.partial(_gains, job, ranker))
        kept = parts_to_keep(kinds, gains)
        weights[m] = [kind in kept for kind in backbone.kinds]
        if kept != kinds:
            _report(job, int(snapshot.progress.epoch), replica, (kinds, kept), gains)
    if np.array_equal(weights, before):
        return snapshot
    best_params = _with_weights(snapshot.best_params, replicate(data.mesh, jnp.asarray(weights)))
    return snapshot._replace(best_params=best_params)


def note_on_best(job: TrainingJob, progress: Progress) -> str:
    """What follows the best score of a finished training in its last line; empty if all parts of the model with this score are kept.

    Epochs are compared with all parts, so the best score is not that of the model that answers.
    """
    if not _chooses_parts(job):
        return ""
    best = job.replicas[int(progress.best.argmax())]
    labels = {
        "event": PARTS,
        **job.labels,
        **dataclasses.asdict(best),
        "epoch": int(progress.epoch),
    }
    # the newest, because an interrupted call may have written one too
    for record in reversed(job.records.read()):
        if has_labels(record, labels):
            _, after = record["valid_ndcg@10"]
            return (
                f" with all parts, {100 * after:.2f} % without {' and '.join(record['left_out'])}"
            )
    return ""


def counted_parts(model: SequenceModel, params: Any) -> tuple[str, ...]:
    """The names of the parts with weight in one trained model; none for a model without parts, or if all parts always count."""
    backbone = model.backbone
    if not isinstance(backbone, Towers) or not backbone.kinds:
        return ()
    weights = np.asarray(params["backbone"][PART_WEIGHTS])
    counted = [kind for kind, weight in zip(backbone.kinds, weights, strict=True) if weight]
    return tuple(dict.fromkeys(counted))


def leaves_parts_out(model: SequenceModel, params: Any) -> bool:
    """Whether validation has left out a part of one trained model. Parts that the config names count in every validation."""
    backbone = model.backbone
    if not isinstance(backbone, Towers) or backbone.counted is not None:
        return False
    return len(counted_parts(model, params)) < len(set(backbone.kinds))


def parts_to_keep(
    kinds: tuple[str, ...], gains: Callable[[tuple[str, ...]], np.ndarray]
) -> tuple[str, ...]:
    """Backward elimination: leaves out the part without which the validation score rises most, as long as this gain is larger than noise.

    Args:
      kinds: names of all parts.
      gains: function from the names of some parts to [n] NDCG@10 of each validation user with these parts only.

    Returns:
      The names of the parts to keep, in their order; at least one.
    """
    kept = kinds
    while len(kept) > 1:
        candidates = [tuple(kind for kind in kept if kind != left_out) for left_out in kept]
        differences = {parts: gains(parts) - gains(kept) for parts in candidates}
        best = max(candidates, key=lambda parts: differences[parts].mean())
        difference = differences[best]
        standard_error = difference.std() / np.sqrt(len(difference))
        if difference.mean() <= STANDARD_ERRORS * standard_error:
            break
        kept = best
    return kept


def _chooses_parts(job: TrainingJob) -> bool:
    """Whether validation may leave parts out."""
    backbone = job.model.backbone
    has_parts = isinstance(backbone, Towers) and bool(backbone.kinds)
    return has_parts and backbone.counted is None and job.data.valid is not None


def _gains(job: TrainingJob, ranker: Ranker, counted: tuple[str, ...]) -> np.ndarray:
    """[n] validation NDCG@10 of each user with some of the parts. The item vectors in `ranker` are the same for all choices."""
    weights = jnp.array([float(kind in counted) for kind in job.model.backbone.kinds], jnp.float32)
    params = _with_weights(ranker.params, replicate(job.data.mesh, weights))
    return ndcg_gains(validation_ranks(dataclasses.replace(ranker, params=params), job.data))


def _with_weights(params: Any, weights: Any) -> Any:
    """The parameters with new weights of the parts."""
    return {**params, "backbone": {**params["backbone"], PART_WEIGHTS: weights}}


def _report(
    job: TrainingJob,
    epoch: int,
    replica: Replica,
    parts: tuple[tuple[str, ...], tuple[str, ...]],
    gains: Callable[[tuple[str, ...]], np.ndarray],
) -> None:
    """Writes to the log and the records which parts are left out, and the gain; `parts` are all parts, and the parts that are kept."""
    kinds, kept = parts
    before, after = float(gains(kinds).mean()), float(gains(kept).mean())
    left_out = [kind for kind in kinds if kind not in kept]
    job.records.append(
        {
            "event": PARTS,
            **job.labels,
            **dataclasses.asdict(replica),
            "epoch": epoch,
            "left_out": left_out,
            "valid_ndcg@10": [before, after],
        }
    )
    logger.info(
        f"{job.name}, {replica.name}: the score is used without {' and '.join(left_out)}, because validation is better so "
        f"(NDCG@10 {100 * after:.2f} % instead of {100 * before:.2f} % with all parts)"
    )
