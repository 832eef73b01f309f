"""The running training loop must not copy implicitly between host and device, compile again, or make the device wait."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import pytest

from grasp_jax.config import Config
from grasp_jax.training import run_epoch
from grasp_jax.training.checkpoint import Checkpoints
from grasp_jax.training.loop import train
from grasp_jax.training.records import Records
from grasp_jax.training.snapshot import initial_snapshot
from grasp_jax.trials.run import Prepared, open_run, prepare
from grasp_jax.trials.trial import Trial, make_trial
from tests.command_line import write_dataset

EPOCHS, BATCH = 4, 16
CELLS = [
    (method, backbone)
    for method in ("plain", "grasp")
    for backbone in ("sasrec", "bert4rec", "gru4rec")
]
CASES = [*((*cell, "full") for cell in CELLS), ("grasp", "sasrec", "sampled100")]
QUICK = [  # each method and way to validate, with a mask behind the histories and without
    ("plain", "bert4rec", "full"),
    ("grasp", "sasrec", "sampled100"),
]
compiled: list[str] = []


def note(event: str, _: float, **__: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(note)


class Watched(Records):
    """Records that forbid implicit transfers from the end of the first epoch on, and note how much was compiled by the end of each.

    Tracing puts constants on the device, so the first epoch is free. On a CPU the guard sees copies to the device alone, for there is no
    copy back; elsewhere it sees both.
    """

    def __init__(self, path: pathlib.Path, guard: contextlib.ExitStack) -> None:
        super().__init__(path)
        self.guard, self.compiled = guard, {}  # type: ignore[var-annotated]

    def append(self, record: dict[str, Any]) -> None:
        super().append(record)
        if not self.compiled:
            self.guard.enter_context(jax.transfer_guard("disallow"))
        self.compiled[record["epoch"]] = len(compiled)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Two seeds by two learning rates, on 60 users: four steps an epoch, one dispatch each."""
    folder = tmp_path_factory.mktemp("transfers")
    config = Config().with_fields(
        {
            "data.path": str(write_dataset(folder / "data")),
            "data.max_length": 12,
            "model.method": "plain,grasp",
            "model.backbone": "sasrec,bert4rec,gru4rec",
            "model.features": 8,
            "model.mlp": (8,),
            "model.num_layers": 1,
            "knowledge.encoder": "file",
            "knowledge.num_neighbours": 3,
            "knowledge.item_file": "items.npy",
            "knowledge.user_file": "users.npy",
            "train.seeds": (1, 2),
            "train.learning_rate": (1e-3, 1e-2),
            "train.batch_size": BATCH,
            "train.max_epochs": EPOCHS,
            "train.steps_per_dispatch": 1,
            "eval.num_negatives": 10,
        }
    )
    return prepare(open_run(config, folder / "run"))


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Iterator[contextlib.ExitStack]:
    """To be entered when implicit transfers are to be forbidden; Orbax's own are not ours."""
    save = Checkpoints.save

    def saved(self: Checkpoints, step: int, tree: Any, model: str) -> None:
        with jax.transfer_guard("allow"):
            save(self, step, tree, model)

    monkeypatch.setattr(Checkpoints, "save", saved)
    with contextlib.ExitStack() as stack:
        yield stack


def trained(trial: Trial, folder: pathlib.Path, guard: contextlib.ExitStack) -> Watched:
    records = Watched(folder / "metrics.jsonl", guard)
    train(
        dataclasses.replace(trial.job, folder=folder, records=records),
        initial_snapshot(trial.model, trial.replicas, trial.data),
    )
    return records


@pytest.mark.parametrize(
    ("method", "backbone", "select"),
    [pytest.param(*cell, marks=() if cell in QUICK else pytest.mark.slow) for cell in CASES],
)
def test_an_epoch_neither_copies_in_secret_nor_compiles(
    prepared: Prepared,
    tmp_path: pathlib.Path,
    guard: contextlib.ExitStack,
    method: str,
    backbone: str,
    select: str,
) -> None:
    """Steps would wait for copies that nobody sees, or an epoch take seconds more for a shape or a constant that changes."""
    trial = make_trial(prepared, method, backbone)
    trial = dataclasses.replace(trial, data=dataclasses.replace(trial.data, select=select))
    records = trained(trial, tmp_path, guard)
    assert list(records.compiled) == list(range(1, EPOCHS + 1))
    assert records.compiled[1] > 0, "nothing was counted"
    assert len(compiled) == records.compiled[2], (
        "validation and checkpoints of the later epochs included"
    )


def test_a_hidden_copy_is_seen(
    prepared: Prepared,
    tmp_path: pathlib.Path,
    guard: contextlib.ExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test above would pass whatever the loop does."""
    trial, append = make_trial(prepared, "plain", "bert4rec"), Watched.append

    def then_careless(self: Watched, record: dict[str, Any]) -> None:
        append(self, record)
        monkeypatch.setattr(jax, "device_put", lambda tree, *_: jax.tree.map(jnp.asarray, tree))

    monkeypatch.setattr(Watched, "append", then_careless)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        trained(trial, tmp_path, guard)


def test_losses_are_read_while_the_next_steps_run(
    prepared: Prepared,
    tmp_path: pathlib.Path,
    guard: contextlib.ExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device would stand idle after each dispatch until the host has read its losses; or they be read too late to stop."""
    happened: list[str] = []
    finite, check = run_epoch.finite_replicas, run_epoch.check_finite

    def dispatched(params: Any) -> jax.Array:
        happened.append("dispatch")
        return finite(params)

    def read(*arguments: Any) -> Any:
        happened.append("read")
        return check(*arguments)

    monkeypatch.setattr(run_epoch, "finite_replicas", dispatched)
    monkeypatch.setattr(run_epoch, "check_finite", read)
    trial = make_trial(prepared, "plain", "bert4rec")
    steps = -(-len(trial.data.users) // BATCH)
    assert steps > 2
    trained(trial, tmp_path, guard)
    assert happened == (["dispatch"] + ["dispatch", "read"] * (steps - 1) + ["read"]) * EPOCHS
