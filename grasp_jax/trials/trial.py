"""A trial: one method on one backbone, made, trained, and found again on disk."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from grasp_jax.config import Config
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.evaluation.metrics import ndcg_at_10
from grasp_jax.evaluation.protocols import SAMPLED
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.evaluation.untrained import trial_label
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.parallel.mesh import replicate
from grasp_jax.parallel.processes import PREEMPTION, is_main_process
from grasp_jax.provenance import difference, without_code
from grasp_jax.training.callbacks import Callback, OnEpoch
from grasp_jax.training.checkpoint import (
    Checkpoints,
    check_made_from,
    find_model,
    had_newer,
    has_model,
)
from grasp_jax.training.early_stopping import as_progress
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.fusion_weights import validation_lowered, with_named_parts
from grasp_jax.training.inherited import keep_directions
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.loop import train
from grasp_jax.training.replicas import Replica, one_replica
from grasp_jax.training.snapshot import Snapshot, copied, initial_snapshot, snapshot_like
from grasp_jax.training.start_from import (
    CHECKPOINTS,
    check_basis,
    earlier_banks,
    earlier_rows,
    read_earlier,
    start_from,
)
from grasp_jax.training.training_set import TrainingSources, training_set
from grasp_jax.training.validation import validation_ranks
from grasp_jax.trials.evaluation_sets import evaluation_of
from grasp_jax.trials.placed_tables import facts_of, frozen_tables
from grasp_jax.trials.run import Prepared, Run, claim
from grasp_jax.workdir import parse_trial_name, trial_name


@dataclasses.dataclass(frozen=True)
class Trial:
    """One method on one backbone, with everything it is trained and evaluated on.

    Attributes:
      prepared: the run and its knowledge.
      method, backbone: names.
      config: of the run, as the method has it, and of this method and backbone alone.
      model: encoder and backbone.
      sizes: what the model was built for.
      replicas: the models that are trained together.
      data: what training reads.
    """

    prepared: Prepared
    method: str
    backbone: str
    config: Config
    model: SequenceModel
    sizes: ModelSizes
    replicas: list[Replica]
    data: TrainingData

    @property
    def run(self) -> Run:
        return self.prepared.run

    @property
    def name(self) -> str:
        """METHOD-BACKBONE, the name of its files."""
        return trial_name(self.method, self.backbone)

    @property
    def label(self) -> str:
        """Method and backbone, as in messages and the live table."""
        return trial_label(self.method, self.backbone)

    @property
    def job(self) -> TrainingJob:
        """The input of the training loop."""
        return TrainingJob(
            config=self.config.train,
            model=self.model,
            replicas=self.replicas,
            data=self.data,
            folder=self.folder,
            records=self.run.records,
            method=self.method,
            backbone=self.backbone,
        )

    @property
    def folder(self) -> pathlib.Path:
        """The folder of its checkpoints."""
        return checkpoint_folder(self.run.workdir, self.method, self.backbone)

    def ranker(self, snapshot: Snapshot, replica: int) -> Ranker:
        """The best model of one replica."""
        params = one_replica(snapshot.best_params, replica)
        return Ranker.of(self.model, params, self.data.device, self.data.tables)


def checkpoint_folder(workdir: pathlib.Path, method: str, backbone: str) -> pathlib.Path:
    """Where the checkpoints of a trial are."""
    return workdir / CHECKPOINTS / trial_name(method, backbone)


def trained_trials(workdir: pathlib.Path) -> list[tuple[str, str]]:
    """(method, backbone) of each trial that has a model, in the order of their names; also if it is not registered."""
    folders = sorted((workdir / CHECKPOINTS).glob("*-*"))
    return [parse_trial_name(folder.name) for folder in folders if has_model(folder)]


def make_trial(prepared: Prepared, method: str, backbone: str, trains: bool = True) -> Trial:
    """Model and data of one method on one backbone.

    Args:
      prepared: the run.
      method, backbone: names.
      trains: whether it may be trained, or a trained model is only read: then validation has been, with the negatives that are stored.

    Raises:
      UserError: there is nothing to train on; or training would validate on negatives that an earlier version drew otherwise.
    """
    run = prepared.run
    config = run.config.for_method(method)
    alone = dataclasses.replace(config.model, method=method, backbone=backbone)
    config = dataclasses.replace(config, model=alone, by_method={})
    sources = TrainingSources(
        split=run.split,
        tables=frozen_tables(prepared, method),
        width=prepared.width,
        mesh=prepared.mesh,
        valid=evaluation_of(
            prepared,
            "valid",
            method,
            backbone,
            config.eval.valid_users,
            ranked=trains and config.eval.select == SAMPLED,
        )
        if config.data.split != "none"
        else None,
        made_from=run.made_from(method, backbone),
    )
    made = training_set(config, method, backbone, sources)
    return Trial(
        prepared, method, backbone, config, made.model, made.sizes, made.replicas, made.data
    )


def train_trial(trial: Trial, callbacks: Sequence[Callback | OnEpoch] = ()) -> Snapshot:
    """Trains a trial until it stops early, unless it is trained already; resumes a killed run.

    Args:
      trial: what to train.
      callbacks: called after every epoch (`training.callbacks`).
    """
    initial = _initial(trial)
    check_made_from(trial.folder, trial.data.made_from or {})
    claim(trial.run)
    facts = facts_of(trial.prepared, trial.method)
    if is_main_process():
        keep_directions(trial.run.workdir, trial.method, facts.turn, facts.start)
    with PREEMPTION.saving():
        return train(trial.job, initial, callbacks)


def _initial(trial: Trial) -> Snapshot:
    """Where training starts: at random, or from an earlier run's models."""
    config, data = trial.config.train, trial.data
    initial = initial_snapshot(trial.model, trial.replicas, data)
    from_earlier = config.start_from and data.trained
    if not from_earlier or Checkpoints(trial.folder / "last").newest() is not None:
        return initial
    workdir = pathlib.Path(config.start_from).expanduser()
    earlier = read_earlier(workdir, trial.name, trial.run.allow_older)
    rows = earlier_rows(trial.run.split.log.item_ids, earlier.item_ids)
    if METHODS[trial.method].needs_bank and trial.prepared.bank is not None:
        check_basis(earlier, trial.prepared.bank, earlier_banks(workdir), rows)
    given = replicate(data.mesh, start_from(initial.state.params, earlier, rows))
    params = with_named_parts(trial.model, given, initial.state.params)
    logger.info(
        f"{trial.name}: starts from {workdir}, which knows {(rows >= 0).sum():,} of {len(rows):,} items"
    )
    state = initial.state._replace(params=params)
    return initial._replace(state=state, best_params=copied(params))


def trained(trial: Trial) -> Snapshot:
    """The newest checkpoint of a trial.

    Raises:
      UserError: nothing was trained in this workdir; or it was trained on something else; or the newest model is damaged.
    """
    found = find_model(trial.folder, trial.run.allow_older)
    if found is None:
        raise UserError(
            f"{trial.folder}: no checkpoint; run --mode=train with the same --workdir first"
        )
    if found.manifest:
        stored = found.manifest["made_from"]
        wanted = trial.run.made_from(trial.method, trial.backbone)
        place = found.folder / str(found.step)
        if reason := difference(without_code(stored), without_code(wanted)):
            raise UserError(
                f"{place}: this model is of another run: {reason}; use another --workdir"
            )
        if reason := difference(stored, wanted):
            logger.warning(
                f"warning: {place}: {reason}, and the model is used with the present code; if that computes something else, train anew in "
                "another --workdir"
            )
    checkpoints = Checkpoints(found.folder)
    like = snapshot_like(trial.model, trial.replicas, trial.data)
    tree = Snapshot(*checkpoints.read(found.step, like))
    checkpoints.close()
    return tree._replace(progress=as_progress(tree.progress))


def is_unfinished(trial: Trial, snapshot: Snapshot) -> bool:
    """Whether a model could be trained further. Where a newer snapshot is damaged, which is said elsewhere, nobody knows how far training
    came, so it does not count.
    """
    progress = snapshot.progress
    step = int(progress.epoch) * trial.data.steps_per_epoch + int(progress.step)
    return progress.is_unfinished(trial.config.train.max_epochs) and not had_newer(
        trial.folder, step
    )


def say_if_unfinished(trial: Trial, snapshot: Snapshot, instead: str = "") -> None:
    """Says that a model could be trained further: its training was interrupted, or a callback has stopped it.

    Args:
      trial: of the model.
      snapshot: its newest checkpoint.
      instead: the name of the trial whose model is used instead of it; empty: it is used.
    """
    progress, epochs, workdir = snapshot.progress, trial.config.train.max_epochs, trial.run.workdir
    if is_unfinished(trial, snapshot):
        used = "its best model so far is used"
        if instead:
            used = f"{instead} is used instead of its best model so far"
        logger.warning(
            f"{workdir}: the training of {trial.name} was stopped after {int(progress.epoch)} of at most {epochs} epochs, and "
            f"{used}; to continue it, call fit(dataset, workdir={str(workdir)!r}) with the same fields, or run "
            f"grasp-jax --workdir={workdir}"
        )


def validation_scores(trial: Trial, snapshot: Snapshot) -> np.ndarray:
    """[M] validation NDCG@10 of the replicas, with the parameters that recommend; -1 without validation.

    `snapshot.progress.best` compares epochs, so it may be the score with all parts. A replica whose weights were lowered at the end is
    validated again: its score is better, and decides between rates and between methods.
    """
    scores = snapshot.progress.best.copy()
    if trial.data.valid is not None:
        for m in range(len(trial.replicas)):
            # a ranker encodes the whole catalogue, so only replicas that are validated again get one
            if validation_lowered(trial.model, one_replica(snapshot.best_params, m)):
                scores[m] = ndcg_at_10(validation_ranks(trial.ranker(snapshot, m), trial.data))
    return scores


def preferred_replicas(replicas: list[Replica], best: np.ndarray) -> list[int]:
    """Indices of the replicas with the dropout and the learning rate that have the best validation score, one for each seed.

    Args:
      replicas: all that were trained.
      best: [M] validation NDCG@10 of each (`validation_scores`); the mean over seeds decides.
    """
    scores: dict[tuple[float, float], list[float]] = {}
    for replica, score in zip(replicas, best, strict=True):
        scores.setdefault((replica.dropout, replica.learning_rate), []).append(float(score))
    preferred = max(scores, key=lambda rates: np.mean(scores[rates]))
    return [
        m
        for m, replica in enumerate(replicas)
        if (replica.dropout, replica.learning_rate) == preferred
    ]
