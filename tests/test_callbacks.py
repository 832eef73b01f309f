"""Callbacks, trainings without a validation set, and epochs compared by full ranking."""

import dataclasses
import json
import pathlib
import sys
import types
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest

from grasp_jax.config import Config
from grasp_jax.data.log import InteractionLog
from grasp_jax.evaluation.metrics import ndcg_at_10
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.evaluation.ranking import full_ranks
from grasp_jax.evaluation.seen import seen_pairs
from grasp_jax.training import callbacks as callbacks_module
from grasp_jax.training.callbacks import (
    Callback,
    Callbacks,
    EpochRecord,
    TrainingInfo,
    TrainingSummary,
)
from grasp_jax.training.epochs import TrainingData, make_epoch
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.loop import train
from grasp_jax.training.mlflow import MLflowCallback
from grasp_jax.training.records import Records
from grasp_jax.training.replicas import Replica, one_replica
from grasp_jax.training.snapshot import Snapshot, initial_snapshot
from grasp_jax.training.tensorboard import TensorBoardCallback
from grasp_jax.trials.run import open_run, prepare
from grasp_jax.trials.trial import make_trial
from tests.command_line import write_dataset
from tests.refusal import assert_names, refusal

EPOCHS = 4
compiled: list[str] = []


def note(event: str, _: float, **__: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(note)


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A training of two replicas on 60 users, and their log."""

    job: TrainingJob
    log: InteractionLog
    histories: Any

    def job_in(self, folder: pathlib.Path, **changes: Any) -> TrainingJob:
        """The job with a folder of its own; `changes` are of its data."""
        data = dataclasses.replace(self.job.data, **changes)
        records = Records(folder / "metrics.jsonl")
        return dataclasses.replace(self.job, data=data, folder=folder, records=records)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("callbacks")
    config = Config().with_fields(
        {
            "data.path": str(write_dataset(folder / "data")),
            "model.method": "plain",
            "model.backbone": "gru4rec",
            "model.features": 8,
            "model.num_layers": 1,
            "train.seeds": (1, 2),
            "train.batch_size": 16,
            "train.max_epochs": EPOCHS,
            "train.patience": EPOCHS,
            "eval.num_negatives": 10,
            "eval.select": "sampled100",
        }
    )
    run = open_run(config, folder / "run")
    job = make_trial(prepare(run), "plain", "gru4rec").job
    return Tiny(job, run.split.log, run.split.valid)


def start(job: TrainingJob) -> Snapshot:
    return initial_snapshot(job.model, job.replicas, job.data)


@pytest.fixture(scope="module")
def uninterrupted(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    job = tiny.job_in(tmp_path_factory.mktemp("whole"))
    return train(job, start(job))


class Listener(Callback):
    """Remembers what it is told, and stops after an epoch."""

    def __init__(self, stop_after: int = 0, fail_after: int = 0) -> None:
        self.told: list[Any] = []
        self.stop_after, self.fail_after = stop_after, fail_after

    def on_train_begin(self, info: TrainingInfo) -> None:
        self.told.append(info)

    def on_epoch(self, record: EpochRecord) -> bool | None:
        self.told.append(record)
        if record.epoch == self.fail_after:
            raise LookupError("pruned")
        return record.epoch == self.stop_after or None

    def on_train_end(self, summary: TrainingSummary) -> None:
        self.told.append(summary)

    def on_train_error(self, error: BaseException) -> None:
        self.told.append(error)

    def all(self, kind: type) -> list[Any]:
        return [told for told in self.told if isinstance(told, kind)]


def assert_same(one: Snapshot, two: Snapshot) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_callbacks_are_told_what_the_records_hold(
    tiny: Tiny, uninterrupted: Snapshot, tmp_path: pathlib.Path
) -> None:
    """A curve would differ from metrics.jsonl; or what listens change what is trained."""
    job, listener, heard = tiny.job_in(tmp_path), Listener(), []
    trained = train(job, start(job), [listener, heard.append])
    records = listener.all(EpochRecord)
    assert records == heard and len(records) == EPOCHS * len(job.replicas)
    assert [record.as_line() for record in records] == job.records.read()
    first = job.records.read()[0]
    assert first["event"] == "epoch" and first["valid_protocol"] == "sampled100"
    assert (
        first["valid_ndcg@10"] == records[0].valid_score and records[0].replica == job.replicas[0]
    )
    info, summary = listener.told[0], listener.told[-1]
    assert info == TrainingInfo("plain", "gru4rec", tuple(job.replicas), EPOCHS, 0)
    assert summary.epochs == EPOCHS and summary.best == tuple(trained.progress.best.tolist())
    assert "reached train.max_epochs" in summary.reason
    assert_same(trained, uninterrupted)


def test_a_callback_stops_all_replicas_and_training_goes_on_later(
    tiny: Tiny, uninterrupted: Snapshot, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pruned trial would train on, or its last epoch be lost; or the same call never go on."""
    job, listener = tiny.job_in(tmp_path), Listener(stop_after=2)
    stopped = train(job, start(job), [listener])
    assert int(stopped.progress.epoch) == 2 and not stopped.progress.stopped.any()
    said = capsys.readouterr().out
    assert "plain-gru4rec: epoch 2 of at most " in said, "the last epoch is shown"
    assert "stopped after epoch 2: a callback asked to stop (best " in said
    assert listener.told[-1].reason in said
    again = Listener()
    assert_same(train(job, start(job), [again]), uninterrupted)
    assert "resumed after 2 epochs" in capsys.readouterr().out
    assert again.told[0].epochs_done == 2 and again.told[1].epoch == 3
    assert [line["epoch"] for line in job.records.read()] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_what_a_callback_raises_reaches_the_caller(
    tiny: Tiny, uninterrupted: Snapshot, tmp_path: pathlib.Path
) -> None:
    """Optuna would not hear of a pruned trial, a tracker's run stay open, or a resume break."""
    job, listener, other = tiny.job_in(tmp_path), Listener(fail_after=3), Listener()
    with pytest.raises(LookupError, match="pruned"):
        train(job, start(job), [listener, other])
    for callback in (listener, other):
        assert isinstance(callback.told[-1], LookupError) and not callback.all(TrainingSummary)
    assert_same(train(job, start(job)), uninterrupted)


def test_other_processes_call_nothing_and_stop_with_the_first(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker would get each epoch from every process, or one process train on alone."""
    requested = []

    def highest(mesh: Any, value: int) -> np.int32:
        requested.append(value)
        return np.int32(callbacks_module.STOP)  # requested by the first process

    monkeypatch.setattr(callbacks_module, "is_main_process", lambda: False)
    monkeypatch.setattr(callbacks_module, "max_over_processes", highest)
    listener = Listener()
    others = Callbacks([listener], tiny.job.data.mesh)
    with others.during(TrainingInfo("plain", "gru4rec", (), 1, 0)):
        assert others.epoch([]) and requested == [callbacks_module.CONTINUE]
    assert not listener.told and not Callbacks([], tiny.job.data.mesh).epoch([])


def test_training_without_a_validation_set_lasts_as_long_as_told(
    tiny: Tiny, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model for production would stop early, be served as it was before its last epoch, or differ
    from the validated run's after as many epochs."""
    job, validated = tiny.job_in(tmp_path / "refit", valid=None), tiny.job_in(tmp_path / "valid")
    listener = Listener(stop_after=2)
    train(job, start(job), [listener])
    last = train(job, start(job), [listener])
    assert int(last.progress.epoch) == EPOCHS and last.progress.best_epoch.tolist() == [EPOCHS] * 2
    for best, params in zip(
        jax.tree.leaves(last.best_params), jax.tree.leaves(last.state.params), strict=True
    ):
        np.testing.assert_array_equal(best, params)
    expected = train(validated, start(validated)).state.params
    for ours, theirs in zip(
        jax.tree.leaves(last.state.params), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    lines = job.records.read()
    assert {line["event"] for line in lines} == {"refit"} and len(lines) == 2 * EPOCHS
    assert not {"valid_ndcg@10", "best"} & lines[0].keys()
    summary = listener.told[-1]
    assert summary.best == (None, None) and summary.best_epochs == (EPOCHS, EPOCHS)
    said = capsys.readouterr().out.splitlines()
    assert f"plain-gru4rec: stopped after epoch {EPOCHS}: reached train.max_epochs" in said
    saved = json.loads((job.folder / "newest.json").read_text())
    assert saved["step"] == EPOCHS * job.steps_per_epoch


def test_an_epoch_of_some_steps(tiny: Tiny, tmp_path: pathlib.Path) -> None:
    """An epoch that ends early would read the same users each time, count steps of whole epochs, or be continued elsewhere."""
    job, whole = tiny.job_in(tmp_path / "part", epoch_steps=1, valid=None), tiny.job
    assert whole.steps_per_epoch > 1 and job.steps_per_epoch == 1
    assert tiny.job_in(tmp_path, epoch_steps=10**6).steps_per_epoch == whole.steps_per_epoch
    first, second = (make_epoch(job.data, job.replicas, epoch) for epoch in (0, 1))
    of_whole = make_epoch(whole.data, whole.replicas, 0)
    np.testing.assert_array_equal(first.slots, of_whole.slots[:, :1])
    assert (first.users != second.users).any()
    listener = Listener(stop_after=2)
    train(job, start(job), [listener])
    assert int(train(job, start(job), []).progress.epoch) == EPOCHS
    saved = json.loads((job.folder / "newest.json").read_text())
    assert saved["step"] == EPOCHS and job.tokens_per_epoch < whole.tokens_per_epoch


@pytest.mark.parametrize("protocol", ["full", "full_unseen"])
def test_epochs_are_compared_by_full_ranking(
    tiny: Tiny, tmp_path: pathlib.Path, protocol: str
) -> None:
    """Epochs would be chosen among a hundred items while the whole catalogue is served; or each
    epoch's validation compile anew."""
    valid = tiny.job.data.valid
    assert valid is not None
    seen = seen_pairs(tiny.log, tiny.histories, valid.batches)
    changes = {"select": protocol, "item_block": 16, "valid_seen": seen}
    job, counts = tiny.job_in(tmp_path, **changes), {}

    def count(record: EpochRecord) -> None:
        counts[record.epoch] = len(compiled)

    trained = train(job, start(job), [count])
    data: TrainingData = job.data
    lines = job.records.read()
    assert {line["valid_protocol"] for line in lines} == {protocol}
    for m in range(len(job.replicas)):
        params = one_replica(trained.state.params, m)
        ranks = full_ranks(Ranker.of(job.model, params, data.device, data.tables), valid, 16, seen)
        own, other = ranks if protocol == "full" else ranks[::-1]
        assert lines[m - 2]["valid_ndcg@10"] == ndcg_at_10(own)
        assert (own != other).any()
    assert counts[1] > 0 and counts[2] == counts[EPOCHS]


RECORD = EpochRecord("grasp", "sasrec", 1, 0.2, 1e-3, 1, 0.7, 0.3, "full", 0.3, 10.0, 1.0, 1.0, 1.0)
SECOND = dataclasses.replace(RECORD, epoch=2, loss=0.6, valid_score=None, valid_protocol="none")
OTHER = dataclasses.replace(RECORD, seed=2)
SUMMARY = TrainingSummary("grasp", "sasrec", (), 2, "", (), ())


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    for attribute, value in content.items():
        setattr(module, attribute, value)
    monkeypatch.setitem(sys.modules, name, module)


def test_curves_for_tensorboard(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas would share a curve, a point stand at another epoch, or files stay open."""
    points: list[tuple[str, str, float, int]] = []
    closed: list[str] = []

    class Writer:
        def __init__(self, logdir: str) -> None:
            self.run = str(pathlib.Path(logdir).relative_to(tmp_path))

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            points.append((self.run, tag, value, step))

        def flush(self) -> None:
            pass

        def close(self) -> None:
            closed.append(self.run)

    stand_in(monkeypatch, "tensorboardX", SummaryWriter=Writer)
    callback = TensorBoardCallback(tmp_path)
    for record in (RECORD, OTHER, SECOND):
        callback.on_epoch(record)
    runs = [f"grasp-sasrec/seed{seed}-dropout0.2-rate0.001" for seed in (1, 2)]
    assert [point for point in points if point[1] != "tokens_per_second"] == [
        (runs[0], "loss", 0.7, 1),
        (runs[0], "valid_ndcg@10/full", 0.3, 1),
        (runs[1], "loss", 0.7, 1),
        (runs[1], "valid_ndcg@10/full", 0.3, 1),
        (runs[0], "loss", 0.6, 2),
    ]
    callback.on_train_end(SUMMARY)
    assert closed == runs


def test_curves_for_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for TensorBoard; and a failed training would count as finished."""
    calls: list[tuple[Any, ...]] = []

    class Client:
        def __init__(self, tracking_uri: str | None = None) -> None:
            calls.append(("to", tracking_uri))

        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str) -> str:
            return f"id of {name}"

        def create_run(self, experiment_id: str, run_name: str) -> Any:
            calls.append(("run", experiment_id, run_name))
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_name[-1:]))

        def log_param(self, run_id: str, key: str, value: Any) -> None:
            calls.append(("param", key, value))

        def log_metric(self, run_id: str, key: str, value: float, step: int) -> None:
            calls.append(("metric", key, value, step))

        def set_terminated(self, run_id: str, status: str) -> None:
            calls.append(("end", status))

    stand_in(monkeypatch, "mlflow", MlflowClient=Client)
    callback = MLflowCallback("shop", "folder")
    assert calls == [("to", "folder")]
    callback.on_epoch(RECORD)
    callback.on_epoch(SECOND)
    callback.on_train_error(ValueError())
    assert calls[1] == ("run", "id of shop", "grasp-sasrec-seed1-dropout0.2-rate0.001")
    assert ("param", "seed", 1) in calls and ("metric", "loss", 0.6, 2) in calls
    assert ("metric", "valid_ndcg_at_10.full", 0.3, 1) in calls
    assert [call for call in calls if call[0] == "end"] == [("end", "FAILED")]
    callback.on_epoch(OTHER)
    callback.on_train_end(SUMMARY)
    assert calls[-1] == ("end", "FINISHED")


@pytest.mark.parametrize(
    ("package", "callback", "extra"),
    [("tensorboardX", TensorBoardCallback, "tensorboard"), ("mlflow", MLflowCallback, "mlflow")],
)
def test_a_missing_package_is_named(
    package: str, callback: Any, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback would stand in place of the one line that says what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal(callback, "folder")
    assert_names(message, (callback.__name__, package, f"pip install 'grasp-jax[{extra}]'"))


def test_a_replica_has_a_name_of_its_own() -> None:
    """Curves of two replicas would be written over each other."""
    replicas = [Replica(1, 0.2, 1e-3), Replica(2, 0.2, 1e-3), Replica(1, 0.5, 1e-3)]
    replicas += [Replica(1, 0.2, 3e-3)]
    assert len({replica.name for replica in replicas}) == 4
