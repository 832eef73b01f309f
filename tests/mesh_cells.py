"""Trains, evaluates and recommends on one device and on several, and compares; with devices emulated, so in a process of its own.

    python -m tests.mesh_cells FOLDER plain-sasrec:8x1:device grasp-gru4rec:2x4:host ...

FOLDER/data is of `tests.command_line.write_dataset`. A cell is METHOD-BACKBONE:DATAxTABLE:USERS, with `config.mesh` and
`config.tables.users`. Prints a line for each cell, and "all equal".
"""

import pathlib
import sys
from typing import Any

import jax
import numpy as np
import pyarrow.parquet

from grasp_jax.cell_results import evaluate_cell
from grasp_jax.cells import Cell, make_cell, train_cell
from grasp_jax.config import default_config
from grasp_jax.experiment import Experiment
from grasp_jax.parallel.mesh import everywhere, shared_out
from grasp_jax.serving.recommend import recommend
from grasp_jax.training import loop
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.members import of_members, one_of
from grasp_jax.training.step import make_train_steps

EPOCHS = 7  # 49 steps


def experiment(folder: pathlib.Path, cell: str, mesh: tuple[int, int], users: str, workdir: str) -> Experiment:
    config = default_config()
    config.mesh.data, config.mesh.table = mesh
    config.tables.users = users
    config.data.path, config.data.max_length, config.data.tail_user_below = str(folder / "data"), 12, 0
    config.knowledge.encoder, config.knowledge.item_file, config.knowledge.user_file = "file", "items.npy", "users.npy"
    config.knowledge.num_neighbours = 3
    config.model.method, config.model.backbone = cell.split("-")
    config.model.mask_noise = 0.1
    config.model.features, config.model.mlp, config.model.num_layers = 8, (16,), 1
    config.train.batch_size, config.train.max_epochs, config.train.steps_per_dispatch = 8, EPOCHS, 2
    config.eval.user_block, config.eval.num_negatives, config.eval.item_block, config.recommend.exclude_seen = 20, 10, 16, False
    return Experiment(config, folder / workdir)


def the_cell(own: Experiment) -> Cell:
    return make_cell(own, own.config.model.method, own.config.model.backbone)


def outcome(own: Experiment, whole: bool) -> dict[str, Any]:
    """Losses, metrics and, if `whole`, the ranking of the full catalogue and recommendations."""
    own.config.eval.full = whole
    cell = the_cell(own)
    snapshot = train_cell(own, cell)
    rows = evaluate_cell(own, cell, snapshot).rows
    metrics = losses(own) | {"test": [[row["NDCG@10"], row["MRR"]] for row in rows]}
    if not whole:
        return metrics
    log, path = own.split.log, own.workdir / "recommendations.parquet"
    recommend(
        own.config, cell.model, one_of(snapshot.best_params, 0), cell.data.device, cell.data.tables, log, np.arange(log.num_users),
        own.queries(cell.method, log.offsets[1:]), own.mesh, path,
    )  # fmt: skip
    table = pyarrow.parquet.read_table(path).to_pydict()
    order = np.lexsort((table["rank"], table["user"]))
    return metrics | {name: np.asarray(table[name])[order].tolist() for name in ("item", "score")}


def losses(own: Experiment) -> dict[str, Any]:
    epochs = [record for record in own.records.read() if record["event"] == "epoch"]
    assert len(epochs) == EPOCHS
    return {name: [record[name] for record in epochs] for name in ("loss", "valid_ndcg@10")}


def assert_same(one: dict[str, Any], many: dict[str, Any], what: str) -> None:
    for name in one:
        np.testing.assert_allclose(many[name], one[name], rtol=1e-5, atol=1e-5, err_msg=f"{what}: {name}")


def assert_same_order(one: Cell, many: Cell) -> None:
    """The same data in the same places, with empty rows at the end."""
    slots, expected = (make_epoch(cell.data, cell.members, 3).slots for cell in (many, one))
    np.testing.assert_array_equal(slots[:, :, : expected.shape[2]], expected)
    assert (slots[:, :, expected.shape[2] :] == -1).all() and slots.shape[2] % many.data.mesh.size == 0


def compiled(cell: Cell) -> Any:
    """Two steps."""
    data, put = cell.data, lambda tree: everywhere(cell.data.mesh, tree)
    keys, *rates = of_members(cell.members, put)
    packed = shared_out(data.mesh, make_epoch(data, cell.members, 0).slots[:, :2], axis=2)
    steps = jax.jit(make_train_steps(cell.model, data.shape, data.loss))
    state = loop.initial_snapshot(cell.model, cell.members, data).state
    return steps.lower(state, data.device, data.tables, packed, keys, put(np.int32(0)), *rates).compile()


def assert_work_is_shared(one: Cell, many: Cell) -> None:
    """Each device has its part of the batch and no more: gradients are added up, and the work of a device falls."""
    shared, single = compiled(many), compiled(one)
    assert "all-reduce" in shared.as_text() and "all-reduce" not in single.as_text()
    assert shared.cost_analysis()["flops"] < 0.6 * single.cost_analysis()["flops"]


def assert_rows_are_shared(cell: Cell) -> None:
    """A device holds its part of the item tables: 1 / n of the rows, rounded up."""
    for name in ("items", "items_similar"):
        if name in cell.data.tables:
            table = cell.data.tables[name]
            assert {part.data.shape[0] for part in table.rows.addressable_shards} == {-(-table.num_rows // table.shares)}


def main(folder: pathlib.Path, cells: list[str]) -> None:
    single: dict[str, dict[str, Any]] = {}
    for cell in cells:
        name, mesh, users = cell.split(":")
        data, table = (int(axis) for axis in mesh.split("x"))
        whole = name == "grasp-gru4rec"  # once is enough
        alone = experiment(folder, name, (1, 1), "device", f"{name}-1")
        if name not in single:
            single[name] = outcome(alone, whole)
        many = experiment(folder, name, (data, table), users, cell.replace(":", "-"))
        assert_same(single[name], outcome(many, whole), cell)
        assert_same_order(the_cell(alone), the_cell(many))
        if name.startswith("plain"):
            assert_work_is_shared(the_cell(alone), the_cell(many))
        elif table > 1:
            assert_rows_are_shared(the_cell(many))
        print(cell, flush=True)
    resumes_elsewhere(folder, cells[0], single[cells[0].split(":")[0]])
    print("all equal")


def resumes_elsewhere(folder: pathlib.Path, cell: str, expected: dict[str, Any]) -> None:
    """Killed on several devices in the middle of an epoch; two, and then one, go on."""
    name, mesh, _ = cell.split(":")
    data, table = (int(axis) for axis in mesh.split("x"))
    for devices in ((data, table), (2, 1)):
        stopped_within_an_epoch(experiment(folder, name, devices, "device", "moved"))
    ended = experiment(folder, name, (1, 1), "device", "moved")
    train_cell(ended, the_cell(ended))
    assert_same({name: expected[name] for name in losses(ended)}, losses(ended), "moved")


def stopped_within_an_epoch(own: Experiment) -> None:
    real, saves = loop.Checkpoints.save, 0

    def save(self: Any, step: int, tree: Any, model: str) -> None:
        nonlocal saves
        real(self, step, tree, model)
        saves += int(tree.progress.step) > 0
        if saves == 3:
            raise KeyboardInterrupt

    own.config.train.checkpoint_seconds, loop.Checkpoints.save = 0.0, save  # type: ignore[method-assign]
    try:
        train_cell(own, the_cell(own))
    except KeyboardInterrupt:
        return
    finally:
        loop.Checkpoints.save = real  # type: ignore[method-assign]
    raise AssertionError("was not stopped")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
