"""Measures descriptions through a chat endpoint, with and without kills: `python -m benchmarks.describe`.

The command line (`--mode=prepare`) describes a synthetic catalogue, each time with an empty cache and a server in another process. Several
rounds with a server that works correctly and waits a fixed time before each answer give the throughput. Another server makes faults on
purpose. A last run has the same faults and is killed by SIGKILL several times. All runs must make the same tables, no request with a stored
answer may be sent again, and no more requests may be in flight than the config allows. The server's limit is concurrency / waiting time; a
bare asyncio client shows how much of it this machine can reach.
"""

import argparse
import asyncio
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.chat_process import ROOT, ChatProcess, bare_client
from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.machine import machine
from grasp_jax.knowledge.describe import chat
from grasp_jax.knowledge.describe.language_model import keys_of
from grasp_jax.knowledge.endpoint.cache import stored_keys

RUNS = ("well_behaved", "misbehaving", "killed")
# one prompt in this number; the prompt decides, so every run has the same faults
CONTENT = {"na": 41, "refused": 67, "empty": 71, "endless": 101}
# one request in this number
FAULTS = {"busy": 41, "broken": 43, "dropped": 47, "malformed": 53, "other": 59, "slow": 61}
WORDS = (
    "amber",
    "basil",
    "cedar",
    "dusk",
    "ember",
    "fern",
    "grove",
    "hazel",
    "iris",
    "jade",
    "kelp",
    "lotus",
    "maple",
    "nectar",
    "olive",
)


def write_shop(folder: pathlib.Path, num_items: int, num_users: int) -> pathlib.Path:
    """A seeded catalogue with titles, and short histories."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    titles = [
        f"{' '.join(words)} no. {k}" for k, words in enumerate(rng.choice(WORDS, (num_items, 4)))
    ]
    items = [{"item": str(k), "title": title} for k, title in enumerate(titles)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    lines = [
        f"{user}\t{rng.integers(num_items)}\t{k}" for user in range(num_users) for k in range(6)
    ]
    (folder / "interactions.tsv").write_text("user\titem\ttimestamp\n" + "\n".join(lines) + "\n")
    return folder


def command(shop: pathlib.Path, folder: pathlib.Path, url: str, concurrency: int) -> list[str]:
    """The command line of one run; its workdir and its answers are in `folder`."""
    return [
        sys.executable,
        "-m",
        "grasp_jax.main",
        "--config=configs/quickstart.py",
        "--mode=prepare",
        f"--workdir={folder / 'run'}",
        "--config.data.source=files",
        f"--config.data.path={shop}",
        "--config.data.items_file=items.jsonl",
        "--config.knowledge.item_template=titled_item",
        "--config.knowledge.width=16",
        "--config.knowledge.describer=openai",
        f"--config.knowledge.describe.base_url={url}",
        f"--config.knowledge.describe.cache={folder / 'answers'}",
        "--config.knowledge.describe.cache_by=model",  # so that `repeated` finds the keys by the prompts alone
        f"--config.knowledge.describe.concurrency={concurrency}",
    ]


def describe(
    shop: pathlib.Path,
    folder: pathlib.Path,
    faults: dict[str, int],
    kills: int,
    settings: argparse.Namespace,
) -> dict[str, Any]:
    """One run, killed a number of times at equal shares of the answers; its figures and the checksums of its tables."""
    folder.mkdir()
    total, kept_at = settings.items + settings.users, []
    with ChatProcess(folder / "log", settings.think, faults | CONTENT) as server:
        arguments = command(shop, folder, server.url, settings.concurrency)
        for kill in range(kills):
            with (folder / f"killed-{kill}.txt").open("wb") as said:
                process = subprocess.Popen(arguments, cwd=ROOT, stdout=said, stderr=said)
                while server.seen()["answers"] < total * (kill + 1) / (kills + 1):
                    if process.poll() is not None:
                        raise UserError(
                            f"a run ended before it was killed: {pathlib.Path(said.name).read_text().splitlines()[-1:]}"
                        )
                    time.sleep(0.01)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            while server.seen()["in_flight"]:
                time.sleep(0.01)
            kept_at.append((len(server.log()), stored_keys(folder / "answers")))
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"describing failed: {done.stderr.strip().splitlines()[-1]}")
        seen, log = server.seen(), server.log()
    manifest = json.loads((folder / "run" / "knowledge" / "manifest.json").read_text())
    return {
        "requests": seen["requests"],
        "answers": seen["answers"],
        "seconds_of_items": log[settings.items - 1][0]
        if not kills
        else None,  # after a kill, the requests of the new start would count too
        "most_in_flight": seen["most_in_flight"],
        "kills": kills,
        **repeated([prompt for _, prompt in log], kept_at),
        "checksums": {
            name: manifest["checksums"][name]
            for name in ("items", "items_status", "users", "users_status")
        },
    }


def repeated(log: Sequence[str], kept_at: Sequence[tuple[int, set[bytes]]]) -> dict[str, int]:
    """How often prompts in the server's log were sent again.

    Args:
      log: answered prompts, in order.
      kept_at: for each kill the length of the log and the keys that the cache held then.
    """
    config = KnowledgeConfig().with_fields(
        {"describe.base_url": "http://any", "describe.cache_by": "model"}
    )
    keys = [key.tobytes() for key in keys_of(len(log), log.__getitem__, chat.CHAT, config)]
    again = sum(key in kept for length, kept in kept_at for key in keys[length:])
    unheard = sum(len(set(keys[:length]) - kept) for length, kept in kept_at)
    return {
        "asked_again_though_kept": again,
        "asked_again": len(log) - len(set(log)),
        "not_kept_at_kills": unheard,
    }


def check(runs: dict[str, dict[str, Any]], concurrency: int) -> None:
    """Raises UserError if a run sent stored prompts again, lost answers, had too many requests in flight or made other tables."""
    for name, run in runs.items():
        if run["asked_again_though_kept"] or run["asked_again"] > run["not_kept_at_kills"]:
            raise UserError(
                f"{name}: {run['asked_again']} prompts were sent again, {run['asked_again_though_kept']} of them with a stored answer"
            )
        if run["not_kept_at_kills"] > concurrency * run["kills"]:
            raise UserError(
                f"{name}: {run['not_kept_at_kills']} answers were lost in {run['kills']} kills; expected only those in flight"
            )
        if run["most_in_flight"] > concurrency:
            raise UserError(
                f"{name}: {run['most_in_flight']} requests in flight; the config allows {concurrency}"
            )
        if run["checksums"] != next(iter(runs.values()))["checksums"]:
            raise UserError(f"{name}: its tables differ from those of {next(iter(runs))}")


def bare(log: pathlib.Path, settings: argparse.Namespace) -> float:
    """Answers per second that the bare client gets from the server that works correctly."""
    with ChatProcess(log, settings.think, CONTENT) as server:
        asyncio.run(
            bare_client(
                server.url, [f"item {k}" for k in range(settings.items)], settings.concurrency
            )
        )
        seen = server.seen()
    return settings.items / seen["seconds"]


def main(settings: argparse.Namespace) -> None:
    """Runs, checks, prints and saves."""
    measured_on, contention, allowed = (
        machine(),
        record.Contention(),
        settings.concurrency / settings.think,
    )
    runs: dict[str, dict[str, Any]] = {}
    bare_rates: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        shop = write_shop(folder / "shop", settings.items, settings.users)
        for run in settings.runs:
            faults, kills = (
                {} if run == "well_behaved" else FAULTS,
                settings.kills if run == "killed" else 0,
            )
            rates = []
            for k in range(settings.rounds if run == "well_behaved" else 1):
                runs[run] = describe(shop, folder / f"{run}-{k}", faults, kills, settings)
                check(runs, settings.concurrency)
                if seconds := runs[run].pop("seconds_of_items"):
                    rates.append(settings.items / seconds)
                if run == "well_behaved":
                    bare_rates.append(bare(folder / f"bare-{k}", settings))
                print(
                    f"{run}: {runs[run]['answers']:,} answers to {runs[run]['requests']:,} requests",
                    flush=True,
                )
            if rates:
                middle = statistics.median(rates)
                runs[run] |= {
                    "rounds": rates,
                    "answers_per_second": middle,
                    "share_of_allowed": middle / allowed,
                }
    others = contention.cores()
    print("\n" + table(runs) + "\n")
    if bare_rates:
        print(f"a bare client: {statistics.median(bare_rates):.0f} answers/s")
    result = {
        "benchmark": "describe",
        "date": time.strftime("%Y-%m-%d"),
        "machine": measured_on,
        "sizes": {
            name: getattr(settings, name)
            for name in ("items", "users", "concurrency", "think", "rounds")
        },
        "faults": FAULTS | CONTENT,
        "cores_used_by_others": others,
        "allowed_per_second": allowed,
        "bare_client_rounds": bare_rates,
        "runs": runs,
    }
    record.save(
        pathlib.Path(settings.out) if settings.out else record.RESULTS / "describe-cpu.json", result
    )
    shares = [
        f"{name} {own['share_of_allowed']:.2f}x"
        for name, own in runs.items()
        if "share_of_allowed" in own
    ]
    print(
        f"of {allowed:.0f} answers/s that the server allows: {', '.join(shares)}; all tables are the same"
    )


def table(runs: dict[str, dict[str, Any]]) -> str:
    """A line for each run."""
    header = [
        "run",
        "answers",
        "requests",
        "in flight",
        "kills",
        "sent again",
        "answers/s",
        "share of the limit",
    ]
    rows = []
    for name, own in runs.items():
        counts = [
            f"{own[key]:,}"
            for key in ("answers", "requests", "most_in_flight", "kills", "asked_again")
        ]
        speed = (
            [f"{own['answers_per_second']:.0f}", f"{100 * own['share_of_allowed']:.0f} %"]
            if not own["kills"]
            else ["-", "-"]
        )
        rows.append([name, *counts, *speed])
    return record.table(header, rows)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.describe",
        description="Measures descriptions through a chat endpoint, with and without kills.",
    )
    parser.add_argument("--items", type=int, default=5000, help="items to describe")
    parser.add_argument("--users", type=int, default=100, help="users to describe")
    parser.add_argument("--concurrency", type=int, default=32, help="most requests in flight")
    parser.add_argument(
        "--think", type=float, default=0.1, help="seconds that the server waits before an answer"
    )
    parser.add_argument("--kills", type=int, default=5, help="how often the last run is killed")
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="rounds of the well-behaved run and the bare client, in turn; the median counts",
    )
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS, help="runs to measure")
    parser.add_argument("--out", help="JSON file; without it benchmarks/results/describe-cpu.json")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main(parse())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
