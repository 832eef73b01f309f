"""Preparation or training in a process of its own: python -m benchmarks.memory_stages {prepare,train} FOLDER ...

Everything is as `grasp_jax.main` does it, with FOLDER as the workdir: training opens the bank that preparation has left there. The
figures go to stdout as one line of JSON.
"""

import argparse
import contextlib
import io
import json
import pathlib
import statistics
import time
from typing import Any
from unittest import mock

import jax

from benchmarks.apart import device_peak_bytes
from benchmarks.evaluation import full_ranking_bytes
from benchmarks.peak_memory import peak_bytes
from grasp_jax.cells import make_cell, train_cell
from grasp_jax.config import default_config
from grasp_jax.experiment import Experiment
from grasp_jax.knowledge import prepare
from grasp_jax.knowledge.retrieve import find_neighbours
from grasp_jax.timing import compile_seconds

EPOCHS = 4  # the first also loads code
FULL_USERS = 64


def experiment_of(folder: pathlib.Path, users: int, items: int, width: int, backbone: str) -> Experiment:
    """A synthetic shop with templates, latent semantic analysis and exact neighbours."""
    config = default_config()
    config.data.name, config.data.source = "synthetic-shop", "synthetic"
    config.data.synthetic.num_users, config.data.synthetic.num_items = users, items
    config.knowledge.width = width
    config.model.method, config.model.backbone = "grasp", backbone
    config.model.projection = "token"  # as large catalogues choose; a small one would choose otherwise, and growth be of two programs
    config.train.max_epochs = config.train.patience = EPOCHS
    return Experiment(config, folder)


def prepared(experiment: Experiment) -> dict[str, Any]:
    """Seconds of making the bank, those of its neighbours apart, for the exact ones cost the square of the rows; compiling not counted."""
    of_neighbours = 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal of_neighbours
        started = time.perf_counter() - compile_seconds()
        found = find_neighbours(*arguments)
        of_neighbours += time.perf_counter() - compile_seconds() - started
        return found

    started = time.perf_counter() - compile_seconds()
    with mock.patch.object(prepare, "find_neighbours", timed):
        bank = experiment.bank
    assert bank is not None
    seconds = time.perf_counter() - compile_seconds() - started
    return {"seconds": seconds - of_neighbours, "neighbours_seconds": of_neighbours, "width": bank.width}


def trained(experiment: Experiment) -> dict[str, Any]:
    """The median epoch's seconds of training, and the bytes that ranking the full catalogue would take beside."""
    method, backbone = experiment.cells[0]
    cell = make_cell(experiment, method, backbone)
    snapshot = train_cell(experiment, cell)
    peak = peak_bytes()
    epochs = [record["train_seconds"] for record in experiment.records.read() if record["event"] == "epoch"]
    params = jax.tree.map(lambda leaf: leaf[0], snapshot.best_params)
    asked = experiment.evaluation_set("test", method, backbone, FULL_USERS)
    item_block = min(experiment.config.eval.item_block, experiment.split.log.num_items)
    ranking = full_ranking_bytes(cell.model, params, cell.data.device, cell.data.tables, asked, item_block)
    return {"peak_bytes": peak, "epoch_seconds": statistics.median(epochs[1:]), "full_ranking_bytes": ranking}


def run_stage(name: str, folder: pathlib.Path, users: int, items: int, width: int, backbone: str) -> dict[str, Any]:
    """What a stage costs; `start_bytes` is the peak when it begins, with the program loaded and the data made."""
    experiment = experiment_of(folder, users, items, width, backbone)
    log = experiment.split.log
    jax.devices()
    figures: dict[str, Any] = {"start_bytes": peak_bytes(), "interactions": log.num_interactions}
    figures |= prepared(experiment) if name == "prepare" else trained(experiment)
    return {"peak_bytes": peak_bytes(), "device_peak_bytes": device_peak_bytes(), **figures}


def main() -> None:
    """Runs the stage and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=("prepare", "train"))
    parser.add_argument("folder", type=pathlib.Path)
    for name in ("users", "items", "width"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--backbone", required=True)
    given = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):  # the figures alone
        figures = run_stage(given.stage, given.folder, given.users, given.items, given.width, given.backbone)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
