"""Runs the benchmarks one after another, each in a separate process: python -m benchmarks.run [--only=profile,evaluation] [--quick]

Results go to `benchmarks/results`, or to --out=FOLDER. --quick tests in some minutes that all benchmarks run; it stores results only with
--out. A benchmark that fails does not stop the others; the exit status is then 1. `python -m benchmarks.report` writes the page of the
results. `--suite=gpu` runs the benchmarks for a GPU at a GPU's sizes, the most important first (`launch/gpu_benchmarks.sh`). With
--at-once=4, those that compile much are started first, four at a time, only to fill the caches of compiled programs. Then all are timed,
one at a time.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks.arguments import names_of
from benchmarks.timing import COMPILE


class Benchmark(NamedTuple):
    """A module that takes --quick and --out=JSON.

    Attributes:
      arguments: further arguments without --quick.
      only_named: whether it runs only if it is named.
      compiles: whether `compile_first` starts it, because it stops early, or takes little more time than compilation, if
        `timing.only_compiles`.
    """

    module: str
    arguments: tuple[str, ...] = ()
    only_named: bool = False
    compiles: bool = False


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
RIVALS_OF_TEN_MINUTES = (
    "--rivals=torch,rectools",
    "--rival-seconds=30",
)
GPU = {
    "step": Benchmark("benchmarks.step", compiles=True),
    "step_industry": Benchmark("benchmarks.step", ("--shape=industry",), compiles=True),
    "kernel_errors": Benchmark("benchmarks.kernel_errors"),
    "train": Benchmark("benchmarks.train", RIVALS_OF_TEN_MINUTES),
    "retrieval": Benchmark("benchmarks.retrieval"),
    "profile": Benchmark(
        "benchmarks.profile",
        (
            "--models=grasp-sasrec,grasp-sasrec-backbone,plain-sasrec,plain-sasrec-backbone,plain-gru4rec",
        ),
        compiles=True,
    ),
    "profile_industry": Benchmark(
        "benchmarks.profile",
        ("--shape=industry", "--models=grasp-sasrec,grasp-sasrec-backbone,plain-sasrec"),
        compiles=True,
    ),
    "longest_kernels": Benchmark("benchmarks.longest_kernels"),
    "gru": Benchmark("benchmarks.gru", compiles=True),
    "attention": Benchmark("benchmarks.attention", compiles=True),
    "gated_projection": Benchmark("benchmarks.gated_projection", compiles=True),
    "evaluation": Benchmark("benchmarks.evaluation", ("--full-users=4096", "--plain-users=64")),
    "train_to_the_end": Benchmark("benchmarks.train", only_named=True),  # hours, with all rivals
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
      at_once: above 1: how many benchmarks compile at a time before anything is timed.
    """
    begun = time.perf_counter()
    chosen = names or [name for name, own in benchmarks.items() if not own.only_named]

    def left() -> float | None:
        return seconds - (time.perf_counter() - begun) if seconds else None

    def command(name: str) -> list[str]:
        own = benchmarks[name]
        kept = (f"--out={out / name}.json",) if out else ()
        return [
            sys.executable,
            "-m",
            own.module,
            *(own.arguments if not quick else ("--quick", *shapes(own))),
            *kept,
        ]

    if at_once > 1:
        together = [command(name) for name in chosen if benchmarks[name].compiles]
        compile_first(together, at_once, seconds / 2 or None)  # the other half is for timing
    failed = []
    for name in chosen:
        started, rest = time.perf_counter(), left()
        outcome = _outcome(command(name), rest)
        print(f"benchmark {name}: {outcome}, {time.perf_counter() - started:.0f} s", flush=True)
        if outcome != "ok":
            failed.append(name)
    return failed


def shapes(benchmark: Benchmark) -> list[str]:
    """Those of its arguments that make another benchmark of it, at small sizes too."""
    return [argument for argument in benchmark.arguments if argument.startswith("--shape=")]


def compile_first(commands: Sequence[Sequence[str]], at_once: int, seconds: float | None) -> None:
    """Starts benchmarks side by side that only compile, and stops them after so many seconds; a failure shows when they are timed."""
    started = time.perf_counter()

    def one(command: Sequence[str]) -> bool:
        left = None if seconds is None else seconds - (time.perf_counter() - started)
        if left is not None and left <= 0:
            return False
        try:
            done = subprocess.run(
                command,
                check=False,
                timeout=left,
                env={**os.environ, COMPILE: "1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    with ThreadPoolExecutor(at_once) as pool:
        compiled = sum(pool.map(one, commands))
    took = time.perf_counter() - started
    print(f"{compiled} of {len(commands)} benchmarks compiled, {took:.0f} s", flush=True)


def _outcome(command: Sequence[str], seconds: float | None) -> str:
    """Runs a benchmark for so long at most; "ok", or how it ended."""
    if seconds is not None and seconds <= 0:
        return "not begun, the time is over"
    try:
        done = subprocess.run(command, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return "stopped, the time is over"
    return "ok" if done.returncode == 0 else f"failed with status {done.returncode}"


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
        help="benchmarks that compile at a time, before anything is timed; 1: each compiles when it is timed",
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
