"""The whole job at any size, stage by stage: python -m benchmarks.rehearsal --folder=FOLDER [--users=N] [--kill-at-random=3] [--out=JSON]

A log with string ids is written, read and split; texts become a bank; neighbours are searched within groups; two models are trained for
200 steps and validated; one answers for a tenth of the users. Items, questions and answers are in proportion to the users
(`configs/industry.py:rehearsal`). Every stage runs in a separate process. Its cost is printed when it ends and stored in FOLDER, so that
the same command continues a killed run. With --kill-at-random=K everything is done twice: undisturbed, and killed by SIGKILL at K random
moments. Both must end with the same data, bank, models and answers. With --undisturbed=JSON the first of the two is not run: its moments
and its results are those of the run of the same size in that record.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.apart import ROOT, peak_of, wait_or_kill
from benchmarks.arguments import parser_of
from benchmarks.record import Contention, place, run, save, table
from benchmarks.rehearsal_data import Sizes
from benchmarks.rehearsal_table import STAGES, measured_on, show
from grasp_jax.core.errors import UserError
from grasp_jax.core.machine import machine

STATE, FOUND = "rehearsal.json", "fingerprint.json"
SOON = 1.0  # seconds into a stage at which a kill happens if the stage before ended before its kill
ANSWERING = "grasp_plus"  # that method of the config whose scores are dot products


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a stage: of the process that finished it and of those that were killed before.

    Attributes:
      cpu_seconds: of all threads of all its processes.
      wall_seconds: from the start of the first process to the end of the last one.
      peak_bytes: largest memory of a process, including the pages of mapped files that it touched.
      killed: how many of its processes were killed.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    killed: int = 0


def command_of(stage: str, folder: pathlib.Path, sizes: Sizes) -> list[str]:
    """The command that runs a stage."""
    if stage == "write":
        return [
            *_python("benchmarks.rehearsal_data"),
            str(folder / "data"),
            f"--users={sizes.users}",
        ]
    flags = [
        "--config=configs/industry.py:rehearsal",
        f"--config.data.path={folder / 'data'}",
        f"--config.eval.valid_users={sizes.validated}",
        f"--workdir={folder / 'run'}",
    ]
    if stage in ("read", "encode", "fingerprint"):
        own = [f"--stage={stage}", *_to(stage, folder)]
        return [*_python("benchmarks.rehearsal_stages"), *own, *flags]
    if stage == "answer":
        users = f"--users={folder / 'data' / 'asked.parquet'}"
        flags += ["--mode=recommend", users, f"--config.model.method={ANSWERING}"]
    else:
        flags.append({"neighbours": "--mode=prepare", "train": "--mode=train"}[stage])
    return [*_python("grasp_jax.main"), *flags]


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _to(stage: str, folder: pathlib.Path) -> list[str]:
    name = {"read": "read.json", "fingerprint": FOUND}.get(stage)
    return [f"--to={folder / name}"] if name else []


def rehearse(
    folder: pathlib.Path, sizes: Sizes, kills: Mapping[str, Sequence[float]] | None = None
) -> dict[str, Any]:
    """Runs the stages that are not done yet.

    Args:
      folder: for all files; stages that an earlier call has completed there are not repeated.
      sizes: of the shop.
      kills: stage -> seconds after which its process, and the one after it, are killed.

    Returns:
      Costs by stage, and the results.

    Raises:
      UserError: the folder is of another size, or a stage failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STATE
    state: dict[str, Any] = {"users": sizes.users, "stages": {}}
    if path.exists():
        state = json.loads(path.read_text())
        if state["users"] != sizes.users:
            raise UserError(
                f"{path}: a rehearsal of {state['users']:,} users; expected {sizes.users:,}: name another --folder, or remove it"
            )
    late: list[float] = []  # kills whose stage ended before them; the next stage gets them
    for stage in STAGES:
        if stage in state["stages"]:
            continue
        due = [*[SOON] * len(late), *(kills or {}).get(stage, ())]
        cost, late = _run_stage(stage, folder, sizes, due)
        state["stages"][stage] = dataclasses.asdict(cost)
        save(path, state)
        print(_line(stage, cost), flush=True)
    if late:
        print(f"{len(late)} kills came after the end")
    facts = json.loads((folder / "read.json").read_text())
    return {**state, "read": facts, "fingerprint": json.loads((folder / FOUND).read_text())}


def _run_stage(
    stage: str, folder: pathlib.Path, sizes: Sizes, due: Sequence[float]
) -> tuple[Cost, list[float]]:
    """Runs a stage until it ends, with the kills in `due`; returns also the kills before which it ended."""
    waiting, log, cost = list(due), folder / f"{stage}.log", Cost(0.0, 0.0, 0)
    while True:
        started = time.perf_counter()
        with log.open("w") as output:
            process = subprocess.Popen(
                command_of(stage, folder, sizes),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # a separate process group, so that a kill ends its children too
            )
            killed, status, used = wait_or_kill(
                process.pid, started + waiting[0] if waiting else None
            )
        wall = time.perf_counter() - started
        cost = _with(cost, used, wall, killed)
        if killed:
            waiting.pop(0)
            print(f"{stage}: killed after {wall:.1f} s", flush=True)
        elif code := os.waitstatus_to_exitcode(status):
            lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise UserError(
                f"{stage}: ended with status {code}; expected 0; {log} ends with: {lines[-1][:300]}"
            )
        else:
            return cost, waiting


def _with(cost: Cost, used: Any, wall: float, killed: bool) -> Cost:
    """The cost with that of one more process, from its `resource.struct_rusage`."""
    return Cost(
        cost.cpu_seconds + used.ru_utime + used.ru_stime,
        cost.wall_seconds + wall,
        max(cost.peak_bytes, peak_of(used)),
        cost.killed + killed,
    )


def kills_at_random(
    stages: Mapping[str, Mapping[str, float]], count: int, seed: int
) -> dict[str, list[float]]:
    """Stage -> seconds into it, for `count` moments drawn from the whole time of the undisturbed run."""
    rng, kills = random.Random(seed), dict[str, list[float]]()
    names = list(stages)
    seconds = [stages[name]["wall_seconds"] for name in names]
    for name in rng.choices(names, seconds, k=count):
        kills.setdefault(name, []).append(rng.random() * stages[name]["wall_seconds"])
    return kills


def _line(stage: str, cost: Cost) -> str:
    again = f", killed {cost.killed} times before" if cost.killed else ""
    return (
        f"{stage}: {STAGES[stage]}: {cost.cpu_seconds:,.1f} processor seconds, {cost.wall_seconds:,.1f} s, "
        f"peak {cost.peak_bytes / 2**20:,.0f} MiB{again}"
    )


def both(folder: pathlib.Path, sizes: Sizes, count: int, seed: int) -> dict[str, Any]:
    """The rehearsal undisturbed, then killed at random moments.

    Raises:
      UserError: they ended differently.
    """
    whole = rehearse(folder / "undisturbed", sizes)
    killed = rehearse_killed(whole, folder, sizes, count, seed)
    return whole | {name: killed[name] for name in ("killed", "kills")}


def rehearse_killed(
    whole: Mapping[str, Any], folder: pathlib.Path, sizes: Sizes, count: int, seed: int
) -> dict[str, Any]:
    """The rehearsal killed at random moments, which must end as the undisturbed one, `whole`.

    Returns:
      What `rehearse` returns, with "killed", stage -> number of kills, and "kills", stage -> seconds after which its processes were killed.

    Raises:
      UserError: it ended differently.
    """
    kills = kills_at_random(whole["stages"], count, seed)
    killed = rehearse(folder / "killed", sizes, kills)
    names = whole["fingerprint"]
    if wrong := [name for name in names if killed["fingerprint"].get(name) != names[name]]:
        raise UserError(
            f"killed {count} times, the rehearsal ended with another {wrong[0]}; expected the same"
        )
    times = {name: own["killed"] for name, own in killed["stages"].items() if own["killed"]}
    return killed | {"killed": times, "kills": kills}


def recorded(path: pathlib.Path, sizes: Sizes) -> dict[str, Any]:
    """The run of the same size in a record.

    Raises:
      UserError: there is none.
    """
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else []
    found = [own for own in runs if own["users"] == sizes.users]
    if not found:
        raise UserError(
            f"--undisturbed={path}: expected a record with a run of {sizes.users:,} users; leave the flag out to run it"
        )
    return found[0]


def keep(path: pathlib.Path, own: dict[str, Any], contention: Contention) -> dict[str, Any]:
    """Writes the record, with this run in place of an earlier one of the same size; returns it.

    Each run says its own date, machine, commit and load, because runs of several days and machines stand in one record. If the earlier one
    was killed and had the same results, its costs stay in the record, as "killed_run".
    """
    earlier = json.loads(path.read_text())["runs"] if path.exists() else []
    about = machine()
    own |= {"date": time.strftime("%Y-%m-%d"), "commit": about.pop("commit"), "machine": about}
    own |= {"cores_used_by_others": contention.cores()}
    runs = [other for other in earlier if other["users"] != own["users"]]
    for before in earlier:
        if before["users"] == own["users"] and before["fingerprint"] == own["fingerprint"]:
            own = with_killed_run(own, before)
    record = {"benchmark": "rehearsal", "runs": sorted([*runs, own], key=lambda one: one["users"])}
    save(path, record)
    return record


def with_killed_run(own: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """An undisturbed run with the killed run of an earlier record that had the same results, if that one was killed."""
    names = "date", "commit", "machine", "stages", "killed", "kills", "cores_used_by_others"
    if own.get("killed") or not earlier.get("killed"):
        return own
    return own | {"killed_run": {name: earlier[name] for name in names if name in earlier}}


def arguments_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = parser_of("rehearsal", __doc__)
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        required=True,
        help="folder for all files; 0.8 GB at 1 million users",
    )
    parser.add_argument(
        "--users",
        type=int,
        help="users; all else is in proportion (default 100,000; 2,000 with --quick)",
    )
    parser.add_argument(
        "--kill-at-random",
        type=int,
        default=0,
        help="how often the second run is killed; 0: no second run",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills")
    parser.add_argument(
        "--undisturbed",
        type=pathlib.Path,
        help="a record; the killed run must end as its run of the same size, which is not run again",
    )
    given = parser.parse_args(arguments)
    given.users = given.users or (2000 if given.quick else 100_000)
    if given.users < 1000:
        parser.error(f"--users: {given.users}; expected 1,000 or more")
    if given.undisturbed and not given.kill_at_random:
        parser.error("--undisturbed: expected --kill-at-random too")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs, prints, and writes JSON."""
    given, contention = arguments_of(arguments), Contention()
    folder, sizes = given.folder.resolve(), Sizes(given.users)
    if given.kill_at_random:
        how = folder, sizes, given.kill_at_random, given.seed
        before = recorded(given.undisturbed, sizes) if given.undisturbed else None
        found = rehearse_killed(before, *how) if before else both(*how)
        if before:  # what the killed run was compared with
            found["undisturbed"] = {
                name: before[name] for name in ("commit", "stages", "cores_used_by_others")
            }
        times = sum(found["killed"].values())
        print(f"killed {times} times, {found['killed']}, and ended with the same fingerprint")
    else:
        found = rehearse(folder, sizes)
    print(f"fingerprint: {found['fingerprint']['all']}")
    path = place(given, "rehearsal-cpu.json")
    runs = [found] if path is None else keep(path, found, contention)["runs"]
    print(table(*show(runs)))
    if path is not None:
        print("\n".join(measured_on(runs)))
        print(f"written to {path}")


if __name__ == "__main__":
    run(main)
