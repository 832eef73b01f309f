"""Measures how training scales over devices: python -m benchmarks.scaling [--quick] [--out=JSON]

Strong scaling splits one batch over 1 to 8 devices; weak scaling gives each device a full batch, on meshes of all shapes. Emulated CPU
devices share the same cores, so their time has no meaning. Instead the benchmark reads from the programs that XLA compiled the memory,
operations and sent bytes of each device, and compares them with the planner (`benchmarks.scaling_compiled`). Real processes train through
the launcher, each with a GPU if there are any, otherwise with a CPU device.
"""

import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.apart import ROOT, run_apart
from benchmarks.arguments import parser_of
from benchmarks.record import Contention, keep, run, table
from benchmarks.scaling_compiled import write_data
from grasp_jax.config import Config
from grasp_jax.core.errors import UserError
from grasp_jax.planning.devices import DEVICES
from grasp_jax.planning.plan import Sizes, workload
from grasp_jax.planning.step import (
    MESHES,
    sent_bytes,
    step_seconds,
    total_bytes,
    total_seconds,
)
from grasp_jax.planning.workload import Layout
from launch.local import visible_gpus

EMULATED = 8
PLANNED = (
    "1x1:host",
    "1x8:sharded",
    "2x4:sharded",
    "8x4:sharded",
    "4x8:sharded",
    "8x4:host",
    "32x1:host",
)
PLANNED_DEVICE, SAMPLED_USERS = "H100", 200_000
STRONG = (
    "1x1:device",
    "8x1:device",
    "4x2:device",
    "2x4:device",
    "1x8:device",
    "2x4:sharded",
    "2x4:host",
)
WEAK = ("1x1:device", "2x2:device", "2x4:device")
EPOCHS = 4


def compiled(folder: pathlib.Path, layouts: Sequence[str], batch: int) -> list[dict[str, Any]]:
    """Rows of `scaling_compiled`, one for each mesh "DATAxTABLE:USERS" and the batch size of all its devices together."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.scaling_compiled",
        str(folder),
        *(f"{layout}:{batch}" for layout in layouts),
    ]
    return emulated(f"--xla_force_host_platform_device_count={EMULATED}", command)


def emulated(flags: str, command: Sequence[str]) -> list[dict[str, Any]]:
    """The output of a stage in an environment with a number of emulated CPU devices."""
    os.environ |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    try:
        return run_apart(command)
    finally:
        del os.environ["XLA_FLAGS"], os.environ["JAX_PLATFORMS"]


def trained(folder: pathlib.Path, processes: int, batch: int) -> dict[str, Any]:
    """Seconds of an epoch with a number of processes that have one device each.

    Raises:
      UserError: they failed.
    """
    workdir = folder / f"processes-{processes}"
    command = [
        sys.executable,
        "launch/local.py",
        f"--processes={processes}",
        "--devices=1",
        "--",
        "--config=configs/beauty.py",
        f"--config.data.path={folder / 'data'}",
        f"--workdir={workdir}",
        "--mode=train",
        "--config.model.method=grasp",
        "--config.knowledge.encoder=file",
        "--config.knowledge.item_file=items.npy",
        "--config.knowledge.user_file=users.npy",
        f"--config.knowledge.path={folder / 'bank'}",
        "--config.data.tail_user_below=0",
        "--config.data.tail_item_below=0",
        f"--config.train.batch_size={batch}",
        f"--config.train.max_epochs={EPOCHS}",
        "--config.train.seeds=(42,)",
        f"--config.mesh.data={processes}",
        "--config.model.dropout=0.2",
    ]
    platform = {} if visible_gpus(os.environ) else {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | platform, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(
            f"{processes} processes: ended with status {done.returncode}: {done.stderr[-500:]}"
        )
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {
        "processes": processes,
        "epoch_seconds": statistics.median(record["train_seconds"] for record in records[1:]),
        "losses": [record["loss"] for record in records],
    }


@functools.cache
def planned(device: str) -> list[dict[str, Any]]:
    """The planned seconds of each part of a step, for the paper's ten million users on 1 to 32 devices with 128 users each.

    The plan is that of this version: it is arithmetic, and no record keeps it.
    """
    from configs.industry import get_config  # needs ml_collections, which a rented GPU may lack

    users = 10_000_000
    config = Config.from_dict(get_config("10m").to_dict())
    # a sample with the lengths of all
    config = config.with_fields({"data.synthetic.num_users": SAMPLED_USERS})
    sizes, rows = Sizes(config.data), []
    for text in PLANNED:
        mesh, place = text.split(":")
        data, parts = map(int, mesh.split("x"))
        layout = Layout(data, parts, place)
        config = config.with_fields({"train.batch_size": 128 * layout.devices})
        work = workload(config, sizes, config.knowledge.width, "grasp", layout.devices)
        work = work._replace(users=users, interactions=work.interactions * (users // SAMPLED_USERS))
        seconds = step_seconds(work, layout, DEVICES[device])
        rows.append(
            {
                "data": data,
                "table": parts,
                "users": place,
                "batch": config.train.batch_size,
                "bytes": total_bytes(work, layout),
                "sent": sent_bytes(work, layout),
                "seconds": seconds,
                "step_seconds": total_seconds(seconds),
            }
        )
    return rows


def show(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and body: each figure is followed by the planner's."""
    header = [
        "mesh, users' tables",
        "batch",
        "item tables, MiB",
        "memory, MiB",
        "GFLOP",
        "item rows sent, kB",
        "all sent, kB",
    ]
    body = []
    for row in rows:
        pairs = [
            (row["item_table_bytes"], row["planned_item_table_bytes"], 2**20),
            (row["memory_bytes"], row["planned_memory_bytes"], 2**20),
            (row["flops"], row["planned_flops"], 1e9),
            (row["sent"]["item rows"], row["planned_sent"]["item rows"], 1e3),
            (sum(row["sent"].values()), sum(row["planned_sent"].values()), 1e3),
        ]
        cells = [
            f"{measured / unit:,.2f} ({planned / unit:,.2f})" for measured, planned, unit in pairs
        ]
        body.append([f"{row['data']} x {row['table']}, {row['users']}", str(row["batch"]), *cells])
    return header, body


def found_of(rows: Sequence[dict[str, Any]]) -> str:
    """The benchmark's last line, about all compiled meshes."""
    held = [row["memory_bytes"] / row["planned_memory_bytes"] for row in rows]
    sent = [
        sum(row["sent"].values()) / planned
        for row in rows
        if (planned := sum(row["planned_sent"].values()))
    ]
    said = f"each device holds {min(held):.2f}x to {max(held):.2f}x"
    return f"{said} the planned bytes" + (
        f" and sends {min(sent):.2f}x to {max(sent):.2f}x" if sent else ""
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Compiles, trains, prints and writes JSON.

    Raises:
      UserError: a stage failed.
    """
    parser = parser_of("scaling", __doc__)
    given = parser.parse_args(arguments)
    users, items, width, each = (200, 300, 32, 16) if given.quick else (8_000, 12_000, 1_024, 64)
    strong, weak = (STRONG[5:6], WEAK[:1]) if given.quick else (STRONG, WEAK)
    contention = Contention()
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        folder = pathlib.Path(name)
        write_data(folder / "data", users, items, width)
        rows = {"strong": compiled(folder, strong, EMULATED * each), "weak": []}
        for layout in weak:
            data, parts = map(int, layout.split(":")[0].split("x"))
            rows["weak"] += compiled(folder, [layout], data * parts * each)
        counts = [count for count in MESHES if count <= max(len(visible_gpus(os.environ)), 2)]
        processes = (
            [] if given.quick else [trained(folder, count, EMULATED * each) for count in counts]
        )
    for kind in rows:
        print(f"{kind} scaling; the planner's figures in brackets\n{table(*show(rows[kind]))}\n")
    if processes:
        body = [[str(row["processes"]), f"{row['epoch_seconds']:.2f}"] for row in processes]
        print(table(["processes, one device each", "an epoch, s"], body))
    sizes = {"users": users, "items": items, "width": width, "devices": EMULATED}
    facts = {"sizes": sizes, **rows, "processes": processes}
    keep("scaling", facts, contention, given, found_of([*rows["strong"], *rows["weak"]]))


if __name__ == "__main__":
    run(main)
