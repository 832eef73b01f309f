"""Ours in the train benchmark: the package's own training of id-only SASRec, in a process of its own.

    python -m benchmarks.own_training FOLDER OUT.json

reads and reports what a rival does (`benchmarks.rivals.protocol`). No compilation cache is used: a process compiles all it needs.
"""

import pathlib
import time

import jax
import numpy as np

from benchmarks.peak_memory import peak_bytes
from benchmarks.rivals import protocol
from configs.beauty import get_config
from grasp_jax.cells import make_cell, train_cell
from grasp_jax.evaluation.ranking import sampled_ranks
from grasp_jax.experiment import Experiment
from grasp_jax.timing import compile_seconds

METHOD, BACKBONE = "plain", "sasrec"
INTERACTIONS = "inter.txt"


def paper_settings(threads: int) -> protocol.Settings:
    """Those of configs/beauty.py, for its first seed."""
    config = get_config(BACKBONE)
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


def experiment(folder: pathlib.Path, settings: protocol.Settings) -> Experiment:
    """Of FOLDER/inter.txt; its stored negatives are in FOLDER/run."""
    config = get_config(BACKBONE)
    config.data.path, config.data.interactions_file, config.data.max_length = str(folder), INTERACTIONS, settings.max_length
    config.model.features, config.model.dropout = settings.features, (settings.dropout,)
    config.model.num_layers, config.model.num_heads = settings.num_layers, settings.num_heads
    config.train.batch_size, config.train.learning_rate = settings.batch_size, (settings.learning_rate,)
    config.train.patience, config.train.max_epochs = settings.patience, settings.max_epochs
    config.train.seeds = (settings.seed,)
    return Experiment(config, folder / "run")


def data_of(own: Experiment) -> protocol.Data:
    """What rivals are given: the split's training part, and the negatives that the package evaluates on."""
    split, log = own.split, own.split.log
    ends = split.train.end
    held_out = {}
    for name, histories in (("valid", split.valid), ("test", split.test)):
        users = histories.evaluated
        candidates = np.concatenate([histories.target[users][:, None], own.negatives(name, histories)], axis=1)
        held_out[name] = protocol.HeldOut(users, candidates.astype(np.int32))
    every = np.arange(log.num_interactions)
    in_training = every < np.repeat(ends, log.lengths)
    offsets = np.concatenate([[0], np.cumsum(ends - log.offsets[:-1])])
    return protocol.Data(log.num_items, log.items[in_training].astype(np.int32), offsets, **held_out)


def train(own: Experiment) -> protocol.Report:
    """The package's training to its early stop, then the test; its seconds include reading and splitting the interactions."""
    started = time.perf_counter()
    cell = make_cell(own, METHOD, BACKBONE)
    snapshot = train_cell(own, cell)
    seconds, compiled = time.perf_counter() - started, compile_seconds()
    epochs = [record for record in own.records.read() if record["event"] == "epoch"]
    params = jax.tree.map(lambda leaf: leaf[0], snapshot.best_params)
    ranks = sampled_ranks(cell.model, params, cell.data.device, cell.data.tables, own.evaluation_set("test", METHOD, BACKBONE))
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
    protocol.write_report(task.out, train(experiment(task.folder, task.settings)))


if __name__ == "__main__":
    main()
