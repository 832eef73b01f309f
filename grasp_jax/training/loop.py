"""The training loop, in the order in which it runs.

M replicas (seeds x dropout rates x learning rates) train together along a `vmap` axis. Early stopping acts on each replica by itself, and
a stopped replica leaves the axis. A thread packs the next epoch while the device trains the present one. The order of the data is a
function of (seed, epoch), and negatives and dropout are functions of (seed, step), so a killed run that continues from its last checkpoint
has the same result as one that was never killed.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from grasp_jax.core.board import EpochState
from grasp_jax.core.log import logger
from grasp_jax.core.progress import EpochProgress
from grasp_jax.core.timing import Stopwatch
from grasp_jax.parallel.mesh import replicate
from grasp_jax.parallel.processes import PREEMPTION, STOP
from grasp_jax.training.callbacks import (
    Callback,
    Callbacks,
    EpochRecord,
    OnEpoch,
    TrainingInfo,
    TrainingSummary,
)
from grasp_jax.training.early_stopping import Progress, why_stopped
from grasp_jax.training.epochs import Epoch, make_epoch
from grasp_jax.training.fusion_weights import with_chosen_weights, with_weights_for_newest
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.records import has_labels
from grasp_jax.training.run_epoch import TrainedEpoch, compile_steps, run_epoch
from grasp_jax.training.saving import Saver, done_so_far
from grasp_jax.training.snapshot import Snapshot, keep_better
from grasp_jax.training.validation import UNKNOWN, validate


def train(
    job: TrainingJob, start: Snapshot, callbacks: Sequence[Callback | OnEpoch] = ()
) -> Snapshot:
    """Trains a job's replicas until early stopping; resumes if its folder has checkpoints.

    Without a validation set there is no early stopping: all replicas train for `config.max_epochs` epochs, and the last one counts as the
    best.

    Args:
      job: the models, the data, and where results are written.
      start: the state with which training starts, such as `initial_snapshot`; its arrays are donated.
      callbacks: called after every epoch (`training.callbacks`).

    Returns:
      The final snapshot; `best_params` are the parameters of each replica's best epoch.

    Raises:
      TrainingDiverged: a loss or a parameter is no longer finite.
      UserError: there are checkpoints but all are damaged, or the disk is full.
    """
    config, listeners, stop_requested = job.config, Callbacks(callbacks, job.data.mesh), False
    with contextlib.ExitStack() as stack:
        saver = stack.enter_context(contextlib.closing(Saver(job)))
        snapshot = _begin(job, saver, start)
        epochs_done, partial = int(snapshot.progress.epoch), bool(snapshot.progress.step)
        stack.enter_context(listeners.during(_info(job, epochs_done)))
        # in the first epoch each process waits until the slowest one has compiled
        several = jax.process_count() > 1
        progress_line = stack.enter_context(
            contextlib.closing(
                EpochProgress(job.name, config.max_epochs, epochs_done, partial or several)
            )
        )
        packer = stack.enter_context(contextlib.closing(_Packer(job, epochs_done)))
        steps = compile_steps(job, snapshot.state.params)
        steps = steps._replace(train_steps=progress_line.first_call(steps.train_steps))
        while snapshot.progress.is_unfinished(config.max_epochs) and not stop_requested:
            active, is_first = snapshot.progress.active, int(snapshot.progress.epoch) == epochs_done
            trained = run_epoch(job, steps, saver, snapshot, packer.next_epoch(active))
            with Stopwatch() as watch:
                snapshot, scores = _select(job, saver, trained.snapshot)

            # Record first, then save: a run that is killed in between resumes from the checkpoint before, and does both again.
            records = _epoch_records(job, trained, watch, snapshot.progress, scores, active)
            for record in records:
                job.records.append(record.as_line())
            stop_requested = listeners.epoch(records)
            training_ends = stop_requested or not snapshot.progress.is_unfinished(config.max_epochs)
            if training_ends:
                snapshot = _choose_parts(job, saver, snapshot)
            _save_if_due(job, saver, snapshot, trained.action, training_ends)
            progress_line.epoch_done(
                int(snapshot.progress.epoch),
                _epoch_state(
                    trained, snapshot.progress, scores, active, waited=several and is_first
                ),
                trained.seconds + watch.seconds,
            )
        reason = why_stopped(snapshot.progress, config.patience, stop_requested)
        progress_line.end(reason)
        listeners.end(_summary(job, snapshot.progress, reason))
    return snapshot


def _begin(job: TrainingJob, saver: Saver, start: Snapshot) -> Snapshot:
    """The state with which training continues: the newest checkpoint, or `start`; drops records of later epochs.

    A model from `config.start_from` counts as epoch 0, and a later epoch is kept only if it is better. A model without parameters to learn
    is epoch 0 too, and no epoch follows.
    """
    resumed = saver.resume(start)
    epoch = -1 if resumed is None else int(resumed.progress.epoch)
    job.records.keep(
        lambda record: not (has_labels(record, job.labels) and record["epoch"] > epoch)
    )
    if resumed is not None:
        return resumed
    if not job.config.start_from and job.data.trained:
        return start
    saver.mark_best_changed()
    if job.data.valid is not None:
        scores = validate(job.model, start.state.params, job.data, start.progress)
        start = start._replace(progress=start.progress.starting_from(scores))
        values = {
            "valid_ndcg@10": [float(score) for score in scores],
            "valid_protocol": job.data.select,
        }
        job.records.append({"event": "start", **job.labels, "epoch": 0, **values})
        if job.data.trained:
            best = f"has validation NDCG@10 {100 * scores.max():.2f} %"
            logger.info(f"{job.name}: the model that it starts from {best}")
    if not job.data.trained:
        start = start._replace(progress=start.progress.with_nothing_to_train())
    saver.save(0, start)
    return start


class _Packer:
    """Packs each epoch in a thread while the previous epoch is trained."""

    def __init__(self, job: TrainingJob, first: int) -> None:
        self._job, self._next = job, first
        self._thread = ThreadPoolExecutor(1)
        self._submit()

    def _submit(self) -> None:
        self._pending = self._thread.submit(
            make_epoch, self._job.data, self._job.replicas, self._next
        )
        self._next += 1

    def next_epoch(self, active: np.ndarray) -> Epoch:
        """The next epoch of the active replicas."""
        epoch = Epoch(*(part[active] for part in self._pending.result()))
        self._submit()
        return epoch

    def close(self) -> None:
        """Drops epochs that will not be trained."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _select(job: TrainingJob, saver: Saver, snapshot: Snapshot) -> tuple[Snapshot, np.ndarray]:
    """Validates after an epoch: keeps better parameters, tries other weights of the parts for replicas whose score stands still, and stops
    replicas whose patience is exhausted if that does not help.

    Returns:
      The snapshot after the epoch, and [M] scores, `UNKNOWN` for replicas that were not validated.
    """
    params, progress = snapshot.state.params, snapshot.progress
    if job.data.valid is None:
        scores = np.full(len(job.replicas), UNKNOWN)
        progress, better = progress.after_unvalidated_epoch()
    else:
        scores = validate(job.model, params, job.data, progress)
        progress, better = progress.after_epoch(scores, job.config.patience)
    best_params = snapshot.best_params
    if better.any():
        saver.mark_best_changed()
        best_params = keep_better(best_params, params, replicate(job.data.mesh, better))
    validated = Snapshot(snapshot.state, best_params, progress)
    tried = progress.tries_weights(~snapshot.progress.stopped, job.config.max_epochs)
    weighted, scores = with_weights_for_newest(job, validated, tried, scores)
    if weighted is not validated:
        saver.mark_best_changed()
    return weighted, scores


def _choose_parts(job: TrainingJob, saver: Saver, snapshot: Snapshot) -> Snapshot:
    """At the end of training, chooses the weights of the parts by validation."""
    chosen = with_chosen_weights(job, snapshot)
    if chosen is not snapshot:
        saver.mark_best_changed()
    return chosen


def _save_if_due(
    job: TrainingJob, saver: Saver, snapshot: Snapshot, action: int, training_ends: bool
) -> None:
    """Saves after an epoch if `action` is SAVE or STOP or if it is the last epoch; ends the process if `action` is STOP."""
    epochs = int(snapshot.progress.epoch)
    if action or training_ends:
        saver.save(epochs * job.steps_per_epoch, snapshot)
    if action == STOP:
        PREEMPTION.stop(f" after {done_so_far(epochs)}, saved in {saver.last.folder}")


def _epoch_records(
    job: TrainingJob,
    trained: TrainedEpoch,
    validation: Stopwatch,
    progress: Progress,
    scores: np.ndarray,
    active: np.ndarray,
) -> list[EpochRecord]:
    """The records of an epoch of the replicas that were trained in it."""
    validated = job.data.valid is not None
    return [
        EpochRecord(
            method=job.method,
            backbone=job.backbone,
            **dataclasses.asdict(job.replicas[m]),
            epoch=int(progress.epoch),
            loss=float(trained.mean_loss[m]),
            valid_score=float(scores[m]) if validated else None,
            valid_protocol=job.data.select if validated else "none",
            best=float(progress.best[m]) if validated else None,
            tokens_per_second=round(trained.tokens_per_second, 1),
            train_seconds=round(trained.seconds, 3),
            eval_seconds=round(validation.seconds, 3),
            compile_seconds=round(trained.compile_seconds + validation.compile_seconds, 3),
        )
        for m in active
    ]


def _epoch_state(
    trained: TrainedEpoch,
    progress: Progress,
    scores: np.ndarray,
    active: np.ndarray,
    waited: bool,
) -> EpochState:
    """One line about an epoch: means over the replicas that were trained in it, and the best score. The rate is not shown if this process
    has `waited` for the compilation of others.
    """
    validated = progress.best.max() >= 0
    return EpochState(
        loss=float(trained.mean_loss[active].mean()),
        validation=float(scores[active].max()) if validated else None,
        best=float(progress.best.max()) if validated else None,
        rate=None if waited else trained.tokens_per_second,
        training=len(active),
    )


def _info(job: TrainingJob, epochs_done: int) -> TrainingInfo:
    replicas = tuple(job.replicas)
    return TrainingInfo(job.method, job.backbone, replicas, job.config.max_epochs, epochs_done)


def _summary(job: TrainingJob, progress: Progress, reason: str) -> TrainingSummary:
    validated = job.data.valid is not None
    return TrainingSummary(
        method=job.method,
        backbone=job.backbone,
        replicas=tuple(job.replicas),
        epochs=int(progress.epoch),
        reason=reason,
        best=tuple(float(best) if validated else None for best in progress.best),
        best_epochs=tuple(int(epoch) for epoch in progress.best_epoch),
    )
