"""Many models trained at once, by one step over all of them, against one after another: where does the device fill?

    python -m benchmarks.models_at_once [--models=plain-sasrec,grasp-sasrec] [--most=64] [--quick] [--out=JSON]

Models differ in seed and learning rate. The step of k models is timed in turn with that of one, which is the rival: one after another, k
models take k times as long. Before anything is timed, a model's losses beside the others must be those that it has alone, far nearer
than another model's. The curve ends at the largest count whose step, as XLA has compiled it, fits the memory.
"""

import argparse
import functools
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.arguments import names_of
from benchmarks.factorised import DROPOUT, FactorisedStep
from benchmarks.lengths import log_to_time
from benchmarks.record import Contention, keep, run, table
from benchmarks.workload import LEARNING_RATE, QUICK, Sizes, built, config_of, device_memory, random_tables, training_data
from grasp_jax.data.split import leave_one_out
from grasp_jax.errors import UserError
from grasp_jax.models.methods import METHODS
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.loop import initial_snapshot
from grasp_jax.training.members import Member, of_members

MODELS = ("plain-sasrec", "grasp-sasrec", "plain-gru4rec", "grasp-gru4rec")
COUNTS, QUICK_COUNTS = (1, 2, 3, 4, 8, 16, 32, 64), (1, 3)
SEEDS, LEARNING_RATES = 16, (LEARNING_RATE, 3e-4, 3e-3, 1e-2)
STEPS, QUICK_STEPS = {"cpu": 8, "gpu": 64}, 4  # of a dispatch
ROUNDS = 3
PARITY_STEPS, PARITY_LIMIT = 4, 0.1  # of how far another model is; where a gradient is rounding alone, Adam still moves by its rate
MEMORY_SHARE = 0.9  # the rest is for what was there before
NEAR_LEAST = 1.1  # times the least seconds a model; with fewer models than reach this, the device has room
Build = Callable[[Sequence[Member]], FactorisedStep]


def members_of(count: int) -> list[Member]:
    """The first of all pairs of seed and learning rate, in an order in which both change from one to the next."""
    rates = len(LEARNING_RATES)
    return [Member(k % SEEDS, DROPOUT, LEARNING_RATES[(k + k // SEEDS) % rates]) for k in range(count)]


def needed_bytes(compiled: Any) -> int:
    """All that a compiled function holds while it runs; 0 where the device does not tell."""
    memory = compiled.memory_analysis()
    if memory is None:
        return 0
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return held + memory.temp_size_in_bytes


def losses_alone(alone: FactorisedStep, member: Member) -> np.ndarray:
    """[S] losses of another model from its start, by the step of one model, whose own state stays as it is."""
    slots = jnp.asarray(make_epoch(alone.data, [member], 0).slots[:, : alone.steps])
    state, own = initial_snapshot(alone.model, [member], alone.data).state, of_members([member])
    given = alone.data.device, alone.data.tables, slots, own.keys, jnp.int32(0), own.dropout, own.learning_rate
    return np.asarray(alone.compiled(state, *given)[1][:, 0])


def time_in_turn(alone: FactorisedStep, together: FactorisedStep) -> dict[str, list[float]]:
    """Seconds per step of both, `ROUNDS` times."""
    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    with timing.alone():
        for _ in range(ROUNDS):
            seconds["alone"].append(alone.run())
            seconds["together"].append(together.run())
    return seconds


def measure(alone: FactorisedStep, together: FactorisedStep) -> dict[str, Any]:
    """One point of the curve; the warm-up's losses are those that are compared.

    Raises:
      UserError: a model beside others is not the model that it is alone.
    """
    count = len(together.members)
    together.run()
    assert together.losses is not None
    own, other = (losses_alone(alone, member)[:PARITY_STEPS] for member in members_of(count + 1)[-2:])
    difference, apart = (float(np.abs(losses / own - 1).max()) for losses in (np.asarray(together.losses)[:PARITY_STEPS, -1], other))
    if not difference <= PARITY_LIMIT * apart:  # also where it is not a number
        raise UserError(
            f"the last of {count} models has losses {difference:.1e} from its own alone, and another model's are {apart:.1e} from them, "
            "so times cannot be compared"
        )
    rounds = time_in_turn(alone, together)
    seconds = {name: statistics.median(own) for name, own in rounds.items()}
    return {
        "count": count,
        "seconds_per_step": seconds["together"],
        "seconds_per_model": seconds["together"] / count,
        "seconds_alone": seconds["alone"],
        "over_one": seconds["together"] / seconds["alone"],
        "over_one_after_another": seconds["together"] / (count * seconds["alone"]),
        "memory_bytes": together.memory_bytes,
        "needed_bytes": needed_bytes(together.compiled),
        "compile_seconds": together.compile_seconds,
        "largest_difference": difference,
        "difference_of_another_model": apart,
        "rounds": rounds,
    }


def curve(build: Build, counts: Sequence[int]) -> tuple[list[dict[str, Any]], dict[str, int] | None]:
    """A point for each count that fits; and the first that does not, with what it needs and what there is.

    Args:
      build: compiles the step of some models.
      counts: ascending, from 1.

    Raises:
      UserError: not even one model fits, or see `measure`.
    """
    of = built({count: functools.partial(build, members_of(count)) for count in (1, *counts)})
    alone = of(1)
    points: list[dict[str, Any]] = []
    for count in counts:
        together = alone if count == 1 else of(count)
        needed, there = needed_bytes(together.compiled), device_memory()
        if needed > MEMORY_SHARE * there:
            if not points:
                raise UserError(f"one model needs {needed / 1e9:.1f} GB of {there / 1e9:.1f}; the benchmark wants a larger device")
            return points, {"count": count, "needed_bytes": needed, "device_bytes": there}
        points.append(measure(alone, together))
        print(f"at once {count}: {1e3 * points[-1]['seconds_per_step']:.1f} ms a step", flush=True)
    return points, None


def fills_at(points: Sequence[dict[str, Any]]) -> int | None:
    """The fewest models with which a model costs about the least that it ever does; None where that still falls at the last point."""
    least = min(point["seconds_per_model"] for point in points)
    count = next(point["count"] for point in points if point["seconds_per_model"] <= NEAR_LEAST * least)
    return None if count == points[-1]["count"] else count


def show(outcome: dict[str, Any]) -> str:
    """What a reader at the terminal wants to see."""
    rows = [
        [
            str(own["count"]), f"{1e3 * own['seconds_per_step']:.2f}", f"{1e3 * own['seconds_per_model']:.2f}", f"{own['over_one']:.2f}",
            f"{own['over_one_after_another']:.2f}", "unknown" if own["memory_bytes"] is None else f"{own['memory_bytes'] / 2**20:,.1f}",
            f"{own['compile_seconds']:.1f}",
        ]
        for own in outcome["points"]
    ]  # fmt: skip
    header = [outcome["model"], "ms a step", "ms a model", "over one model", "over one after another", "memory MiB", "compile s"]
    full = outcome["fills_at"]
    said = f"a model costs about its least from {full} at once on" if full else "a model's cost still falls at the last point"
    lines = [table(header, rows), said]
    if stopped := outcome["stopped"]:
        needed, there = stopped["needed_bytes"] / 1e9, stopped["device_bytes"] / 1e9
        lines.append(f"{stopped['count']} models need {needed:.1f} GB of {there:.1f} and were not run")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Times each model, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default=",".join(MODELS[:2]), help=f"comma separated, of {', '.join(MODELS)}")
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="models at once, at most")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes nothing unless --out is given")
    parser.add_argument("--out", type=pathlib.Path, default=None)
    given = parser.parse_args(arguments)
    models = names_of(parser, "--models", given.models, MODELS)
    counts = [count for count in (QUICK_COUNTS if given.quick else COUNTS) if count <= given.most]
    if not counts:
        parser.error(f"--most: {given.most}; expected a number from 1")
    sizes = QUICK if given.quick else Sizes()
    steps = QUICK_STEPS if given.quick else STEPS["cpu" if jax.default_backend() == "cpu" else "gpu"]
    contention, log = Contention(), log_to_time(given.quick)
    split, outcomes = leave_one_out(log, sizes.max_length), []
    for name in models:
        method, backbone = name.split("-")
        data = training_data(split, random_tables(log, sizes.width) if METHODS[method].needs_bank else {}, sizes.batch_size)
        points, stopped = curve(functools.partial(FactorisedStep, config_of(sizes), split, data, steps, method, backbone), counts)
        outcomes.append({"model": name, "points": points, "fills_at": fills_at(points), "stopped": stopped})
        print(show(outcomes[-1]), flush=True)
    facts = {**sizes._asdict(), "steps_per_dispatch": steps, "data": log.name, "users": log.num_users, "items": log.num_items}
    keep("models", {"sizes": facts, "models": outcomes}, contention, given.out, given.quick)


if __name__ == "__main__":
    run(main)
