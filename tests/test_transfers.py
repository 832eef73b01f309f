"""What the training loop must not do once it runs: copy in secret between host and device, compile again, or make the device wait."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import pytest

from grasp_jax.cells import Cell, make_cell
from grasp_jax.config import default_config
from grasp_jax.experiment import Experiment
from grasp_jax.training import loop
from grasp_jax.training.checkpoint import Checkpoints
from grasp_jax.training.records import Records
from tests.command_line import write_dataset

EPOCHS, BATCH = 4, 16
CELLS = [(method, backbone) for method in ("plain", "grasp") for backbone in ("sasrec", "bert4rec", "gru4rec")]
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
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Two seeds by two learning rates, on 60 users: four steps an epoch, one dispatch each."""
    folder = tmp_path_factory.mktemp("transfers")
    config = default_config()
    config.data.path, config.data.max_length = str(write_dataset(folder / "data")), 12
    config.model.method, config.model.backbone = "plain,grasp", "sasrec,bert4rec,gru4rec"
    config.model.features, config.model.mlp, config.model.num_layers = 8, (8,), 1
    config.knowledge.encoder, config.knowledge.num_neighbours = "file", 3
    config.knowledge.item_file, config.knowledge.user_file = "items.npy", "users.npy"
    config.train.seeds, config.train.learning_rate = (1, 2), (1e-3, 1e-2)
    config.train.batch_size, config.train.max_epochs, config.train.steps_per_dispatch = BATCH, EPOCHS, 1
    config.eval.num_negatives = 10
    return Experiment(config, folder / "run")


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


def trained(experiment: Experiment, cell: Cell, folder: pathlib.Path, guard: contextlib.ExitStack) -> Watched:
    records = Watched(folder / "metrics.jsonl", guard)
    initial = loop.initial_snapshot(cell.model, cell.members, cell.data)
    loop.train(experiment.config.train, cell.model, cell.members, cell.data, initial, folder, records, cell.labels)
    return records


@pytest.mark.parametrize(("method", "backbone"), CELLS)
def test_an_epoch_neither_copies_in_secret_nor_compiles(
    experiment: Experiment, tmp_path: pathlib.Path, guard: contextlib.ExitStack, method: str, backbone: str
) -> None:
    """Steps would wait for copies that nobody sees, or an epoch take seconds more for a shape or a constant that changes."""
    records = trained(experiment, make_cell(experiment, method, backbone), tmp_path, guard)
    assert list(records.compiled) == list(range(1, EPOCHS + 1))
    assert records.compiled[1] > 0, "nothing was counted"
    assert len(compiled) == records.compiled[2], "validation and checkpoints of the later epochs included"


def test_a_hidden_copy_is_seen(
    experiment: Experiment, tmp_path: pathlib.Path, guard: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above would pass whatever the loop does."""
    cell = make_cell(experiment, "plain", "gru4rec")
    monkeypatch.setattr(jax, "device_put", lambda tree, *_: jax.tree.map(jnp.asarray, tree))
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        trained(experiment, cell, tmp_path, guard)


def test_losses_are_read_while_the_next_steps_run(
    experiment: Experiment, tmp_path: pathlib.Path, guard: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device would stand idle after each dispatch until the host has read its losses; or they be read too late to stop."""
    happened: list[str] = []
    finite, losses = loop._finite, loop._checked_losses

    def dispatched(params: Any) -> jax.Array:
        happened.append("dispatch")
        return finite(params)

    def read(*arguments: Any) -> Any:
        happened.append("read")
        return losses(*arguments)

    monkeypatch.setattr(loop, "_finite", dispatched)
    monkeypatch.setattr(loop, "_checked_losses", read)
    cell = make_cell(experiment, "plain", "gru4rec")
    steps = -(-len(cell.data.users) // BATCH)
    assert steps > 2
    trained(experiment, cell, tmp_path, guard)
    assert happened == (["dispatch"] + ["dispatch", "read"] * (steps - 1) + ["read"]) * EPOCHS
