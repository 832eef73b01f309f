"""Times a training step of GRASP-SASRec, and the same function in PyTorch and in plain JAX: `python -m benchmarks.step`.

A step is forward, backward and Adam update of 128 users of paper Beauty (E=1536, L=100, D=64), float32, dropout 0.2, one negative per
position; with --shape=industry of Industry-100K (E=4096, tables in bfloat16). All implementations get the same users in the same batches,
the same device and number of threads, in interleaved rounds. Rivals are a PyTorch program written for speed (`packed_torch`: packed rows;
eager, compiled, and on a GPU in CUDA graphs), and at Beauty's shape straightforward programs on padded rows in JAX and in PyTorch. Rivals
get their negatives and batches ready made; ours draws and gathers them inside the step. On a GPU other forms of ours are timed too
(`implementations.FORMS`). Before anything is timed, the losses on one batch must agree. PyTorch is an extra: `pip install '.[bench]'`.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import record
from benchmarks.arguments import parser_of
from benchmarks.factorised import FactorisedStep
from benchmarks.implementations import (
    FORMS,
    Work,
    check_parity,
    prepare,
    sizes_of,
    torch_step_class,
    tried,
)
from benchmarks.limits import limits
from benchmarks.plain_jax import PlainJaxStep
from benchmarks.project import count_project, least_seconds
from benchmarks.timing import only_compiles
from benchmarks.workload import DROPOUT, SHAPES, fewer_users, training_of
from grasp_jax.core.errors import UserError
from grasp_jax.core.machine import machine

DISPATCHES_PER_ROUND = 3
PACKED = "packed"  # first word in the names of rivals that pack their rows
BUSY_CORES = 0.1  # if other processes use more of the CPU, a measurement gets a warning
ROUNDS = 5
STEPS = {"cpu": 16, "gpu": 512}  # steps of ours in one dispatch
QUICK = {"batch_size": 16, "width": 64, "max_length": 20, "features": 16, "rounds": 2, "steps": 4}


def time_rounds(ours: FactorisedStep, rivals: Sequence[Any], rounds: int) -> dict[str, list[float]]:
    """Seconds per step of each implementation that is warm, measured in turn."""
    seconds: dict[str, list[float]] = {step.name: [] for step in (ours, *rivals)}
    for _ in range(rounds):
        seconds[ours.name] += [ours.run() for _ in range(DISPATCHES_PER_ROUND)]
        for rival in rivals:
            seconds[rival.name].append(rival.run())
    return seconds


def measure_growth(work: Work) -> list[dict[str, Any]]:
    """Times of one epoch of ours with a quarter, half and all of the users, without compilation."""
    rows, everyone = [], len(work.ours.data.users)
    for divisor in (4, 2, 1):
        part = training_of(work.config, fewer_users(work.split, everyone // divisor), work.tables)
        users, histories = part.data.users, part.data.histories
        step = FactorisedStep(part, len(users))
        seconds, tokens = step.run_warm(), int(histories.lengths[users].sum())
        rows.append(
            {
                "users": len(users),
                "steps": step.steps,
                "tokens": tokens,
                "seconds": seconds,
                "seconds_per_million_tokens": 1e6 * seconds / tokens,
                "compile_seconds": step.compile_seconds,
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares the work, checks parity, times, prints and saves."""
    given = _flags(arguments)
    torch_step, torch_problem = torch_step_class()
    if torch_problem and not given.quick and given.rivals == "all":
        raise UserError(
            f"{torch_problem}; the benchmark compares with PyTorch: pip install '.[bench]', or --rivals=installed"
        )
    started = time.perf_counter()
    work = prepare(given, torch_step)
    print(
        f"{_described(work, given)}; prepared in {time.perf_counter() - started:.0f} s", flush=True
    )
    measured_on = machine()
    parity, rivals = check_parity(work, given.width)
    work.ours.run()
    rivals = [rival for rival, _ in tried((rival, rival.warm_up) for rival in rivals)]
    if only_compiles():
        return
    least = needed(work, given)
    contention = record.Contention()
    seconds = time_rounds(work.ours, rivals, given.rounds)
    others = contention.cores()
    figures = [_figures(step, seconds[step.name], work.tokens) for step in (work.ours, *rivals)]
    on_cpu = jax.default_backend() == "cpu"  # elsewhere `memory` measures an epoch
    growth = measure_growth(work) if on_cpu and given.shape == "beauty" else []

    _print_tables(figures, growth)
    if others is not None and others > BUSY_CORES:
        print(
            f"WARNING: other processes used {others:.1f} cores while the steps were timed. That slows PyTorch's threads, which wait for "
            "each other in every operation, far more than JAX's: the ratios below flatter us; measure on an idle machine."
        )
    if torch_problem:
        print(f"PyTorch rows skipped: {torch_problem} (pip install '.[bench]')")
    ratios = {
        row["name"]: row["seconds_per_step"] / figures[0]["seconds_per_step"] for row in figures[1:]
    }
    over_jax, over_torch = (
        ratios.get(PlainJaxStep.name),
        ratios.get(torch_step.name) if torch_step is not None else None,
    )
    packed = {name: ratio for name, ratio in ratios.items() if name.startswith(PACKED)}
    best = min(packed, key=packed.__getitem__, default="")
    over_packed = packed.get(best)
    name = "step" if given.shape == "beauty" else f"step-{given.shape}"
    name = f"{name}-{jax.default_backend()}-{given.mlp.replace(',', '-')}.json"
    path = record.place(given, name)
    if path is not None:
        result = {
            "benchmark": "step",
            **record.mark(given),
            "date": time.strftime("%Y-%m-%d"),
            "machine": measured_on,
            "sizes": _sizes(work, given),
            "parity": parity,
            "project": least,
            "cores_used_by_others": others,
            "steps": figures,
            "growth": growth,
            "speed_up": {
                "over_packed_pytorch": over_packed,
                "over_pytorch": over_torch,
                "over_plain_jax": over_jax,
            },
        }
        record.save(path, result)
        print(f"written to {path}")
    if given.quick:
        print(record.NOISE)
    noise = " (noise)" if given.quick else ""
    share = least["seconds"] / figures[0]["seconds_per_step"]
    print(f"projection of the texts at the device's limit: {share:.0%} of our step{noise}")
    print(
        f"speed-up over the best packed rival: {_times(over_packed)}{f' ({best})' if best else ''}, over padded pytorch: "
        f"{_times(over_torch)}, over padded plain jax: {_times(over_jax)}{noise}"
    )


def needed(work: Work, given: argparse.Namespace) -> dict[str, Any]:
    """What the projection of a step's texts needs, the device's highest rates, and the seconds that it takes at these."""
    sizes, most = sizes_of(given), limits(given.quick)
    in_table = work.ours.model.projection == "table"
    counted = count_project(sizes, work.split.log.num_items if in_table else work.ours.num_ids)
    seconds = least_seconds(counted, most, sizes.table_dtype)
    return {**counted, "limits": most._asdict(), "seconds": seconds}


def _times(ratio: float | None) -> str:
    return "not measured" if ratio is None else f"{ratio:.1f}x"


def _described(work: Work, given: argparse.Namespace) -> str:
    """The work in a sentence."""
    log, packing = work.split.log, work.ours.data.packing
    return (
        f"{log.name}: {log.num_users} users, {log.num_items} items; a step is {packing.batch_size} users, {work.tokens:.0f} real tokens on "
        f"average, packed in {packing.num_rows} rows of {packing.row_length}, padded {work.padded_rows} x {given.max_length}; "
        f"E={given.width}, tables in {SHAPES[given.shape].table_dtype}, D={given.features}, "
        f"MLP {tuple(work.config.model.mlp)}, {jax.devices()[0].device_kind}"
    )


def _sizes(work: Work, given: argparse.Namespace) -> dict[str, Any]:
    """The work in numbers."""
    log, packing = work.split.log, work.ours.data.packing
    return {
        **{
            name: getattr(given, name)
            for name in ("batch_size", "width", "max_length", "features", "mlp", "rounds")
        },
        "table_dtype": SHAPES[given.shape].table_dtype,
        "steps_per_dispatch": work.ours.steps,
        "data": log.name,
        "users": log.num_users,
        "items": log.num_items,
        "tokens_per_step": work.tokens,
        "packed_rows": packing.num_rows,
        "packed_row_length": packing.row_length,
        "projection": work.ours.model.projection,
        "dropout": DROPOUT,
    }


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("step", __doc__)
    helps = {
        "batch_size": "B, users of a step",
        "width": "E, width of the text embeddings",
        "max_length": "L, history length that the rivals pad to",
        "features": "D, width of the backbone",
        "rounds": "interleaved rounds",
        "steps": "steps of ours in one dispatch",
    }
    for name, about in helps.items():
        parser.add_argument(f"--{name}", type=int, help=about)
    parser.add_argument(
        "--mlp", default="256", help="hidden layers of the MLP, comma separated, or 'linear'"
    )
    parser.add_argument(
        "--data",
        help="folder with inter.txt; without it the paper's Beauty, or synthetic lengths like its own",
    )
    parser.add_argument(
        "--shape",
        default="beauty",
        choices=SHAPES,
        help="data set whose sizes and lengths are used",
    )
    parser.add_argument(
        "--forms",
        default=None,
        help=f"other forms of ours to time, joined by '+', of: {'; '.join(FORMS)}; or all. By default all on a GPU, and none elsewhere, "
        "where kernels are interpreted",
    )
    parser.add_argument(
        "--rivals",
        choices=("all", "installed"),
        default="all",
        help="all: without PyTorch nothing is measured; installed: its rows are left out",
    )
    given = parser.parse_args(arguments)
    on_gpu = jax.default_backend() == "gpu"
    wanted = ("all" if on_gpu else "") if given.forms is None else given.forms
    given.forms = list(FORMS) if wanted == "all" else wanted.split("+") if wanted else []
    if unknown := [title for title in given.forms if title not in FORMS]:
        raise UserError(f"--forms: {unknown[0]!r}; expected all, or some of {'; '.join(FORMS)}")
    given.padded = given.shape == "beauty"
    shape, steps = SHAPES[given.shape]._asdict(), STEPS["gpu" if on_gpu else "cpu"]
    usual = {**{name: shape.get(name) for name in helps}, "rounds": ROUNDS, "steps": steps}
    for name, value in (QUICK if given.quick else usual).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
        if getattr(given, name) < 1:
            raise UserError(f"--{name}={getattr(given, name)}; expected a whole number from 1")
    return given


def _figures(step: Any, seconds: list[float], tokens: float) -> dict[str, Any]:
    """Medians and spread of one implementation."""
    median = float(np.median(seconds))
    return {
        "name": step.name,
        "seconds_per_step": median,
        "p10": float(np.percentile(seconds, 10)),
        "p90": float(np.percentile(seconds, 90)),
        "rounds": seconds,
        "tokens_per_second": tokens / median,
        "peak_memory_bytes": step.memory_bytes,
        "compile_seconds": step.compile_seconds,
    }


def _print_tables(figures: list[dict[str, Any]], growth: list[dict[str, Any]]) -> None:
    header = (
        "one training step",
        "median ms",
        "p10 ms",
        "p90 ms",
        "real tokens/s",
        "peak memory MB",
        "compile s",
    )
    rows = [
        (
            row["name"],
            *(f"{1e3 * row[key]:.2f}" for key in ("seconds_per_step", "p10", "p90")),
            f"{row['tokens_per_second']:,.0f}",
            "unknown"
            if row["peak_memory_bytes"] is None
            else f"{row['peak_memory_bytes'] / 1e6:,.0f}",
            f"{row['compile_seconds']:.1f}" if row["compile_seconds"] else "-",
        )
        for row in figures
    ]
    print("\n" + record.table(header, rows))
    print(
        "Peak memory, frozen tables apart. JAX: arguments and temporaries of the compiled function. PyTorch: growth of the process's"
    )
    print("resident memory to the peak of its first step (on a GPU: of the allocator).\n")
    columns = (
        "one epoch of ours, users",
        "steps",
        "tokens",
        "seconds",
        "seconds per million tokens",
        "compile s",
    )
    lines = [
        (
            f"{row['users']:,}",
            str(row["steps"]),
            f"{row['tokens']:,}",
            f"{row['seconds']:.2f}",
            f"{row['seconds_per_million_tokens']:.2f}",
            f"{row['compile_seconds']:.1f}",
        )
        for row in growth
    ]
    if lines:
        print(record.table(columns, lines) + "\n")


if __name__ == "__main__":
    record.run(main)
