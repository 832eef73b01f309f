"""Where the time of a training step goes: python -m benchmarks.profile [--models=grasp-sasrec,plain-gru4rec] [--quick] [--out=JSON]

One dispatch of many steps, as training makes it, is run under JAX's profiler, at the shape of paper Beauty or Industry-100K. The time of
each operation of the compiled function is added to its stage:

    gather    drawing the packed batch and negatives, reading rows of the frozen tables and of the ID table
    gate      pair logits of negatives, gates, the gated sums and the MLP after them
    project   the matrix products of the E-wide rows
    backbone  sequence model, its dropout included
    loss      scores and loss
    update    Adam
    other     everything without a stage: loops, random keys, operations that XLA has added

The time of an operation is counted from its beginning to its end. If several operations run at once, on several threads of a CPU, each gets
an equal part of that time. So the times add up to the time in which the device was busy. The record also has the idle time, the time of a
dispatch with and without the profiler, and for each stage the operations and bytes that its instructions need (`benchmarks.roofline`). What
is printed compares them with the measured limits of this machine (`benchmarks.profile_screen`). On a GPU the profiled function launches its
operations one by one, while XLA otherwise groups them in graphs. So the idle time is longer under the profiler, and the time of a step is
measured without it.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import trace
from benchmarks.arguments import names_of, parser_of
from benchmarks.factorised import FactorisedStep
from benchmarks.lengths import log_to_time
from benchmarks.limits import Limits, limits
from benchmarks.profile_screen import screen
from benchmarks.project import count_project, least_seconds
from benchmarks.record import Contention, keep, run
from benchmarks.roofline import Cost, Costs
from benchmarks.sections.meaning import profile as profile_meaning
from benchmarks.timing import only_compiles
from benchmarks.workload import QUICK, SHAPES, Sizes, config_of, random_tables, training_of
from grasp_jax.core.errors import UserError
from grasp_jax.core.machine import machine
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.models.batch import Tables
from grasp_jax.models.methods import METHODS

MODELS = (
    "grasp-sasrec",
    "plain-sasrec",
    "plain-gru4rec",
    "grasp-gru4rec",
    "grasp-sasrec-backbone",
    "plain-sasrec-backbone",
)
TOP = 15
UNTRACED = 3  # dispatches without the profiler
TRACED_STEPS = 64  # steps of the profiled function, if that is a separate one
# a GPU's profiler sees no operation inside a graph that is launched as one
ONE_BY_ONE = {"xla_gpu_graph_min_graph_size": 1_000_000}


def profile_model(
    name: str, split: Split, tables: Tables, sizes: Sizes, steps: int, most: Limits
) -> dict[str, Any]:
    """Traces one dispatch of the model "METHOD-BACKBONE", or "METHOD-BACKBONE-KERNELS" with another `config.kernels`.

    Raises:
      UserError: the profiler recorded no operation of it.
    """
    method, backbone, kernels = (*name.split("-"), "auto")[:3]
    config = config_of(sizes).with_fields({"kernels": kernels})
    training = training_of(config, split, tables, method, backbone)
    step = FactorisedStep(training, steps)
    watched = step
    if jax.default_backend() == "gpu":
        watched = FactorisedStep(training, min(steps, TRACED_STEPS), ONE_BY_ONE)
    text = watched.compiled.as_text() or ""
    module = trace.Module(text)
    traced: list[float] = []
    step.run()
    untraced = [step.run() for _ in range(1 if only_compiles() else UNTRACED)]
    if watched is not step:
        watched.run()
    events = trace.record_events(lambda: traced.append(watched.run()), module.name)
    times, idle = trace.shared_time(events, module.containers)
    busy = sum(times.values())
    if not busy:
        raise UserError(f"the profiler says nothing of what {module.name} did on this device")
    stages: dict[tuple[str, bool], float] = collections.defaultdict(float)
    sources: dict[str, float] = collections.defaultdict(float)
    executions = collections.Counter(event.instruction for event in events)
    costs = Costs(text, module)
    counted: dict[tuple[str, bool], StageCount] = collections.defaultdict(StageCount)
    for instruction, nanoseconds in times.items():
        scope = module.scope(instruction)
        stages[scope.stage, scope.backward] += nanoseconds
        sources[scope.source] += nanoseconds
        each = executions[instruction] / watched.steps
        counted[scope.stage, scope.backward].add(costs.of(instruction), each)
    per_step = 1e-9 / watched.steps
    outcome = {
        "model": name,
        "steps": step.steps,
        "projection": step.model.projection,
        "seconds_per_step": float(np.median(untraced)),
        "traced_seconds_per_step": traced[0],
        "operations_per_step": len(events) / watched.steps,
        "busy_seconds_per_step": busy * per_step,
        "idle_seconds_per_step": idle * per_step,
        "stages": [
            {
                "stage": stage,
                "backward": backward,
                "share": stages[stage, backward] / busy,
                **dataclasses.asdict(counted[stage, backward]),
            }
            for stage in (*trace.STAGES, trace.OTHER)
            for backward in (False, True)
        ],
        "attributed": {
            "by_name": sources["name"] / busy,
            "by_neighbour": sources["neighbour"] / busy,
        },
        "unattributed": sources[""] / busy,
        "operations": _longest(module, times, executions, watched.steps),
    }
    if METHODS[method].needs_bank:
        seconds = sum(stages["project", backward] for backward in (False, True)) * per_step
        outcome["project"] = _project(step, split, sizes, seconds, most)
    return outcome


@dataclasses.dataclass
class StageCount:
    """Executions of instructions, operations of products, and bytes, of a stage in a step."""

    operations: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0

    def add(self, cost: Cost, times: float) -> None:
        """Adds an instruction that is executed so many times a step."""
        self.operations += times
        self.flops += times * cost.flops
        self.bytes += times * cost.bytes


def _longest(
    module: trace.Module, times: dict[str, float], executions: collections.Counter[str], steps: int
) -> list[dict[str, Any]]:
    """The operations that take the most time: nanoseconds in flight and executions of each, summed over the steps."""
    busy = sum(times.values())
    return [
        {
            "name": instruction,
            "opcode": module.instructions.get(instruction, trace.UNKNOWN).opcode,
            "product": instruction in module.instructions and module.is_product(instruction),
            "op_name": module.instructions.get(instruction, trace.UNKNOWN).op_name,
            **module.scope(instruction)._asdict(),
            "times_a_step": executions[instruction] / steps,
            "seconds_per_step": times[instruction] * 1e-9 / steps,
            "share": times[instruction] / busy,
        }
        for instruction in sorted(times, key=lambda instruction: -times[instruction])[:TOP]
    ]


def _project(
    step: FactorisedStep, split: Split, sizes: Sizes, seconds: float, most: Limits
) -> dict[str, Any]:
    """Operations and bytes of a step's projection, and the share of its time that the device would need at its highest rates."""
    rows = split.log.num_items if step.model.projection == "table" else step.num_ids
    counted = count_project(sizes, rows)
    least = least_seconds(counted, most, sizes.table_dtype)
    share = least / seconds if seconds else math.nan
    return {**counted, "rows": rows, "seconds_per_step": seconds, "share_of_limit": share}


def main(arguments: Sequence[str] | None = None) -> None:
    """Profiles each model, prints, and writes JSON."""
    parser = parser_of("profile", __doc__)
    parser.add_argument(
        "--models", default=MODELS[0], help=f"models, comma separated: some of {', '.join(MODELS)}"
    )
    parser.add_argument(
        "--shape",
        default="beauty",
        choices=SHAPES,
        help="data set whose sizes and lengths are used",
    )
    parser.add_argument(
        "--steps", type=int, default=0, help="steps of the dispatch; 0: 16 on a CPU, 512 elsewhere"
    )
    given = parser.parse_args(arguments)
    models = names_of(parser, "--models", given.models, MODELS)
    sizes = QUICK if given.quick else SHAPES[given.shape]
    steps = given.steps or (4 if given.quick else 16 if jax.default_backend() == "cpu" else 512)
    contention, most = Contention(), limits(given.quick)
    log = log_to_time(given.quick, given.shape, sizes.bytes_per_row)
    split = leave_one_out(log, sizes.max_length)
    sizes_facts = {
        **sizes._asdict(),
        "data": log.name,
        "users": log.num_users,
        "items": log.num_items,
    }
    facts: dict[str, Any] = {"sizes": sizes_facts, "limits": most._asdict()}
    about, outcomes = machine(), []
    for with_text in (True, False):
        wanted = [name for name in models if METHODS[name.split("-")[0]].needs_bank == with_text]
        if wanted:
            tables = random_tables(log, sizes.width, sizes.table_dtype) if with_text else {}
            for name in wanted:
                outcomes.append(profile_model(name, split, tables, sizes, steps, most))
                print(screen({"machine": about, **facts}, outcomes[-1], contention.cores()))
                print(flush=True)
    facts["models"] = outcomes
    keep(
        "profile" if given.shape == "beauty" else f"profile-{given.shape}",
        facts,
        contention,
        given,
        profile_meaning({"machine": about, **facts}),
    )


if __name__ == "__main__":
    run(main)
