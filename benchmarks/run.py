"""Runs the benchmarks one after another, each in a separate process: python -m benchmarks.run [--only=profile,evaluation] [--quick]

Results go to `benchmarks/results`, or to --out=FOLDER. --quick tests in some minutes that all benchmarks run; it stores results only with
--out. A benchmark that fails does not stop the others; the exit status is then 1. `python -m benchmarks.report` writes the page of the
results. `--suite=gpu` runs the benchmarks for a GPU at a GPU's sizes, the most important first (`launch/gpu_benchmarks.sh`). With
--at-once=4, four of them compile at the same time, but only one of them is timed at a time.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks.arguments import names_of
from benchmarks.timing import LOCK


class Benchmark(NamedTuple):
    """A module that takes --quick and --out=JSON.

    Attributes:
      arguments: further arguments without --quick.
      only_named: whether it runs only if it is named.
      beside: whether it may run at the same time as others, because its timed parts wait for `timing.alone`.
    """

    module: str
    arguments: tuple[str, ...] = ()
    only_named: bool = False
    beside: bool = False


CPU = {
    "step": Benchmark("benchmarks.step"),
    "profile": Benchmark(
        "benchmarks.profile", ("--models=grasp-sasrec,plain-sasrec,plain-gru4rec,grasp-gru4rec",)
    ),
    "evaluation": Benchmark("benchmarks.evaluation"),
    "memory": Benchmark("benchmarks.memory"),
    "attention": Benchmark("benchmarks.attention"),
    "gru": Benchmark("benchmarks.gru"),
    "gated_projection": Benchmark(
        "benchmarks.gated_projection", only_named=True
    ),  # kernels are timed only on a GPU
    "scaling": Benchmark(
        "benchmarks.scaling", only_named=True
    ),  # emulated devices, minutes of compilation
    "retrieval": Benchmark(
        "benchmarks.retrieval", only_named=True
    ),  # it compares with faiss: make rival-faiss
    "neighbours": Benchmark("benchmarks.neighbours", only_named=True),  # an hour
    "bank": Benchmark("benchmarks.bank", only_named=True),  # an hour
    "reading": Benchmark("benchmarks.reading", only_named=True),  # 5 million interactions
    "serving": Benchmark(
        "benchmarks.serving", only_named=True
    ),  # it compares with a service of torch
    "serving_batch": Benchmark("benchmarks.serving_batch", only_named=True),  # make rival-rectools
    "kernels_of_a_step": Benchmark(
        "benchmarks.kernels_of_a_step", only_named=True
    ),  # it needs the compiler for an H100
    "train": Benchmark(
        "benchmarks.train", only_named=True
    ),  # hours, with the rivals that are installed
}
GPU = {
    "step": Benchmark("benchmarks.step"),
    "train": Benchmark("benchmarks.train"),
    "profile": Benchmark(
        "benchmarks.profile", ("--models=grasp-sasrec,plain-sasrec,plain-gru4rec",), beside=True
    ),
    "attention": Benchmark("benchmarks.attention", beside=True),
    "gru": Benchmark("benchmarks.gru", beside=True),
    "profile_industry": Benchmark(
        "benchmarks.profile",
        ("--shape=industry", "--models=grasp-sasrec,plain-sasrec"),
        beside=True,
    ),
    "evaluation": Benchmark(
        "benchmarks.evaluation", ("--full-users=4096", "--plain-users=64"), beside=True
    ),
    "gated_projection": Benchmark("benchmarks.gated_projection", beside=True),
    "retrieval": Benchmark("benchmarks.retrieval", beside=True),
}
SUITES = {"cpu": CPU, "gpu": GPU}


def run(
    benchmarks: Mapping[str, Benchmark],
    names: Sequence[str],
    quick: bool,
    out: pathlib.Path | None = None,
    seconds: float = 0.0,
    at_once: int = 1,
) -> list[str]:
    """Runs the named benchmarks, or all that need not be named, and prints the time of each; returns the names of those that failed.

    Args:
      out: folder for NAME.json of each; without it, each writes to `benchmarks/results`.
      seconds: limit for all together, if above 0: the benchmark that runs then is stopped, and later ones are not started; all these count
        as failed.
      at_once: how many benchmarks that allow it are started together. They run after the others, and their output is printed when they end.
    """
    begun = time.perf_counter()
    chosen = names or [name for name, own in benchmarks.items() if not own.only_named]
    beside = [name for name in chosen if at_once > 1 and benchmarks[name].beside]

    def one(name: str) -> bool:
        started = time.perf_counter()
        left = seconds - (started - begun) if seconds else None
        kept = (f"--out={out / name}.json",) if out else ()
        own = benchmarks[name]
        command = [
            sys.executable,
            "-m",
            own.module,
            *(("--quick",) if quick else own.arguments),
            *kept,
        ]
        said = subprocess.PIPE if name in beside else None
        if left is not None and left <= 0:
            outcome = "not begun, the time is over"
        else:
            printed: bytes | None
            try:
                done = subprocess.run(
                    command,
                    check=False,
                    timeout=left,
                    stdout=said,
                    stderr=said and subprocess.STDOUT,
                )
                printed, outcome = (
                    done.stdout,
                    "ok" if done.returncode == 0 else f"failed with status {done.returncode}",
                )
            except subprocess.TimeoutExpired as stopped:
                printed, outcome = stopped.stdout, "stopped, the time is over"
            print((printed or b"").decode(errors="replace"), end="")
        print(f"benchmark {name}: {outcome}, {time.perf_counter() - started:.0f} s", flush=True)
        return outcome == "ok"

    ok = {name: one(name) for name in chosen if name not in beside}
    if beside:
        with tempfile.NamedTemporaryFile() as lock, ThreadPoolExecutor(at_once) as pool:
            os.environ[LOCK] = lock.name
            ok |= dict(zip(beside, pool.map(one, beside), strict=True))
            del os.environ[LOCK]
    return [name for name in chosen if not ok[name]]


def main(
    arguments: Sequence[str] | None = None, suites: Mapping[str, Mapping[str, Benchmark]] = SUITES
) -> int:
    """The exit status: 0, or 1 if a benchmark failed; argparse exits with 2 for an unknown name."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--suite", default="cpu", choices=suites)
    parser.add_argument("--only", default="", help="names in the suite, comma separated")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, in seconds; nothing is written without --out",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=None,
        help="folder for the results, by default benchmarks/results",
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=1,
        help="benchmarks that compile side by side; what they time they time alone",
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="of all together; 0: no bound")
    given = parser.parse_args(arguments)
    benchmarks = suites[given.suite]
    names = names_of(parser, "--only", given.only, benchmarks) if given.only else []
    failed = run(benchmarks, names, given.quick, given.out, given.seconds, given.at_once)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
