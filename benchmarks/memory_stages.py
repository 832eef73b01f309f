"""Preparation or training in a separate process: python -m benchmarks.memory_stages {prepare,train} FOLDER ...

Both stages work as in `grasp_jax.main` with FOLDER as the workdir: training opens the bank that preparation has written there. The figures
go to stdout as one line of JSON.
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
from grasp_jax.config import Config
from grasp_jax.core.timing import compile_seconds
from grasp_jax.knowledge import bank_tables
from grasp_jax.knowledge.neighbours.retrieve import find_neighbours
from grasp_jax.trials.evaluation_sets import evaluation_of
from grasp_jax.trials.run import Run, open_run
from grasp_jax.trials.run import prepare as prepare_run
from grasp_jax.trials.trial import make_trial, train_trial

EPOCHS = 4  # the first also loads code
FULL_USERS = 64


def run_of(folder: pathlib.Path, users: int, items: int, width: int, backbone: str) -> Run:
    """A synthetic shop with templates, latent semantic analysis and exact neighbours."""
    config = Config().with_fields(
        {
            "data": {
                "name": "synthetic-shop",
                "source": "synthetic",
                "synthetic": {"num_users": users, "num_items": items},
            },
            "knowledge.width": width,
            "model.method": "grasp",
            "model.backbone": backbone,
            "model.projection": "token",  # the default of large catalogues, so that all sizes run the same program
            "train": {"max_epochs": EPOCHS, "patience": EPOCHS},
            "eval.select": "sampled100",
        }
    )
    return open_run(config, folder)


def preparation(run: Run) -> dict[str, Any]:
    """Seconds of making the bank without compilation; those of neighbours separately, because they grow with the square of the rows."""
    of_neighbours = 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal of_neighbours
        started = time.perf_counter() - compile_seconds()
        found = find_neighbours(*arguments)
        of_neighbours += time.perf_counter() - compile_seconds() - started
        return found

    started = time.perf_counter() - compile_seconds()
    with mock.patch.object(bank_tables, "find_neighbours", timed):
        width = prepare_run(run).width
    seconds = time.perf_counter() - compile_seconds() - started
    return {"seconds": seconds - of_neighbours, "neighbours_seconds": of_neighbours, "width": width}


def training(run: Run) -> dict[str, Any]:
    """The training seconds of the median epoch, and the additional bytes that a ranking of the full catalogue would need."""
    (method, backbone), prepared = run.trials[0], prepare_run(run)
    trial = make_trial(prepared, method, backbone)
    snapshot = train_trial(trial)
    peak = peak_bytes()
    epochs = [
        record["train_seconds"] for record in run.records.read() if record["event"] == "epoch"
    ]
    asked = evaluation_of(prepared, "test", method, backbone, FULL_USERS)
    item_block = min(run.config.eval.item_block, run.split.log.num_items)
    ranking = full_ranking_bytes(trial.ranker(snapshot, 0), asked, item_block)
    return {
        "peak_bytes": peak,
        "epoch_seconds": statistics.median(epochs[1:]),
        "full_ranking_bytes": ranking,
    }


def run_stage(
    name: str, folder: pathlib.Path, users: int, items: int, width: int, backbone: str
) -> dict[str, Any]:
    """The cost of a stage; `start_bytes` is the peak when it begins, with the program loaded and the data made."""
    run = run_of(folder, users, items, width, backbone)
    jax.devices()
    figures: dict[str, Any] = {
        "start_bytes": peak_bytes(),
        "interactions": run.split.log.num_interactions,
    }
    figures |= preparation(run) if name == "prepare" else training(run)
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
    with contextlib.redirect_stdout(io.StringIO()):  # stdout gets the figures only
        figures = run_stage(
            given.stage, given.folder, given.users, given.items, given.width, given.backbone
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
