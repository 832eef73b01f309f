"""One training: what stays the same from its first epoch to its last."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

from grasp_jax.config import TrainConfig
from grasp_jax.evaluation.untrained import trial_label
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.records import Records
from grasp_jax.training.replicas import Replica


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """One method on one backbone, the replicas that are trained together, and where results go.

    Attributes:
      config: the `train` section.
      model: the module whose parameters are trained.
      replicas: the M models trained together.
      data: the data for training and validation.
      folder: checkpoints go to folder/last and folder/best.
      records: metrics, one line per replica and epoch.
      method: name of the method, for records and messages.
      backbone: name of the backbone.
    """

    config: TrainConfig
    model: SequenceModel
    replicas: Sequence[Replica]
    data: TrainingData
    folder: pathlib.Path
    records: Records
    method: str
    backbone: str

    @property
    def name(self) -> str:
        """Method and backbone, with which messages begin."""
        return trial_label(self.method, self.backbone)

    @property
    def labels(self) -> dict[str, str]:
        """Labels that distinguish the records of this training from others in the same file."""
        return {"method": self.method, "backbone": self.backbone}

    @property
    def steps_per_epoch(self) -> int:
        """S, of `TrainingData`."""
        return self.data.steps_per_epoch

    @functools.cached_property
    def tokens_per_epoch(self) -> int:
        """Interactions that one model reads in an epoch. If an epoch does not read all users, this is an average."""
        data = self.data
        return data.full_epoch_tokens * data.steps_per_epoch // data.full_epoch_steps
