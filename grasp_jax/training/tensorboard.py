"""Curves of a training for TensorBoard, written by tensorboardX.

    recommender.fit(shop, callbacks=[TensorBoardCallback("runs/board")])

then `tensorboard --logdir runs/board`. The files stay on this machine.
"""

import os
import pathlib
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.training.callbacks import Callback, EpochRecord, TrainingSummary
from grasp_jax.training.replicas import Replica
from grasp_jax.workdir import trial_name


class TensorBoardCallback(Callback):
    """Writes loss, validation NDCG@10 and speed of each epoch, one run for each replica.

    Args:
      folder: a run is in folder/METHOD-BACKBONE/REPLICA.

    Raises:
      UserError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            remedy = "pip install 'grasp-jax[tensorboard]'"
            raise UserError(
                f"TensorBoardCallback needs tensorboardX, which is not installed: {remedy}"
            ) from error
        self._new_writer: Any = SummaryWriter
        self._folder = pathlib.Path(folder).expanduser()
        self._writers: dict[Replica, Any] = {}

    def on_epoch(self, record: EpochRecord) -> None:
        """Adds a point to each curve of the record's replica."""
        if record.replica not in self._writers:
            name = trial_name(record.method, record.backbone)
            run = self._folder / name / record.replica.name
            self._writers[record.replica] = self._new_writer(str(run))
        writer = self._writers[record.replica]
        writer.add_scalar("loss", record.loss, record.epoch)
        if record.valid_score is not None:
            name = f"valid_ndcg@10/{record.valid_protocol}"
            writer.add_scalar(name, record.valid_score, record.epoch)
        writer.add_scalar("tokens_per_second", record.tokens_per_second, record.epoch)
        writer.flush()  # so that a killed run loses nothing

    def on_train_end(self, summary: TrainingSummary) -> None:
        """Closes the files."""
        self._close()

    def on_train_error(self, error: BaseException) -> None:
        """Closes the files."""
        self._close()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
