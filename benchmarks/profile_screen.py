"""What `benchmarks.profile` prints of a model: on one screen, where the time goes, what the machine would allow, and what to do."""

from collections.abc import Mapping
from typing import Any

from benchmarks.limits import Limits
from benchmarks.record import table
from benchmarks.roofline import MEMORY, PRODUCTS, Bound, Cost, bound

Record = dict[str, Any]
BUSY = 0.1  # of the cores used by other programs, from which times are doubtful
NEAR = 0.7  # of a limit, from which a stage counts as limited by it
ABOVE = 1.05  # of a limit, from which it is told how that can be
UNNAMED = 0.05  # share of time of operations without a name, from which it is told
LONGEST = 5  # operations that are shown

ADVICE = {
    PRODUCTS: "only fewer or cheaper products help: narrower text vectors, a smaller model.mlp or model.features, or bfloat16",
    MEMORY: "only fewer bytes help: narrower vectors, or a type of 16 bits (model.table_dtype)",
}


def screen(facts: Record, outcome: Record, others: float | None) -> str:
    """The results of one model.

    Args:
      facts: "sizes", "limits" and "machine", as in the record.
      outcome: of `profile.profile_model`.
      others: cores that other programs used meanwhile; None if that is not known.
    """
    sizes, about, most = facts["sizes"], facts["machine"], Limits(**facts["limits"])
    rows = _stages(outcome, most, sizes["table_dtype"])
    return "\n".join(
        [
            f"{outcome['model']}: B={sizes['batch_size']}, E={sizes['width']}, L={sizes['max_length']}, D={sizes['features']}, "
            f"H={sizes['hidden']}, tables in {sizes['table_dtype']}; {sizes['data']}, {sizes['users']:,} users, {sizes['items']:,} items",
            f"{about['cores']} cores of {about['cpu']}, {about['device']}, jax {about['versions']['jax']}; measured limits: "
            f"{_rate(most.flops['float32'])} GFLOP/s in float32, {_rate(most.flops['bfloat16'])} in bfloat16 (matrix products), "
            f"{_rate(most.bytes_per_second)} GB/s (a pass over memory)",
            _load(about["cores"], others),
            f"a step takes {_ms(outcome['seconds_per_step'])} ms; with the profiler {_ms(outcome['traced_seconds_per_step'])}, of which "
            f"{_ms(outcome['idle_seconds_per_step'])} without any operation; {outcome['operations_per_step']:,.0f} operations a step",
            "",
            table(
                [
                    "stage",
                    "forward, ms",
                    "backward, ms",
                    "share",
                    "GFLOP",
                    "MB",
                    "limit allows, ms",
                    "limited by",
                    "of limit",
                ],
                [_cells(name, row, outcome["busy_seconds_per_step"]) for name, row in rows.items()],
            ),
            *_unnamed(outcome),
            *_above(rows),
            "",
            table(
                ["longest operations", "stage", "runs a step", "ms a step", "share"],
                [_operation(row) for row in outcome["operations"][:LONGEST]],
            ),
            "",
            *advice(rows, outcome, others, about["cores"]),
        ]
    )


class _Stage:
    """Seconds of a stage, forward and backward, its number of operations, its cost, and what the limits allow."""

    def __init__(self) -> None:
        self.forward = self.backward = self.operations = 0.0
        self.cost, self.bound = Cost(), Bound(0.0, PRODUCTS)

    @property
    def seconds(self) -> float:
        return self.forward + self.backward

    @property
    def of_limit(self) -> float:
        return self.bound.seconds / self.seconds


def _stages(outcome: Record, most: Limits, dtype: str) -> dict[str, _Stage]:
    """By name; stages that take no time are left out."""
    found: dict[str, _Stage] = {}
    for row in outcome["stages"]:
        own = found.setdefault(row["stage"], _Stage())
        seconds = row["share"] * outcome["busy_seconds_per_step"]
        if row["backward"]:
            own.backward += seconds
        else:
            own.forward += seconds
        own.operations += row["operations"]
        own.cost = Cost(own.cost.flops + row["flops"], own.cost.bytes + row["bytes"])
    for own in found.values():
        own.bound = bound(own.cost, most, dtype)
    return {name: own for name, own in found.items() if own.seconds}


def _cells(name: str, own: _Stage, busy: float) -> list[str]:
    return [
        name,
        _ms(own.forward),
        _ms(own.backward),
        f"{own.seconds / busy:.0%}",
        f"{own.cost.flops / 1e9:.2f}",
        f"{own.cost.bytes / 1e6:,.1f}",
        _ms(own.bound.seconds),
        own.bound.limit,
        f"{own.of_limit:.0%}",
    ]


def _operation(row: Mapping[str, Any]) -> list[str]:
    """One of the longest operations, by its kind: XLA's name of it is in the record."""
    return [
        "matrix product" if row["product"] else row["opcode"],
        row["stage"] + (" (backward)" if row["backward"] else ""),
        f"{row['times_a_step']:g}",
        _ms(row["seconds_per_step"]),
        f"{row['share']:.0%}",
    ]


def _load(cores: int, others: float | None) -> str:
    if others is None:
        return "cores used by other programs meanwhile: unknown"
    said = f"cores used by other programs meanwhile: {others:.1f} of {cores}"
    if others < BUSY * cores:
        return said
    return f"{said}. So the times and the measured limits below are those of a busy machine: repeat this when it is idle."


def _unnamed(outcome: Record) -> list[str]:
    share = outcome["attributed"]["by_neighbour"]
    if share < UNNAMED:
        return []
    return [
        f"({share:.0%} of the time is of operations that XLA left without a name; they count to the stage of what reads their results.)"
    ]


def _above(rows: Mapping[str, _Stage]) -> list[str]:
    if max(own.of_limit for own in rows.values()) <= ABOVE:
        return []
    return [
        "(More than 100% of a limit: data stayed in caches, or the machine was busier while the limit was measured.)"
    ]


def advice(
    rows: Mapping[str, _Stage], outcome: Record, others: float | None, cores: int
) -> list[str]:
    """What would make the step faster, by the largest stage and by all stages together."""
    name, largest = max(rows.items(), key=lambda row: row[1].seconds)
    busy = outcome["busy_seconds_per_step"]
    least = sum(min(own.bound.seconds, own.seconds) for own in rows.values())
    said = (
        f"What would make the step faster: {name} takes most of it, {largest.seconds / busy:.0%}, and runs at {largest.of_limit:.0%} of "
        f"the limit ({largest.bound.limit})"
    )
    if largest.of_limit >= NEAR:
        said += f"; {ADVICE[largest.bound.limit]}."
    else:
        mean = 1e6 * largest.seconds / max(largest.operations, 1e-9)
        said += (
            f", in {largest.operations:,.0f} operations of {mean:,.1f} microseconds on average; fewer and longer ones help: a larger "
            "batch, several seeds or dropouts in one run, or fused layers on a GPU (kernels=backbone)."
        )
    lines = [
        said,
        f"With every stage at its limit, {_ms(least)} of {_ms(busy)} ms would remain.",
    ]
    if others is not None and others >= BUSY * cores:
        lines.insert(0, "First of all an idle machine: other programs took part of this one.")
    return lines


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def _rate(per_second: float) -> str:
    return f"{per_second / 1e9:,.3g}" if per_second < 1e12 else f"{per_second / 1e9:,.0f}"
