"""Chooses by validation how much each part of late fusion's score counts.

Each tower is trained by a separate loss, and the match is not trained, so a part with wrong or poor texts still adds its score to the
scores of the others. To leave it out, or to lower the weight of the match, needs no training: a state is multiplied by its weight
(`models.backbones.towers`).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from grasp_jax.core.log import logger
from grasp_jax.evaluation.metrics import ndcg_gains
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.models.backbones.towers import PART_WEIGHTS, validation_chooses_parts
from grasp_jax.models.fusion_parts import is_lowered, part_names, part_weights
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.parallel.mesh import replicate
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.replicas import one_replica
from grasp_jax.training.snapshot import Snapshot, keep_better
from grasp_jax.training.validation import validation_ranks
from grasp_jax.training.weight_search import is_better, lowered_weights

Weights = tuple[float, ...]  # of the parts, in the order of their names


class ChosenWeights(NamedTuple):
    """The weights that validation prefers for one replica.

    Attributes:
      weights: name of each part -> its weight, 1 if it counts in full.
      valid: validation NDCG@10 with weights of 1, and with these.
    """

    weights: Mapping[str, float]
    valid: tuple[float, float]


class Preferred(NamedTuple):
    """What validation prefers for one replica: its parameters of the best epoch or its newest ones, each with weights chosen for them.

    Attributes:
      choice: the weights of the preferred parameters.
      is_newest: whether these are the newest.
      of_best: validation NDCG@10 of the parameters of the best epoch, with weights chosen for them.
    """

    choice: ChosenWeights
    is_newest: bool
    of_best: float


def with_chosen_weights(job: TrainingJob, snapshot: Snapshot) -> Snapshot:
    """At the end of training: the best parameters of each replica with the weights that validation prefers, and the scores with these.

    A replica that `train.max_epochs` or a callback stops may have newer parameters that are better with other weights, because a harmful
    part hid it; then these become the best. Replicas whose patience ended have been through `with_weights_for_newest`. Models without
    parts, with named parts (`config.model.plus.parts`) or without validation stay as they are.
    """
    if not _has_choice(job):
        return snapshot
    progress, newest = snapshot.progress, snapshot.state.params
    before = np.asarray(snapshot.best_params["backbone"][PART_WEIGHTS])
    weights, of_newest = before.copy(), np.array(newest["backbone"][PART_WEIGHTS])
    scores, newest_wins = progress.best.copy(), np.zeros(len(before), bool)
    for m in range(len(job.replicas)):
        may_be_newest = not progress.stopped[m] and progress.best_epoch[m] < progress.epoch
        last = _preferred(job, snapshot, m, may_be_newest)
        weights[m], newest_wins[m] = _in_order(job, last.choice.weights), last.is_newest
        changed = last.is_newest or not np.array_equal(weights[m], before[m])
        if changed:
            scores[m] = last.choice.valid[1]
        if last.is_newest:
            of_newest[m] = weights[m]
        if changed or is_lowered(last.choice.weights):
            _report(job, snapshot, m, last)
    if np.array_equal(weights, before) and not newest_wins.any():
        return snapshot
    best_params = _better(job, snapshot.best_params, newest, newest_wins)
    best_epoch = np.where(newest_wins, progress.epoch, progress.best_epoch)
    return Snapshot(
        state=snapshot.state._replace(params=_with_weights(job, newest, of_newest)),
        best_params=_with_weights(job, best_params, weights),
        progress=progress._replace(best=scores, best_epoch=best_epoch.astype(np.int32)),
    )


def with_weights_for_newest(
    job: TrainingJob, snapshot: Snapshot, tried: np.ndarray, scores: np.ndarray
) -> tuple[Snapshot, np.ndarray]:
    """Gives other weights to replicas whose validation score stands still only because a part weighs too much.

    A harmful part hides that the others still improve: on small data, towers that read texts are at their best many epochs before the
    tower of IDs. So weights are chosen for the newest parameters of a replica. If these are better so than the best score, and than the
    best parameters with weights chosen for them, they become the best, and the replica is validated with their weights from here on, even
    if its patience had ended.

    Args:
      job: the training.
      snapshot: after an epoch.
      tried: [M] bool, the replicas to try (`Progress.tries_weights`).
      scores: [M] validation NDCG@10 of this epoch.

    Returns:
      The snapshot and the scores, with the new weights.
    """
    if not tried.any() or not _has_choice(job):
        return snapshot, scores
    params = snapshot.state.params
    weights = np.array(params["backbone"][PART_WEIGHTS])
    changed, scores = np.zeros_like(tried), scores.copy()
    for m in map(int, np.flatnonzero(tried)):
        choice = _choose(job, params, m)
        score, chosen = choice.valid[1], _in_order(job, choice.weights)
        if np.array_equal(np.asarray(chosen, np.float32), weights[m]):
            continue
        # the stored score first, which costs nothing; weights of the best model may have been chosen by it, and be given up by a new choice
        if (
            score <= snapshot.progress.best[m]
            or score <= _choose(job, snapshot.best_params, m).valid[1]
        ):
            continue
        changed[m], scores[m], weights[m] = True, score, chosen
        epoch = int(snapshot.progress.epoch)
        _record(job, snapshot, m, choice, model_epoch=epoch, event="parts_in_training")
        logger.info(
            f"{job.name}, {job.replicas[m].name}: {_words(choice.weights)}, the newest model is the best so far (validation NDCG@10 "
            f"{100 * score:.2f} %), so its patience starts again"
        )
    if not changed.any():
        return snapshot, scores
    state = snapshot.state._replace(params=_with_weights(job, params, weights))
    best_params = _better(job, snapshot.best_params, state.params, changed)
    return Snapshot(state, best_params, snapshot.progress.training_on(changed, scores)), scores


def with_named_parts(model: SequenceModel, params: Any, new: Any) -> Any:
    """Parameters of an earlier run, with the weights of new ones if the config names the parts that count: a refit names them."""
    if not part_names(model) or validation_chooses_parts(model.backbone):
        return params
    return _replaced(params, new["backbone"][PART_WEIGHTS])


def validation_lowered(model: SequenceModel, params: Any) -> bool:
    """Whether validation has lowered a weight of one trained model. Parts that the config names count in every validation."""
    return validation_chooses_parts(model.backbone) and is_lowered(part_weights(model, params))


def _has_choice(job: TrainingJob) -> bool:
    return validation_chooses_parts(job.model.backbone) and job.data.valid is not None


def _preferred(
    job: TrainingJob, snapshot: Snapshot, m: int, may_be_newest: bool = True
) -> Preferred:
    """Chooses weights for the best parameters of a replica and, if they may be preferred, for its newest ones, and compares the two."""
    newest = _choose(job, snapshot.state.params, m) if may_be_newest else None
    best = _choose(job, snapshot.best_params, m)
    of_best = best.valid[1]
    if newest is not None and newest.valid[1] > of_best:
        return Preferred(newest, True, of_best)
    return Preferred(best, False, of_best)


def _choose(job: TrainingJob, params: Any, m: int) -> ChosenWeights:
    """`lowered_weights`, or the weights that the parameters have, of an earlier choice, if these are better by more than noise."""
    ranker = _ranker(job, params, m)

    @functools.cache
    def of_order(weights: Weights) -> np.ndarray:
        return _gains(job, ranker, weights)

    def gains(weights: Mapping[str, float]) -> np.ndarray:
        return of_order(_in_order(job, weights))

    full = dict.fromkeys(job.model.backbone.kinds, 1.0)
    present, chosen = part_weights(job.model, ranker.params), lowered_weights(tuple(full), gains)
    if is_lowered(present) and is_better(gains(present), gains(chosen)):
        chosen = present
    return ChosenWeights(chosen, (float(gains(full).mean()), float(gains(chosen).mean())))


def _ranker(job: TrainingJob, params: Any, m: int) -> Ranker:
    return Ranker.of(job.model, one_replica(params, m), job.data.device, job.data.tables)


def _in_order(job: TrainingJob, weights: Mapping[str, float]) -> Weights:
    """The weights of the towers and the match, several of which may have the same name."""
    return tuple(weights[kind] for kind in job.model.backbone.kinds)


def _gains(job: TrainingJob, ranker: Ranker, weights: Weights) -> np.ndarray:
    """[n] validation NDCG@10 of each user with these weights. The item vectors in `ranker` are the same for all weights."""
    placed = replicate(job.data.mesh, jnp.array(weights, jnp.float32))
    params = _replaced(ranker.params, placed)
    return ndcg_gains(validation_ranks(dataclasses.replace(ranker, params=params), job.data))


def _better(job: TrainingJob, best_params: Any, params: Any, better: np.ndarray) -> Any:
    """The best parameters of M replicas; of those that `better` [M] names, `params`."""
    return keep_better(best_params, params, replicate(job.data.mesh, better))


def _with_weights(job: TrainingJob, params: Any, weights: np.ndarray) -> Any:
    """The parameters of M replicas with other weights [M, P] of the parts."""
    return _replaced(params, replicate(job.data.mesh, jnp.asarray(weights)))


def _replaced(params: Any, weights: Any) -> Any:
    """The parameters with other weights of the parts, which are on the devices already."""
    return {**params, "backbone": {**params["backbone"], PART_WEIGHTS: weights}}


def _report(job: TrainingJob, snapshot: Snapshot, m: int, last: Preferred) -> None:
    """Writes to the log and the records which weights the model has, and the gain."""
    progress, (before, after) = snapshot.progress, last.choice.valid
    epoch = int(progress.epoch if last.is_newest else progress.best_epoch[m])
    _record(job, snapshot, m, last.choice, model_epoch=epoch, event="parts")
    words, score = _words(last.choice.weights), f"NDCG@10 {100 * after:.2f} %"
    if last.is_newest:
        message = (
            f"items are scored by the model of epoch {epoch}, {words}, because validation prefers it ({score}) to that of epoch "
            f"{progress.best_epoch[m]} ({100 * last.of_best:.2f} %)"
        )
    elif is_lowered(last.choice.weights):
        message = f"items are scored {words}, because validation is then better ({score} instead of {100 * before:.2f} % with all parts)"
    else:
        message = f"items are scored with all parts again ({score})"
    logger.info(f"{job.name}, {job.replicas[m].name}: {message}")


def _record(
    job: TrainingJob,
    snapshot: Snapshot,
    m: int,
    choice: ChosenWeights,
    model_epoch: int,
    event: str,
) -> None:
    """Writes a choice to the records; `model_epoch` is the epoch of the parameters for which it is."""
    job.records.append(
        {
            "event": event,
            **job.labels,
            **dataclasses.asdict(job.replicas[m]),
            "epoch": int(snapshot.progress.epoch),
            "model_epoch": model_epoch,
            "left_out": [kind for kind, weight in choice.weights.items() if not weight],
            "weights": dict(choice.weights),
            "valid_ndcg@10": list(choice.valid),
        }
    )


def _words(weights: Mapping[str, float]) -> str:
    """ "without text, so by id and match alone", "with 0.5 of the match" or "with all parts"."""
    lowered = [
        f"without {kind}" if not weight else f"with {weight:g} of the {kind}"
        for kind, weight in weights.items()
        if weight != 1.0
    ]
    rest = [kind for kind, weight in weights.items() if weight]
    remains = f", so by {' and '.join(rest)} alone" if len(rest) < len(weights) else ""
    return (" and ".join(lowered) or "with all parts") + remains
