"""Runs the benchmarks one after another, each in a process of its own: python -m benchmarks.run [--only=profile,evaluation] [--quick]

Results go to `benchmarks/results`, and nowhere with --quick, which shows in seconds that a benchmark runs. A benchmark that fails does not
stop the others; the exit status is then 1. `python -m benchmarks.report` makes the page of the results.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Benchmark(NamedTuple):
    """A module that takes --quick, its arguments otherwise, and whether it runs only when it is named."""

    module: str
    arguments: tuple[str, ...] = ()
    only_named: bool = False


BENCHMARKS = {
    "step": Benchmark("benchmarks.step"),
    "id_table": Benchmark("benchmarks.id_table"),
    "profile": Benchmark("benchmarks.profile", ("--models=grasp-sasrec,plain-sasrec,plain-gru4rec,grasp-gru4rec",)),
    "evaluation": Benchmark("benchmarks.evaluation"),
    "data": Benchmark("benchmarks.data"),
    "attention": Benchmark("benchmarks.attention"),
    "gru": Benchmark("benchmarks.gru"),
    "gated_projection": Benchmark("benchmarks.gated_projection", only_named=True),  # where there is no GPU there is no kernel to time
    "bank": Benchmark("benchmarks.bank", only_named=True),  # an hour
}


def run(benchmarks: Mapping[str, Benchmark], names: Sequence[str], quick: bool) -> list[str]:
    """Runs those named, or all that need no naming; a line for each with its time. Returns the names of those that failed."""
    failed = []
    for name in names or [name for name, own in benchmarks.items() if not own.only_named]:
        chosen, started = benchmarks[name], time.perf_counter()
        arguments = ("--quick",) if quick else chosen.arguments
        status = subprocess.run([sys.executable, "-m", chosen.module, *arguments], check=False).returncode
        outcome = "ok" if status == 0 else f"failed with status {status}"
        print(f"benchmark {name}: {outcome}, {time.perf_counter() - started:.0f} s", flush=True)
        if status:
            failed.append(name)
    return failed


def main(arguments: Sequence[str] | None = None, benchmarks: Mapping[str, Benchmark] = BENCHMARKS) -> int:
    """The exit status: 0, 1 where a benchmark failed; argparse exits with 2 for an unknown name."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help=f"comma separated, of {', '.join(benchmarks)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, in seconds; nothing is written")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else []
    if unknown := [name for name in names if name not in benchmarks]:
        parser.error(f"--only: {', '.join(unknown)}; expected some of {', '.join(benchmarks)}")
    failed = run(benchmarks, names, given.quick)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
