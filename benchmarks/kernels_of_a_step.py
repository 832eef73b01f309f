"""Counts, without a GPU, the kernels that a training step launches on an H100: python -m benchmarks.kernels_of_a_step [--models=...]

It compiles each method on each backbone at paper Beauty's shape (`benchmarks.h100`), counts the kernels of a step and how many of these
wait for one another, and writes the counts to benchmarks/results/kernels-h100.json. `python -m benchmarks.sections.launches` makes the
table in docs/kernels.md from them. Histories are synthetic and have Beauty's lengths, so counts are the same on every machine.
"""

import dataclasses
import functools
import importlib.metadata
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import h100
from benchmarks.arguments import names_of, parser_of
from benchmarks.launches import count
from benchmarks.lengths import BEAUTY_ITEMS, BEAUTY_USERS, QUICK_ITEMS, QUICK_USERS, synthetic_log
from benchmarks.record import RESULTS, place, run, save, table
from benchmarks.workload import QUICK, SHAPES, Sizes, config_of, temporary_bytes
from grasp_jax.config import Config
from grasp_jax.core.machine import commit
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.batch import Tables
from grasp_jax.models.frozen import USER_TABLES, Bank, frozen_query_tables
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.training.replicas import per_replica
from grasp_jax.training.snapshot import initial_snapshot
from grasp_jax.training.step import TrainState, make_train_steps
from grasp_jax.training.training_set import TrainingSet, TrainingSources, training_set

STEPS = 8  # steps of the dispatch; more steps do not change a count
NARROW = 2  # width of the users' rows; counts do not depend on it
RECORD = RESULTS / "kernels-h100.json"
COUNTED = ("grasp", "plain", "grasp_plus")
MODELS = tuple(  # GRU4Rec uses its kernel on a GPU by default
    f"{method}-{backbone}{kernels}"
    for method in COUNTED
    for backbone in BACKBONES
    for kernels in ("", "-backbone")
    if not (backbone == "gru4rec" and kernels)
) + tuple(  # what these add to a step without text does not depend on the backbone
    f"{method}-sasrec" for method in ("llm_esr", "rlmrec_con", "rlmrec_gen", "unisrec")
)
MORE = tuple(  # may be named in --models, but are in no record
    f"{method}-{backbone}{kernels}"
    for kernels in ("", "-backbone")
    for method in ("sasrec_ce", *COUNTED)
    for backbone in BACKBONES
)


class Workload:
    """The data and sizes for which all models are compiled."""

    def __init__(self, quick: bool = False) -> None:
        users, items = (QUICK_USERS, QUICK_ITEMS) if quick else (BEAUTY_USERS, BEAUTY_ITEMS)
        self.sizes: Sizes = QUICK if quick else SHAPES["beauty"]
        self.config: Config = config_of(self.sizes)
        self.split: Split = leave_one_out(synthetic_log(users, items), self.sizes.max_length)

    @functools.cached_property
    def bank(self) -> Bank:
        """Random rows in place of the four tables of a knowledge bank."""
        log, rng = self.split.log, np.random.default_rng(0)
        items = rng.standard_normal((log.num_items, self.sizes.width), np.float32)
        users = rng.standard_normal((log.num_users, NARROW), np.float32)
        return {"items": items, "items_similar": items, "users": users, "users_similar": users}

    def training(self, name: str) -> TrainingSet:
        """The training of one of `MODELS`, as in a run, with the shapes of the frozen tables instead of the tables."""
        method, backbone, kernels = (*name.split("-"), "auto")[:3]
        config = self.config.with_fields({"kernels": kernels}).for_method(method)
        tables: dict[str, np.ndarray] = {}
        wide = {*USER_TABLES}  # tables whose rows here are narrower than in a run
        if METHODS[method].needs_bank:
            facts = Facts(config.model, self.split.item_counts, split=self.split)
            declared = METHODS[method].tables(self.bank, facts)
            tables = {own.name: own.rows for own in declared}
            wide |= {own.name for own in declared if own.bank_name in USER_TABLES}
        gated = METHODS[method].gated(config.model)
        if gated:
            asked = frozen_query_tables(config.model.gate_query, self.bank, self.split)
            tables |= {own.name: own.rows for own in asked}
        width = self.sizes.width if METHODS[method].needs_bank else 0
        narrow = {name: rows[:, :NARROW] for name, rows in tables.items()} if gated else {}
        sources = TrainingSources(self.split, narrow, width, make_mesh(), valid=None)
        training = training_set(config, method, backbone, sources)
        shapes = {
            name: jax.ShapeDtypeStruct(
                (len(rows), width) if name in wide else rows.shape, rows.dtype
            )
            for name, rows in tables.items()
        }
        return dataclasses.replace(training, data=dataclasses.replace(training.data, tables=shapes))


def compiled_step(training: TrainingSet) -> Any:
    """The executable of `STEPS` steps of one model, for an H100."""
    data, model = training.data, training.model

    def state_of(tables: Tables) -> TrainState:
        own = dataclasses.replace(data, tables=tables)
        return initial_snapshot(model, training.replicas, own).state

    packing = data.packing
    slots = jax.ShapeDtypeStruct((1, STEPS, packing.num_rows, packing.row_length), jnp.int32)
    return h100.compile_for(
        lambda *given: make_train_steps(model, data.shape, data.loss)(*given),
        jax.eval_shape(state_of, data.tables),
        data.device,
        data.tables,
        slots,
        per_replica(training.replicas),
        jax.ShapeDtypeStruct((), jnp.int32),
        donate_argnums=0,
    )


def count_model(work: Workload, name: str) -> dict[str, Any]:
    """Compiles one of `MODELS` and counts."""
    compiled = compiled_step(work.training(name))
    found = count(compiled.as_text())
    return {
        "model": name,
        "commit": commit(),
        "kernels": found.kernels,
        "chain": found.chain,
        "temporary_mib": (temporary_bytes(compiled) or 0) >> 20,
        "stages": found.stages,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Counts each model, prints, and writes JSON."""
    parser = parser_of("kernels_of_a_step", __doc__)
    everything = ",".join(MODELS)
    about = (
        "comma separated METHOD-BACKBONE, or METHOD-BACKBONE-KERNELS with another config.kernels"
    )
    parser.add_argument("--models", default=everything, help=about)
    given = parser.parse_args(arguments)
    names = names_of(parser, "--models", given.models, (*MODELS, *MORE))
    h100.device()
    work = Workload(given.quick)
    path = place(given, RECORD.name)
    rows = []
    for name in names:
        rows.append(count_model(work, name))
        print(show(rows[-1:]), flush=True)
        if path is not None:  # after each model, because one takes minutes
            save(path, {**what_of(work), "models": merged(path, rows)})
    if path is not None:
        print(f"written to {path}")
    if given.quick:
        print("--quick: counted at sizes of no use, to see that it runs")
    most = max(rows, key=lambda row: row["kernels"])
    print(f"{most['model']} launches the most kernels a step: {most['kernels']}")


def merged(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows counted now, and the record's rows for other models, in the order of `MODELS`."""
    known = json.loads(path.read_text())["models"] if path.exists() else []
    by_name = {row["model"]: row for row in (*known, *rows)}
    return [by_name[name] for name in MODELS if name in by_name]


def what_of(work: Workload) -> dict[str, Any]:
    """Date, subject and compiler; each row has its commit, because some rows may be counted again later."""
    packages = ("jax", "jaxlib", "jax-cuda12-plugin", "flax", "optax")
    log = work.split.log
    return {
        "benchmark": "kernels_of_a_step",
        "date": time.strftime("%Y-%m-%d"),
        "device": "H100 that is compiled for, with no autotuning",
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "sizes": {**work.sizes._asdict(), "users": log.num_users, "items": log.num_items},
    }


def show(rows: Sequence[dict[str, Any]]) -> str:
    """A table for the terminal."""
    header = ["model", "kernels", "chain", "temporaries, MiB", "by stage"]
    return table(
        header,
        [
            [
                row["model"],
                str(row["kernels"]),
                str(row["chain"]),
                str(row["temporary_mib"]),
                ", ".join(f"{stage} {number}" for stage, number in sorted(row["stages"].items())),
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    run(main)
