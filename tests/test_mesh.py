"""Several devices, emulated: what they compute together is what one computes."""

import os
import pathlib
import subprocess
import sys

import pytest

from grasp_jax.errors import UserError
from grasp_jax.parallel.mesh import make_mesh
from tests.command_line import ROOT, write_dataset

# In a process of its own, for devices are counted once: trains, evaluates and recommends on each mesh in turn.
PROGRAM = """
import json, pathlib, sys
import jax, numpy as np, pyarrow.parquet as parquet
from grasp_jax.cells import evaluate_cell, make_cell, train_cell
from grasp_jax.config import default_config
from grasp_jax.experiment import Experiment
from grasp_jax.serving.recommend import recommend
from grasp_jax.training import loop
from grasp_jax.training.members import one_of
from grasp_jax.training.step import make_train_steps

assert jax.device_count() == 8
folder, cells = pathlib.Path(sys.argv[1]), [name.split("-") for name in sys.argv[2:]]


EPOCHS = 7  # 49 steps


def experiment(method, backbone, devices, workdir):
    config = default_config()
    config.mesh.data = devices
    config.data.path, config.data.max_length, config.data.tail_user_below = str(folder / "data"), 12, 0
    config.knowledge.encoder, config.knowledge.item_file, config.knowledge.user_file = "file", "items.npy", "users.npy"
    config.knowledge.num_neighbours = 3
    config.model.method, config.model.backbone, config.model.mask_noise = method, backbone, 0.1
    config.model.features, config.model.mlp, config.model.num_layers = 8, (16,), 1
    config.train.batch_size, config.train.max_epochs, config.train.steps_per_dispatch = 8, EPOCHS, 2
    config.eval.user_block, config.eval.num_negatives, config.eval.item_block, config.recommend.exclude_seen = 20, 10, 16, False
    return Experiment(config, folder / workdir)


def outcome(own, method, backbone, whole):
    own.config.eval.full = whole
    cell = make_cell(own, method, backbone)
    snapshot = train_cell(own, cell)
    rows = evaluate_cell(own, cell, snapshot).rows
    epochs = [record for record in own.records.read() if record["event"] == "epoch"]
    metrics = {
        "loss": [record["loss"] for record in epochs],
        "valid": [record["valid_ndcg@10"] for record in epochs],
        "test": [[row["NDCG@10"], row["MRR"]] for row in rows],
    }
    if not whole:
        return metrics
    log, path = own.split.log, own.workdir / "recommendations.parquet"
    recommend(own.config, cell.model, one_of(snapshot.best_params, 0), cell.data.device, cell.data.tables, log, np.arange(log.num_users),
              own.queries(method, log.offsets[1:]), own.mesh, path)
    table = parquet.read_table(path).to_pydict()
    order = np.lexsort((table["rank"], table["user"]))
    return metrics | {name: np.asarray(table[name])[order].tolist() for name in ("item", "score")}


def assert_same(one, many, what):
    for name in one:
        np.testing.assert_allclose(many[name], one[name], rtol=1e-5, atol=1e-5, err_msg=f"{what}: {name}")


for method, backbone in cells:
    whole = method == "plain"  # the full catalogue and recommendations too, once
    one = outcome(experiment(method, backbone, 1, f"{method}-{backbone}-1"), method, backbone, whole)
    assert len(one["loss"]) == EPOCHS
    devices = 8 if whole else 4
    many = experiment(method, backbone, devices, f"{method}-{backbone}-{devices}")
    assert_same(one, outcome(many, method, backbone, whole), f"{method}-{backbone} on {devices}")
    cell, alone = make_cell(many, method, backbone), make_cell(experiment(method, backbone, 1, "alone"), method, backbone)
    slots, expected = (loop.epoch_slots(own.data, own.members, 3) for own in (cell, alone))
    rows = expected.shape[2]
    np.testing.assert_array_equal(slots[:, :, :rows], expected)  # the same data in the same order
    assert (slots[:, :, rows:] == -1).all() and slots.shape[2] % devices == 0

    # Each device has its part of the batch and no more: gradients are added up, and the work of a device falls.
    def compiled(cell):
        state, own = loop.initial_snapshot(cell.model, cell.members, cell.data).state, loop.of_members(cell.members)
        packed = loop.shared_out(cell.data.mesh, loop.epoch_slots(cell.data, cell.members, 0)[:, :2], axis=2)
        steps = jax.jit(make_train_steps(cell.model, cell.data.shape, cell.data.loss))
        given = loop.everywhere(cell.data.mesh, (own.keys, np.int32(0), own.dropout, own.learning_rate))
        return steps.lower(state, cell.data.device, cell.data.tables, packed, *given).compile()

    if whole:
        shared, single = compiled(cell), compiled(alone)
        assert "all-reduce" in shared.as_text() and "all-reduce" not in single.as_text()
        assert shared.cost_analysis()["flops"] < 0.6 * single.cost_analysis()["flops"]

# Killed on eight devices in the middle of an epoch; two, and then one, go on.
method, backbone = cells[0]
real, saves = loop.Checkpoints.save, 0


def save(self, step, tree):
    global saves
    real(self, step, tree)
    saves += int(tree.progress.step) > 0
    if saves == 3:
        raise KeyboardInterrupt


def stopped(devices):
    global saves
    saves, loop.Checkpoints.save = 0, save
    own = experiment(method, backbone, devices, "moved")
    own.config.train.checkpoint_seconds = 0.0
    try:
        train_cell(own, make_cell(own, method, backbone))
        raise SystemExit("was not stopped")
    except KeyboardInterrupt:
        loop.Checkpoints.save = real


stopped(8)
stopped(2)
ended = experiment(method, backbone, 1, "moved")
train_cell(ended, make_cell(ended, method, backbone))
losses = [
    [record["loss"] for record in own.records.read() if record["event"] == "epoch"]
    for own in (ended, experiment(method, backbone, 1, f"{method}-{backbone}-1"))
]
np.testing.assert_allclose(*losses, rtol=1e-5)
assert len(losses[0]) == EPOCHS
print("all equal")
"""


def test_eight_devices_compute_what_one_does(tmp_path: pathlib.Path) -> None:
    """A mesh would train another model, in another order or on other draws, leave the work undivided, or not take over a checkpoint."""
    write_dataset(tmp_path / "data")
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "plain-sasrec", "grasp-gru4rec", "llm_esr-bert4rec"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0 and "all equal" in result.stdout, result.stderr[-3000:]


def test_more_devices_than_there_are() -> None:
    """A traceback from JAX, that names no field."""
    with pytest.raises(UserError, match=r"config\.mesh\.data: 4096; expected at most \d+, .*device_count=4096"):
        make_mesh(4096)
