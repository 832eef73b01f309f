"""Users' tables on the host against users' tables on the device: python -m benchmarks.host_users [--quick] [--out=JSON]

The same training data twice, in a process each: the users' two tables as arrays on the device, and memory-mapped files of which a dispatch
reads the rows that it needs. Their size is ten times what the other tables and the model take together. Memory is the process's own and
mapped pages apart: a page of a file can be given back, an array cannot.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.apart import run_apart
from benchmarks.lengths import synthetic_log
from benchmarks.record import Contention, keep, run, table
from benchmarks.workload import Sizes, config_of, training_data
from grasp_jax.data.split import leave_one_out
from grasp_jax.models.projection import choose_projection
from grasp_jax.models.recommender import build_recommender
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.parallel.rows import HostRows
from grasp_jax.training.epochs import dispatches, make_epoch
from grasp_jax.training.loop import initial_snapshot
from grasp_jax.training.members import Member, of_members
from grasp_jax.training.step import make_train_steps

PLACES = ("device", "host")
DISPATCHES = 12
USER_TABLES, ITEM_TABLES = ("users", "users_similar"), ("items", "items_similar")


def write_tables(folder: pathlib.Path, users: int, items: int, width: int) -> None:
    """Random rows, block by block."""
    rng = np.random.default_rng(0)
    for name in (*USER_TABLES, *ITEM_TABLES):
        rows = users if name in USER_TABLES else items
        file = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(rows, width))
        for begin in range(0, rows, 8192):
            block = file[begin : begin + 8192]
            block[:] = rng.standard_normal(block.shape, np.float32) / np.sqrt(np.float32(width))
        file.flush()


def memory() -> dict[str, int]:
    """Bytes of this process: its own, and mapped pages of files, now; and the peak of both together."""
    lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = {name: 1024 * int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if value.endswith("kB")}
    return {"own": found["RssAnon"], "mapped": found["RssFile"], "peak": found["VmHWM"]}


def stage(place: str, folder: pathlib.Path, users: int, items: int, width: int, steps: int) -> dict[str, Any]:
    """Trains `DISPATCHES` of so many steps each and says how long a step takes, and what the process holds."""
    split = leave_one_out(synthetic_log(users, items), 50)
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in (*USER_TABLES, *ITEM_TABLES)}
    mesh, before = make_mesh(), memory()
    tables = {
        name: HostRows(rows, jnp.float32, mesh) if place == "host" and name in USER_TABLES else jnp.asarray(rows)
        for name, rows in mapped.items()
    }
    sizes = Sizes(width=width, max_length=50)
    config, data = config_of(sizes), training_data(split, tables, sizes.batch_size)
    data = dataclasses.replace(data, shape=data.shape._replace(num_users=sizes.batch_size))
    model = build_recommender(
        config.model, "grasp", "sasrec", items, data.packing.row_length, width, choose_projection(items, 1), sizes.batch_size
    )  # fmt: skip
    members = [Member(0, 0.2, 1e-3)]
    keys, *rates = of_members(members)
    train_steps = jax.jit(make_train_steps(model, data.shape, data.loss), donate_argnums=0)
    state = initial_snapshot(model, members, data).state
    losses: list[float] = []
    seconds: list[float] = []
    started = time.perf_counter()
    for begin, slots, rows in dispatches(data, make_epoch(data, members, 0), 0, steps):
        state, loss = train_steps(state, data.device, data.tables, slots, keys, jnp.int32(begin), *rates, rows)
        losses.append(float(jax.block_until_ready(loss).mean()))
        seconds.append((time.perf_counter() - started) / slots.shape[1])
        started = time.perf_counter()
        if len(seconds) == DISPATCHES:
            break
    return {"step_seconds": statistics.median(seconds[1:]), "losses": losses, "memory": memory(), "memory_before": before}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs both, prints and writes JSON.

    Raises:
      UserError: a stage failed.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes; writes nothing unless --out is given")
    parser.add_argument("--out", type=pathlib.Path, default=None)
    parser.add_argument("--stage", choices=PLACES, help="of this benchmark itself: one place, in --folder")
    parser.add_argument("--folder", type=pathlib.Path)
    given = parser.parse_args(arguments)
    users, items, width, steps = (400, 100, 32, 1) if given.quick else (200_000, 8_000, 1_024, 32)
    if given.stage:
        print(json.dumps(stage(given.stage, given.folder, users, items, width, steps)))
        return
    contention = Contention()
    with tempfile.TemporaryDirectory(prefix="host-users-") as name:
        write_tables(pathlib.Path(name), users, items, width)
        quick = ["--quick"] if given.quick else []
        command = [sys.executable, "-m", "benchmarks.host_users", *quick, f"--folder={name}"]
        rows = {place: run_apart([*command, f"--stage={place}"]) for place in PLACES}
    np.testing.assert_allclose(rows["host"]["losses"], rows["device"]["losses"], rtol=1e-4)  # the same training
    ratio = rows["host"]["step_seconds"] / rows["device"]["step_seconds"]
    print(table(HEADER, [cells(place, row) for place, row in rows.items()]))
    print(f"users' tables: {2 * users * width * 4 / 2**20:,.0f} MiB; a step takes {ratio:.2f} times as long with them on the host")
    sizes = {"users": users, "items": items, "width": width, "user_table_bytes": 2 * users * width * 4}
    keep("host_users", {"sizes": sizes, "rows": rows, "ratio": ratio}, contention, given.out, given.quick)


HEADER = ["users' tables", "a step, ms", "own memory, MiB", "mapped pages, MiB", "peak of both, MiB"]


def cells(place: str, row: dict[str, Any]) -> list[str]:
    """A row of figures to read, in the order of `HEADER`."""
    held = (f"{row['memory'][name] / 2**20:,.0f}" for name in ("own", "mapped", "peak"))
    return [place, f"{1e3 * row['step_seconds']:.1f}", *held]


if __name__ == "__main__":
    run(main)
