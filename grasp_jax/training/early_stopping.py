"""The state of a training apart from parameters: its position in the data and the state of early stopping. Saved with checkpoints."""

from typing import Any, NamedTuple

import numpy as np

# Late fusion tries other weights of its parts after so many epochs without a better validation score, and after each as many more. A try
# validates one model after the other: with three or four parts, 6 to 19 times each, and as often again if the newest model may be the best.
STANDSTILL = 5


class Progress(NamedTuple):
    """Position in the data, and state of early stopping, of M models that are trained together.

    Attributes:
      epoch: [] int32 epochs finished.
      step: [] int32 steps done within the next epoch.
      loss_sum: [M] float32 losses of those steps.
      best: [M] float32 best validation NDCG@10; at the end, with the weights of parts that were chosen last.
      best_epoch: [M] int32, counted from 1; 0 before the first validation.
      stopped: [M] bool.
    """

    epoch: np.ndarray
    step: np.ndarray
    loss_sum: np.ndarray
    best: np.ndarray
    best_epoch: np.ndarray
    stopped: np.ndarray

    @classmethod
    def start(cls, num_models: int) -> "Progress":
        """The state before any training."""
        return cls(
            epoch=np.zeros((), np.int32),
            step=np.zeros((), np.int32),
            loss_sum=np.zeros(num_models, np.float32),
            best=np.full(num_models, -1, np.float32),
            best_epoch=np.zeros(num_models, np.int32),
            stopped=np.zeros(num_models, bool),
        )

    @property
    def active(self) -> np.ndarray:
        """Indices of the models that still train."""
        return np.flatnonzero(~self.stopped)

    def tries_weights(self, trained: np.ndarray, max_epochs: int) -> np.ndarray:
        """Which models get a try of other weights of their parts after this epoch.

        Args:
          trained: [M] bool, the models that were trained in this epoch.
          max_epochs: `train.max_epochs`. After the last epoch, weights are chosen for all models that still train anyway.

        Returns:
          [M] bool: the models whose patience ends with this epoch, and after every `STANDSTILL` epochs without a better score.
        """
        waited = self.epoch - self.best_epoch
        still = (waited > 0) & (waited % STANDSTILL == 0) & (self.epoch < max_epochs)
        tried: np.ndarray = trained & (self.stopped | still)
        return tried

    def starting_from(self, scores: np.ndarray) -> "Progress":
        """The state before the first epoch for models that were trained in an earlier run and now have these scores [M]."""
        return self._replace(best=scores.astype(np.float32))

    def with_nothing_to_train(self) -> "Progress":
        """The same state, with all models stopped."""
        return self._replace(stopped=np.ones_like(self.stopped))

    def after_epoch(self, scores: np.ndarray, patience: int) -> tuple["Progress", np.ndarray]:
        """Counts one finished epoch.

        Args:
          scores: [M] validation NDCG@10; entries of stopped models are ignored.
          patience: epochs without a better score after which a model stops.

        Returns:
          The new state and [M] bool, which models got better.
        """
        epoch = self.epoch + np.int32(1)
        better = ~self.stopped & (scores.astype(np.float32) > self.best)
        best_epoch = np.where(better, epoch, self.best_epoch).astype(np.int32)
        progress = self._replace(
            epoch=epoch,
            step=np.zeros((), np.int32),
            loss_sum=np.zeros_like(self.loss_sum),
            best=np.where(better, scores, self.best).astype(np.float32),
            best_epoch=best_epoch,
            stopped=self.stopped | (epoch - best_epoch >= patience),
        )
        return progress, better

    def training_on(self, models: np.ndarray, scores: np.ndarray) -> "Progress":
        """The same state, but the models [M] bool train on, and this epoch is their best, with `scores` [M]."""
        return self._replace(
            best=np.where(models, scores, self.best).astype(np.float32),
            best_epoch=np.where(models, self.epoch, self.best_epoch).astype(np.int32),
            stopped=self.stopped & ~models,
        )

    def after_unvalidated_epoch(self) -> tuple["Progress", np.ndarray]:
        """Counts one finished epoch of a training without a validation set, where the newest epoch always counts as the best.

        Returns:
          As in `after_epoch`.
        """
        epoch = self.epoch + np.int32(1)
        progress = self._replace(
            epoch=epoch,
            step=np.zeros((), np.int32),
            loss_sum=np.zeros_like(self.loss_sum),
            best_epoch=np.where(self.stopped, self.best_epoch, epoch).astype(np.int32),
        )
        return progress, ~self.stopped

    def is_unfinished(self, max_epochs: int) -> bool:
        """Whether another epoch must be trained."""
        return bool(len(self.active)) and int(self.epoch) < max_epochs


def why_stopped(progress: Progress, patience: int, stop_requested: bool = False) -> str:
    """One line for the user: after which epoch training has stopped, why, and which epoch was best.

    Args:
      progress: of the finished training.
      patience: epochs without a better score after which a model stops.
      stop_requested: whether a callback requested the stop.
    """
    best = int(progress.best.argmax())
    score = f"{100 * progress.best[best]:.2f} %" if progress.best[best] >= 0 else ""
    if len(progress.active) == 0 and int(progress.epoch) == 0:
        return "nothing to train" + (f" (validation NDCG@10 {score})" if score else "")
    if len(progress.active) == 0:
        reason = f"no better validation NDCG@10 for {patience} epochs"
    elif stop_requested:
        reason = "a callback asked to stop"
    else:
        reason = "reached train.max_epochs"
    if score and progress.best_epoch[best] == 0 < progress.epoch:
        reason += (
            "; no epoch was better than the model from which this training started, so the model is still that one "
            f"(validation NDCG@10 {score})"
        )
    elif score:
        reason += f" (best validation NDCG@10 {score} at epoch {progress.best_epoch[best]})"
    return f"stopped after epoch {progress.epoch}: {reason}"


def as_progress(tree: Any) -> Progress:
    """A restored tree as `Progress`, with writable NumPy arrays."""
    return Progress(*(np.array(leaf) for leaf in tree))
