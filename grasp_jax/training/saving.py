"""When a training saves, in which order, and what it resumes from."""

import dataclasses
import time

from grasp_jax.core.log import logger
from grasp_jax.parallel.processes import CONTINUE, PREEMPTION, SAVE, STOP
from grasp_jax.training.checkpoint import Checkpoints, hash_of_model, record_newest
from grasp_jax.training.early_stopping import as_progress
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.snapshot import Snapshot

SAVING_SHARE = 0.1  # largest share of the time for saves at the end of epochs


@dataclasses.dataclass
class SavePolicy:
    """Decides when to save: every so many seconds, and after an epoch if saving is cheap compared with training.

    An epoch may take a fraction of a second; to save after each one would cost more than training.

    Attributes:
      interval: largest number of seconds between two saves.
      last_save: time at which the newest save ended, from `time.perf_counter`.
      cost: seconds that the newest save took.
    """

    interval: float
    last_save: float = dataclasses.field(default_factory=time.perf_counter)
    cost: float = 0.0

    def action(self, epoch_ends: bool) -> int:
        """The action that this process requests after a dispatch: STOP, SAVE or CONTINUE of `processes`."""
        if PREEMPTION.requested:
            return STOP
        wait = min(self.interval, self.cost / SAVING_SHARE) if epoch_ends else self.interval
        return SAVE if time.perf_counter() - self.last_save > wait else CONTINUE

    def saved(self, started: float) -> None:
        """Records a save that began at `started` and ends now."""
        self.last_save = time.perf_counter()
        self.cost = self.last_save - started


def done_so_far(epochs: int, steps: int | None = None) -> str:
    """The work done, in words: "1 epoch and 0 steps"; where the steps are not known, "3 epochs"."""
    counted = [(epochs, "epoch"), *([] if steps is None else [(steps, "step")])]
    return " and ".join(f"{count} {noun if count == 1 else f'{noun}s'}" for count, noun in counted)


class Saver:
    """The checkpoints of one training, "last" and "best".

    Args:
      job: the training; its folder is created if it does not exist.
    """

    def __init__(self, job: TrainingJob) -> None:
        made_from = job.data.made_from
        self.last = Checkpoints(job.folder / "last", made_from)
        self.best = Checkpoints(job.folder / "best", made_from)
        self.policy = SavePolicy(job.config.checkpoint_seconds)
        self._job = job
        self._best_is_unsaved = False
        self._best_hash = ""  # hash of the best parameters, after they were saved

    def resume(self, like: Snapshot) -> Snapshot | None:
        """The newest undamaged checkpoint, with the structure of `like`; None if training has not begun.

        Raises:
          UserError: there are checkpoints but all are damaged.
        """
        restored = self.last.restore(like)
        if restored is None:
            return None
        snapshot = Snapshot(*restored[1])
        snapshot = snapshot._replace(progress=as_progress(snapshot.progress))
        epochs, steps = int(snapshot.progress.epoch), int(snapshot.progress.step)
        where = f"after {done_so_far(epochs, steps)} from {self.last.folder}"
        logger.info(f"{self._job.name}: resumed {where}")
        return snapshot

    def mark_best_changed(self) -> None:
        """Records that the next snapshot to be saved has other best parameters than "best" on disk."""
        self._best_is_unsaved = True

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Saves the snapshot as "last" and, before that, as "best" if the best parameters have changed.

        A run that is killed in between resumes from the older "last" and reaches the best epoch again.

        Args:
          step: steps done since training began.
          snapshot: the snapshot to save.
        """
        started = time.perf_counter()
        if self._best_is_unsaved or not self._best_hash:
            self._best_hash = hash_of_model(snapshot.best_params)
        if self._best_is_unsaved:
            self.best.save(step, snapshot, self._best_hash)
        self.last.save(step, snapshot, self._best_hash)
        record_newest(self._job.folder, step, self._best_hash)
        self._best_is_unsaved = False
        self.policy.saved(started)

    def close(self) -> None:
        """Releases the threads of "last" and "best"."""
        self.last.close()
        self.best.close()
