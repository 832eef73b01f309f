"""This package's part of the train benchmark: training of ID-only SASRec in a separate process.

    python -m benchmarks.own_training FOLDER OUT.json [--form=METHOD]

It has the same input and report as a rival (`benchmarks.rivals.protocol`). No compilation cache is used: the process compiles everything.
"""

import pathlib
import time

import jax
import numpy as np

from benchmarks.peak_memory import peak_bytes
from benchmarks.rivals import protocol
from grasp_jax.config import Config
from grasp_jax.core.timing import compile_seconds
from grasp_jax.evaluation.evaluation_set import in_user_order
from grasp_jax.evaluation.ranking import sampled_ranks
from grasp_jax.parallel.mesh import on_host
from grasp_jax.trials.evaluation_sets import evaluation_of
from grasp_jax.trials.run import Prepared, open_run, prepare
from grasp_jax.trials.trial import make_trial, train_trial

METHOD, BACKBONE = "plain", "sasrec"
INTERACTIONS = "inter.txt"


def paper_config() -> Config:
    """The settings of configs/beauty.py, which cannot be read without ml_collections (on a GPU machine); a test compares both."""
    return Config().with_fields(
        {
            "data": {"name": "beauty", "tail_user_below": 9, "tail_item_below": 4},
            "knowledge": {"item_template": "beauty_item", "user_template": "beauty_user"},
            "model": {"method": METHOD, "backbone": BACKBONE, "dropout": 0.5},
            "train.seeds": (42, 43, 44),
            "eval.select": "sampled100",
            "eval.groups": "paper",
        }
    )


def paper_settings(threads: int) -> protocol.Settings:
    """The settings of configs/beauty.py for its first seed."""
    config = paper_config()
    model, train = config.model, config.train
    return protocol.Settings(
        features=model.features,
        max_length=config.data.max_length,
        batch_size=train.batch_size,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        dropout=model.dropout[0],
        learning_rate=train.learning_rate[0],
        patience=train.patience,
        max_epochs=train.max_epochs,
        seed=train.seeds[0],
        threads=threads,
    )


def prepared_run(
    folder: pathlib.Path, settings: protocol.Settings, method: str = METHOD
) -> Prepared:
    """A run on FOLDER/inter.txt; its stored negatives are in FOLDER/run, or FOLDER/run-METHOD for another method than `METHOD`."""
    data = {
        "path": str(folder),
        "interactions_file": INTERACTIONS,
        "max_length": settings.max_length,
    }
    model = {
        name: getattr(settings, name) for name in ("features", "dropout", "num_layers", "num_heads")
    }
    model["method"] = method
    train = {
        name: getattr(settings, name)
        for name in ("batch_size", "learning_rate", "patience", "max_epochs")
    }
    config = paper_config().with_fields(
        {"data": data, "model": model, "train": {"seeds": settings.seed, **train}}
    )
    return prepare(open_run(config, folder / ("run" if method == METHOD else f"run-{method}")))


def data_of(prepared: Prepared) -> protocol.Data:
    """The input of rivals: the split's training part, and the negatives on which the package evaluates."""
    split, log = prepared.run.split, prepared.run.split.log
    ends = split.train.end
    held_out = {}
    for name in ("valid", "test"):
        asked = evaluation_of(prepared, name, METHOD, BACKBONE)
        held_out[name] = protocol.HeldOut(
            asked.users, in_user_order(on_host(asked.candidates), asked)
        )
    every = np.arange(log.num_interactions)
    in_training = every < np.repeat(ends, log.lengths)
    offsets = np.concatenate([[0], np.cumsum(ends - log.offsets[:-1])])
    return protocol.Data(
        log.num_items, log.items[in_training].astype(np.int32), offsets, **held_out
    )


def train(folder: pathlib.Path, settings: protocol.Settings, method: str) -> protocol.Report:
    """The package's training to its early stop, then the test; its seconds include reading and splitting the interactions."""
    started = time.perf_counter()
    trial = make_trial(prepared_run(folder, settings, method), method, BACKBONE)
    snapshot = train_trial(trial)
    seconds, compiled = time.perf_counter() - started, compile_seconds()
    epochs = [record for record in trial.run.records.read() if record["event"] == "epoch"]
    ranks = sampled_ranks(
        trial.ranker(snapshot, 0), evaluation_of(trial.prepared, "test", method, BACKBONE)
    )
    return protocol.Report(
        versions=protocol.versions(("jax", "flax", "numpy")),
        epoch_seconds=[record["train_seconds"] for record in epochs],
        valid_ndcg=[record["valid_ndcg@10"] for record in epochs],
        best_epoch=int(snapshot.progress.best_epoch[0]),
        compile_seconds=compiled,
        seconds=seconds,
        ranks=ranks.tolist(),
        peak_memory_bytes=peak_bytes(),
    )


def main() -> None:
    """Trains and reports."""
    jax.config.update("jax_enable_compilation_cache", False)
    task = protocol.task()
    protocol.write_report(task.out, train(task.folder, task.settings, task.form or METHOD))


if __name__ == "__main__":
    main()
