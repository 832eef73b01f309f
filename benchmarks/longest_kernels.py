"""Nsight Compute of the kernels in which a training step spends most of its time: python -m benchmarks.longest_kernels [--quick]

`ncu` runs one dispatch of few steps of GRASP-SASRec at the shape of paper Beauty, with kernels launched one by one, and measures of each
kernel its time, and how busy it keeps the multiprocessors and the memory. Where `ncu` is not installed, or may not read the counters, the
benchmark says so and exits with 0. --quick runs the same step without `ncu`.
"""

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks.arguments import parser_of
from benchmarks.factorised import FactorisedStep
from benchmarks.lengths import log_to_time
from benchmarks.profile import ONE_BY_ONE
from benchmarks.record import Contention, keep, run, table
from benchmarks.workload import QUICK, SHAPES, config_of, random_tables, training_of
from grasp_jax.core.errors import UserError
from grasp_jax.data.split import leave_one_out

STEPS, LONGEST = 4, 3
METRICS = {  # Nsight's names of what is measured
    "gpu__time_duration.sum": "nanoseconds",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "multiprocessors",
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": "memory",
}
KERNEL, METRIC, VALUE, UNIT = "Kernel Name", "Metric Name", "Metric Value", "Metric Unit"
NANOSECONDS = {"ns": 1.0, "nsecond": 1.0, "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6}


def one_dispatch(quick: bool, kernels: str) -> None:
    """Compiles and runs `STEPS` steps; the profiler measures from the first kernel to the last."""
    sizes = QUICK if quick else SHAPES["beauty"]
    log = log_to_time(quick)
    config = config_of(sizes).with_fields({"kernels": kernels})
    tables = random_tables(log, sizes.width)
    training = training_of(config, leave_one_out(log, sizes.max_length), tables)
    options = ONE_BY_ONE if jax.default_backend() == "gpu" else None
    FactorisedStep(training, STEPS, options).run()


def longest(text: str, count: int = LONGEST) -> list[dict[str, Any]]:
    """The kernels with the most time in all, of the CSV that `ncu` prints: one line for each execution and metric.

    Returns:
      name, executions, microseconds of all of them, share of the time of all kernels, and the mean percentages of the other metrics.
    """
    lines = [line for line in text.splitlines() if line.startswith('"')]
    values: dict[str, dict[str, list[float]]] = {}
    for row in csv.DictReader(lines):
        if row[METRIC] not in METRICS:
            continue
        value = float(row[VALUE].replace(",", "")) * NANOSECONDS.get(row[UNIT], 1.0)
        of_kernel = values.setdefault(row[KERNEL], {title: [] for title in METRICS.values()})
        of_kernel[METRICS[row[METRIC]]].append(value)
    total = sum(sum(own["nanoseconds"]) for own in values.values())
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "executions": len(own["nanoseconds"]),
            "microseconds": sum(own["nanoseconds"]) / 1e3,
            "share": sum(own["nanoseconds"]) / total,
            **{
                title: sum(own[title]) / max(len(own[title]), 1)
                for title in ("multiprocessors", "memory")
            },
        }
        for name, own in values.items()
    ]
    return sorted(found, key=lambda row: -row["microseconds"])[:count]


def measured(given: argparse.Namespace) -> str:
    """What `ncu` prints of a process that runs `one_dispatch`; "" if it cannot measure here, of which it says why."""
    own = [
        sys.executable,
        "-m",
        "benchmarks.longest_kernels",
        "--inside",
        f"--kernels={given.kernels}",
    ]
    if given.quick:
        subprocess.run([*own, "--quick"], check=True)
        print("--quick: the step was run without ncu")
        return ""
    if shutil.which("ncu") is None:
        print("ncu (Nsight Compute) is not installed: nothing is measured")
        return ""
    command = ["ncu", "--csv", "--target-processes", "all", "--metrics", ",".join(METRICS)]
    done = subprocess.run([*command, *own], capture_output=True, text=True, check=False)
    if done.returncode or KERNEL not in done.stdout:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        print(f"ncu measured nothing: {' '.join(last)}")
        return ""
    return done.stdout


def show(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the table of the longest kernels."""
    header = ["kernel", "executions", "us", "share of all kernels", "multiprocessors", "memory"]
    body = [
        [
            row["name"][:60],
            str(row["executions"]),
            f"{row['microseconds']:.1f}",
            f"{row['share']:.1%}",
            f"{row['multiprocessors']:.0f}%",
            f"{row['memory']:.0f}%",
        ]
        for row in rows
    ]
    return header, body


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the longest kernels, and writes them as JSON.

    Raises:
      UserError: the step itself failed.
    """
    parser = parser_of("longest_kernels", __doc__)
    parser.add_argument("--kernels", default="auto", help="value of config.kernels")
    parser.add_argument(
        "--inside", action="store_true", help="run the step itself, as ncu calls this program"
    )
    given = parser.parse_args(arguments)
    if given.inside:
        one_dispatch(given.quick, given.kernels)
        return
    contention = Contention()
    try:
        text = measured(given)
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"benchmarks.longest_kernels: the step ended with {error.returncode}"
        ) from error
    if not text:
        return
    rows = longest(text)
    print(table(*show(rows)))
    first = rows[0]
    said = f"{first['name']} takes {first['share']:.0%} of the kernels' time"
    keep(
        "longest_kernels",
        {"kernels": given.kernels, "steps": STEPS, "rows": rows},
        contention,
        given,
        said,
    )


if __name__ == "__main__":
    run(main)
