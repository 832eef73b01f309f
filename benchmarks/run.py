"""Runs the benchmarks one after another, each in a separate process: python -m benchmarks.run [--only=profile,evaluation] [--quick]

Results go to `benchmarks/results`, or to --out=FOLDER. --quick tests in some minutes that all benchmarks run; it stores results only with
--out. A benchmark that fails does not stop the others; the exit status is then 1. `python -m benchmarks.report` writes the page of the
results. `--suite=gpu` runs the benchmarks for a GPU at a GPU's sizes, the most important first (`launch/gpu_benchmarks.sh`). With
--at-once=4, those that compile much are started first, four at a time, only to fill the caches of compiled programs. Then all are timed,
one at a time. --resume leaves out what has finished before, so that a run that was interrupted can be continued.

Benchmarks that take hours, or need other software, run only if --only names them; --help says which.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from benchmarks.arguments import names_of, number_from
from benchmarks.finished import Finished, sources
from benchmarks.in_time import Clock, end_with_this_process, status_of
from benchmarks.record import RESULTS
from benchmarks.record import run as run_main
from benchmarks.timing import COMPILE
from grasp_jax.core.cores import cores
from grasp_jax.core.errors import UserError
from grasp_jax.core.paths import check_folder

OK = "ok"
WITH_QUICK = ("--shape=", "--forms=", "--models=", "--rivals=")  # arguments that --quick keeps


class Benchmark(NamedTuple):
    """A module that takes --quick and --out.

    Attributes:
      arguments: further arguments; with --quick only those of `WITH_QUICK`.
      only_named: whether it runs only if it is named.
      compiles: whether `compile_first` starts it: it stops early if `timing.only_compiles`, and is among the most important, because
        all wait until the last one has compiled.
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
    "plan_memory": Benchmark("benchmarks.plan_memory", only_named=True),  # it needs it too
    "train": Benchmark(
        "benchmarks.train", only_named=True
    ),  # hours, with the rivals that are installed
}
STEP = ("--forms=all", "--rivals=installed")
RIVALS_OF_TEN_MINUTES = (
    "--rivals=torch,rectools",
    "--rival-seconds=30",
)
# The records that `sections.aims` reads come first: the time may be over before the last ones.
GPU = {
    "step": Benchmark("benchmarks.step", STEP, compiles=True),
    "step_industry": Benchmark("benchmarks.step", (*STEP, "--shape=industry"), compiles=True),
    "kernel_errors": Benchmark("benchmarks.kernel_errors"),
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
    "retrieval": Benchmark("benchmarks.retrieval"),
    "train": Benchmark("benchmarks.train", RIVALS_OF_TEN_MINUTES),
    "longest_kernels": Benchmark("benchmarks.longest_kernels"),
    "gru": Benchmark("benchmarks.gru"),
    "attention": Benchmark("benchmarks.attention"),
    "evaluation": Benchmark("benchmarks.evaluation", ("--full-users=4096", "--plain-users=64")),
    "train_to_the_end": Benchmark("benchmarks.train", only_named=True),  # hours, with all rivals
}
SUITES = {"cpu": CPU, "gpu": GPU}


@dataclasses.dataclass(frozen=True)
class Options:
    """How a suite is run.

    Attributes:
      quick: small sizes.
      out: folder of the results; None: `benchmarks/results`, or nowhere if `quick`.
      seconds: limit for all together, 0: none. The benchmark that runs then is ended, and later ones are not started.
      at_once: above 1: how many benchmarks compile at a time before anything is timed.
      finished: what has finished before, to which this run adds; None: there is no folder for results.
      resume: whether what has finished before is left out.
    """

    quick: bool = False
    out: pathlib.Path | None = None
    seconds: float = 0.0
    at_once: int = 1
    finished: Finished | None = None
    resume: bool = False


def run(
    benchmarks: Mapping[str, Benchmark], names: Sequence[str], options: Options | None = None
) -> list[str]:
    """Runs the named benchmarks, or all that need not be named, and prints the time of each; returns the names of those that failed.

    Benchmarks that were stopped or not begun because the time was over count as failed.
    """
    options = options or Options()
    clock, known = Clock(options.seconds), options.finished
    chosen = names or [name for name, own in benchmarks.items() if not own.only_named]
    commands = {name: command(benchmarks[name], options) for name in chosen}
    done: list[str] = []
    if known and options.resume:
        done = [name for name in chosen if known.has(name, commands[name])]
    if done:
        print(f"finished before, so left out: {', '.join(done)}; --no-resume runs them", flush=True)
    left = [name for name in chosen if name not in done]
    together = [commands[name] for name in left if benchmarks[name].compiles]
    if options.at_once > 1 and together:
        half = options.seconds / 2  # the other half is for timing
        compile_first(together, options.at_once, half)
    failed = []
    for name in left:
        own, before = Clock(), known.files() if known else {}
        outcome = _outcome(commands[name], clock.left())
        print(f"benchmark {name}: {outcome}, {own.passed():.0f} s", flush=True)
        if outcome != OK:
            failed.append(name)
        elif known:
            known.add(name, commands[name], own.passed(), before)
    return failed


def command(benchmark: Benchmark, options: Options) -> list[str]:
    """The module and its arguments."""
    given = benchmark.arguments
    if options.quick:
        given = ("--quick", *(own for own in given if own.startswith(WITH_QUICK)))
    return [benchmark.module, *given, *([f"--out={options.out}"] if options.out else [])]


def compile_first(commands: Sequence[Sequence[str]], at_once: int, seconds: float) -> None:
    """Starts benchmarks side by side that only compile, and ends them after so many seconds, 0: never; a failure shows when they are
    timed.
    """
    clock = Clock(seconds)

    def one(command: Sequence[str]) -> bool:
        left = clock.left()
        if left is not None and left <= 0:
            return False
        return status_of(_python(command), left, {COMPILE: "1"}, subprocess.DEVNULL) == 0

    with ThreadPoolExecutor(at_once) as pool:
        compiled = sum(pool.map(one, commands))
    print(f"{compiled} of {len(commands)} benchmarks compiled, {clock.passed():.0f} s", flush=True)


def _outcome(command: Sequence[str], seconds: float | None) -> str:
    """Runs a benchmark for so long at most; `OK`, or how it ended."""
    if seconds is not None and seconds <= 0:
        return "not begun, the time is over"
    status = status_of(_python(command), seconds)
    if status is None:
        return "stopped, the time is over"
    return f"failed with status {status}" if status else OK


def _python(command: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", *command]


def machine_of() -> dict[str, Any]:
    """`grasp_jax.core.machine.machine`, by a process that ends, because JAX keeps the device's memory.

    Raises:
      UserError: JAX does not start.
    """
    program = (
        "import json; from grasp_jax.core.machine import machine; print(json.dumps(machine()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"JAX does not start with {sys.executable}: {last}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def finished_in(folder: pathlib.Path, machine: Mapping[str, Any]) -> Finished:
    """What has finished in the folder on this machine with these programs."""
    about = {name: machine[name] for name in ("device", "cpu", "cores", "versions")}
    return Finished(folder, {**about, "sources": sources()})


def main(
    arguments: Sequence[str] | None = None, suites: Mapping[str, Mapping[str, Benchmark]] = SUITES
) -> int:
    """The exit status: 0, or 1 if a benchmark failed; argparse exits with 2 for an unknown name.

    Raises:
      UserError: the suite needs a GPU and there is none.
    """
    parser = parser_of_suites(suites)
    given, clock = parser.parse_args(arguments), Clock()
    benchmarks = suites[given.suite]
    names = names_of(parser, "--only", given.only, benchmarks) if given.only else []
    if given.out:
        check_folder(str(given.out), "--out").mkdir(parents=True, exist_ok=True)
    folder, finished = given.out or (None if given.quick else RESULTS), None
    if folder is not None or given.suite == "gpu":
        machine = machine_of()
        print(f"device: {machine['device']}", flush=True)
        if given.suite == "gpu" and machine["backend"] != "gpu" and not given.quick:
            raise UserError(
                f"--suite=gpu: JAX finds no GPU, but {machine['device']}; install jax[cuda12], or try the benchmarks with --quick"
            )
        finished = finished_in(folder, machine) if folder else None
    seconds = max(given.seconds - clock.passed(), 1.0) if given.seconds else 0.0
    at_once = min(given.at_once, cores())
    options = Options(given.quick, given.out, seconds, at_once, finished, given.resume)
    failed = run(benchmarks, names, options)
    if not names and (others := only_named(benchmarks)):
        print(
            f"not run, because they take hours or need other software: {others}; --only=NAME runs one"
        )
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def only_named(benchmarks: Mapping[str, Benchmark]) -> str:
    """The names of the benchmarks that run only if they are named, with commas."""
    return ", ".join(name for name, own in benchmarks.items() if own.only_named)


def parser_of_suites(suites: Mapping[str, Mapping[str, Benchmark]]) -> argparse.ArgumentParser:
    """The parser of this program; its help lists the benchmarks of each suite."""
    lines = []
    for suite, benchmarks in suites.items():
        first = ", ".join(name for name, own in benchmarks.items() if not own.only_named)
        lines.append(f"--suite={suite} runs {first or 'nothing'}")
        if others := only_named(benchmarks):
            lines.append(f"  and, if --only names them: {others}")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=(__doc__ or "").split(": python -m")[0],
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", default="cpu", choices=suites, help="which benchmarks to run")
    parser.add_argument(
        "--only", default="", help="names of benchmarks in the suite, comma separated"
    )
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
        type=number_from(1, int),
        default=1,
        help="benchmarks that compile at the same time (at most one a core) before anything is timed; 1: each compiles when it is timed",
    )
    parser.add_argument(
        "--seconds",
        type=number_from(0, float),
        default=0.0,
        help="most seconds of all benchmarks together; 0: no bound",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="leave out what has finished in the folder of the results, on this machine and with these programs",
    )
    return parser


if __name__ == "__main__":
    end_with_this_process()
    run_main(lambda: sys.exit(main()))
