"""Compiles a training step for meshes of emulated devices, a stage of `benchmarks.scaling`: python -m benchmarks.scaling_compiled.

The bytes of item tables on a device are those of its shards. Memory, operations and bytes sent between devices are read from the compiled
step. Each figure is printed with that of `grasp_jax.planning.step` for the same sizes. The last line is JSON.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.communication import Collective, collectives
from benchmarks.lengths import synthetic_log
from grasp_jax.config import Config
from grasp_jax.models.frozen import USER_TABLES
from grasp_jax.parallel.mesh import replicate
from grasp_jax.parallel.rows import ShardedRows
from grasp_jax.planning.plan import Sizes, workload
from grasp_jax.planning.step import sent_bytes, step_bytes, step_flops, table_bytes
from grasp_jax.planning.workload import Layout
from grasp_jax.training.epochs import chunks, make_epoch
from grasp_jax.training.replicas import per_replica
from grasp_jax.training.snapshot import snapshot_like
from grasp_jax.training.step import make_train_steps
from grasp_jax.trials.run import open_run, prepare
from grasp_jax.trials.trial import Trial, make_trial

METHOD, BACKBONE = "grasp", "sasrec"
OF_USERS = (*USER_TABLES, "user_text", "similar_users")  # tables with a row for each user
PURPOSES = ("item rows", "logits", "gradients", "users' rows")


def write_data(folder: pathlib.Path, users: int, items: int, width: int) -> None:
    """Writes a synthetic log and random vectors in the formats of a user's files."""
    log, rng = synthetic_log(users, items), np.random.default_rng(0)
    folder.mkdir(parents=True)
    every = np.arange(items)  # added so that each row of the table is an item of the log
    pairs = 1 + np.concatenate(
        [np.stack([every % users, every], 1), np.stack([log.users, log.items], 1)]
    )
    np.savetxt(folder / "inter.txt", pairs, fmt="%d")
    for name, rows in (("items", items), ("users", users)):
        np.save(folder / f"{name}.npy", rng.standard_normal((rows, width), np.float32))


def config_of(folder: pathlib.Path, layout: Layout, batch: int, method: str = METHOD) -> Config:
    """A method on the data of `write_data`; its bank is made once."""
    vectors = {"encoder": "file", "item_file": "items.npy", "user_file": "users.npy"}
    return Config().with_fields(
        {
            "mesh": {"data": layout.data, "table": layout.table},
            "tables.users": layout.users,
            "data.path": str(folder / "data"),
            "knowledge": {"path": str(folder / "bank"), **vectors},
            "model": {"method": method, "backbone": BACKBONE},
            "train.batch_size": batch,
        }
    )


def compiled_step(trial: Trial) -> Any:
    """One step of the training loop, compiled."""
    data = trial.data
    epoch = make_epoch(data, trial.replicas, 0)
    one = epoch._replace(slots=epoch.slots[:, :1], users=epoch.users[:, :1])
    chunk = next(chunks(data, one, 0, 1))
    replicas = per_replica(trial.replicas, lambda tree: replicate(data.mesh, tree))
    state = snapshot_like(trial.model, trial.replicas, data).state
    steps = jax.jit(make_train_steps(trial.model, data.shape, data.loss), donate_argnums=0)
    number = replicate(data.mesh, np.int32(0))
    return steps.lower(
        state, data.device, data.tables, chunk.slots, replicas, number, chunk.query_users
    ).compile()


def purpose(one: Collective) -> str:
    """The purpose of an instruction, in the words of `plan.sent_bytes`."""
    if "users_rows" in one.name:
        return "users' rows"
    if one.kind == "all-to-all":
        return "item rows" if "item_features" in one.name else "logits"
    return "gradients" if one.kind in ("all-reduce", "all-gather") else "other"


def measure(folder: pathlib.Path, layout: Layout, batch: int, method: str) -> dict[str, Any]:
    """The compiled and the planned figures of one mesh."""
    config = config_of(folder, layout, batch, method)
    prepared = prepare(open_run(config, folder / "runs"))
    trial, mesh = make_trial(prepared, method, BACKBONE), prepared.mesh
    compiled = compiled_step(trial)
    memory = compiled.memory_analysis()
    sent = dict.fromkeys((*PURPOSES, "other"), 0.0)
    for one in collectives(compiled.as_text(), mesh.size):
        sent[purpose(one)] += one.sent
    work = workload(config, Sizes(config.data), prepared.width, method, mesh.size)
    tables = [table for name, table in trial.data.tables.items() if name not in OF_USERS]
    arrays = [table.rows if isinstance(table, ShardedRows) else table for table in tables]
    held = table_bytes(work, layout)
    # without the best parameters so far, which a step does not use
    in_step = sum(held.values()) - held["validation"] - held["parameters"] / 4
    return {
        "data": layout.data,
        "table": layout.table,
        "users": layout.users,
        "batch": batch,
        "ids": work.places + layout.negatives(work),
        "item_table_bytes": sum(array.addressable_shards[0].data.nbytes for array in arrays),
        "planned_item_table_bytes": held["item tables"],
        "memory_bytes": memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        "planned_memory_bytes": in_step + sum(step_bytes(work, layout).values()),
        "temporary_bytes": memory.temp_size_in_bytes,
        "planned_temporary_bytes": sum(step_bytes(work, layout).values()),
        "flops": compiled.cost_analysis()["flops"],
        "planned_flops": step_flops(work, layout),
        "sent": sent,
        "planned_sent": sent_bytes(work, layout) | {"other": 0.0},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("layouts", nargs="+", help="DATAxTABLE:USERS:BATCH")
    parser.add_argument("--method", default=METHOD, help="grasp or another method of the plan")
    given = parser.parse_args(arguments)
    rows = []
    for text in given.layouts:
        mesh, users, batch = text.split(":")
        data, table = map(int, mesh.split("x"))
        rows.append(measure(given.folder, Layout(data, table, users), int(batch), given.method))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
