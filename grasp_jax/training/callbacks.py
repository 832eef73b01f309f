"""What a program can observe while models train: a class to derive from, or one function of an epoch.

    recommender.fit(shop, callbacks=[lambda record: print(record.epoch, record.valid_score)])

With several processes only the first one calls callbacks. After a resume the epochs since the newest
checkpoint are trained again, and callbacks are called for them again.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

from jax.sharding import Mesh

from grasp_jax.parallel.mesh import on_host
from grasp_jax.parallel.processes import CONTINUE, STOP, is_main_process, max_over_processes
from grasp_jax.training.replicas import Replica


@dataclasses.dataclass(frozen=True)
class TrainingInfo:
    """The training that is about to begin.

    Attributes:
      method: its name.
      backbone: its name.
      replicas: models trained together, one record each per epoch.
      max_epochs: epochs at most.
      epochs_done: epochs that an interrupted call has already trained.
    """

    method: str
    backbone: str
    replicas: tuple[Replica, ...]
    max_epochs: int
    epochs_done: int


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """One epoch of one replica, with the values of its line in metrics.jsonl.

    Attributes:
      method: its name.
      backbone: its name.
      seed: the replica's.
      dropout: the replica's.
      learning_rate: the replica's.
      epoch: counted from 1.
      loss: mean over the epoch's steps.
      valid_score: validation NDCG@10, between 0 and 1; None without a validation set.
      valid_protocol: the protocol of `valid_score` (`evaluation.protocols`); "none" without a validation set.
      best: the best `valid_score` so far; None without a validation set.
      tokens_per_second: interactions that all replicas together read in a second.
      train_seconds: seconds of training, all replicas together.
      eval_seconds: seconds of validation.
      compile_seconds: seconds of compilation, which are not part of the other two.
    """

    method: str
    backbone: str
    seed: int
    dropout: float
    learning_rate: float
    epoch: int
    loss: float
    valid_score: float | None
    valid_protocol: str
    best: float | None
    tokens_per_second: float
    train_seconds: float
    eval_seconds: float
    compile_seconds: float

    @property
    def replica(self) -> Replica:
        """Which of the replicas this is."""
        return Replica(self.seed, self.dropout, self.learning_rate)

    def as_line(self) -> dict[str, object]:
        """The line of metrics.jsonl. Without a validation set the line has another event name, because it has no validation score."""
        fields = dataclasses.asdict(self)
        score, protocol, best = (
            fields.pop(name) for name in ("valid_score", "valid_protocol", "best")
        )
        if score is None:
            return {"event": "refit"} | fields
        begin = ("method", "backbone", "seed", "dropout", "learning_rate", "epoch", "loss")
        return (
            {"event": "epoch"}
            | {name: fields.pop(name) for name in begin}
            | {"valid_ndcg@10": score, "valid_protocol": protocol, "best": best}
            | fields
        )


@dataclasses.dataclass(frozen=True)
class TrainingSummary:
    """How a training ended.

    Attributes:
      method: its name.
      backbone: its name.
      replicas: models trained together.
      epochs: trained epochs, including those before an interruption.
      reason: one line that says why training stopped.
      best: the best `valid_score` of each replica, with the weights of parts that were chosen last; None without a validation set.
      best_epochs: the epoch of each replica's best parameters, from 1.
    """

    method: str
    backbone: str
    replicas: tuple[Replica, ...]
    epochs: int
    reason: str
    best: tuple[float | None, ...]
    best_epochs: tuple[int, ...]


class Callback:
    """Base class: each method does nothing until it is overridden."""

    def on_train_begin(self, info: TrainingInfo) -> None:
        """Called before the first epoch of this process."""

    def on_epoch(self, record: EpochRecord) -> bool | None:
        """Called after each epoch for each replica that was trained in it.

        Returns:
          True to stop all replicas after this epoch, which is then saved as the last one. An exception ends training at once and reaches
          the caller (as `optuna.TrialPruned` should); this epoch is then not saved.
        """
        return None

    def on_train_end(self, summary: TrainingSummary) -> None:
        """Called after the last epoch was saved."""

    def on_train_error(self, error: BaseException) -> None:
        """Called instead of `on_train_end` if an exception ends training; the exception is raised again."""


OnEpoch = Callable[[EpochRecord], bool | None]


class FunctionCallback(Callback):
    """A plain function as a callback."""

    def __init__(self, function: OnEpoch) -> None:
        self._function = function

    def on_epoch(self, record: EpochRecord) -> bool | None:
        """Calls the function and returns its result."""
        return self._function(record)


class Callbacks:
    """All callbacks of a training. Only the first process calls them; the others stop when it stops.

    Args:
      callbacks: the callbacks that the user passed, the same in every process.
      mesh: devices through which the processes agree to stop.
    """

    def __init__(self, callbacks: Sequence[Callback | OnEpoch], mesh: Mesh) -> None:
        self._any, self._mesh = bool(callbacks), mesh
        self._called = [
            callback if isinstance(callback, Callback) else FunctionCallback(callback)
            for callback in (callbacks if is_main_process() else ())
        ]

    @contextlib.contextmanager
    def during(self, info: TrainingInfo) -> Iterator[None]:
        """Context of a training: reports its begin, and an error that ends it."""
        try:
            for callback in self._called:
                callback.on_train_begin(info)
            yield
        except BaseException as error:
            for callback in self._called:
                callback.on_train_error(error)
            raise

    def epoch(self, records: Sequence[EpochRecord]) -> bool:
        """Reports an epoch, and returns whether any callback wants to stop. Every process must call this method."""
        if not self._any:
            return False
        answers = [callback.on_epoch(record) for record in records for callback in self._called]
        return bool(on_host(max_over_processes(self._mesh, STOP if any(answers) else CONTINUE)))

    def end(self, summary: TrainingSummary) -> None:
        """Reports how training ended."""
        for callback in self._called:
            callback.on_train_end(summary)
