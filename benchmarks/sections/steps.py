"""A training step: against rivals, and where its time goes."""

import math
from typing import Any

from benchmarks.record import machine_line
from grasp_jax.report.tables import Table


def step(record: dict[str, Any]) -> list[Table]:
    """Ours against the same function in plain JAX and PyTorch, and its growth."""
    sizes, figures = record["sizes"], record["steps"]
    body = [
        [
            row["name"],
            *(f"{1e3 * row[key]:,.2f}" for key in ("seconds_per_step", "p10", "p90")),
            f"{row['seconds_per_step'] / figures[0]['seconds_per_step']:.1f}",
            f"{row['tokens_per_second']:,.0f}",
            "unknown"
            if row["peak_memory_bytes"] is None
            else f"{row['peak_memory_bytes'] / 2**20:,.0f}",
            f"{row['compile_seconds']:.1f}",
        ]
        for row in figures
    ]
    note = (
        f"`python -m benchmarks.step`: forward, backward and update of {sizes['batch_size']} users of {sizes['data']}, E={sizes['width']}, "
        f"L={sizes['max_length']}, D={sizes['features']}, MLP {sizes['mlp']}, in interleaved rounds; losses of the first batch within "
        f"{record['parity']['largest_difference']:.0e}. Memory apart from the frozen tables. {machine_line(record)}"
    )
    header = [
        "implementation",
        "median, ms",
        "p10, ms",
        "p90, ms",
        "times as long as ours",
        "real tokens/s",
        "memory, MiB",
        "compile, s",
    ]
    growth = [
        [
            f"{row['users']:,}",
            f"{row['steps']:,}",
            f"{row['tokens']:,}",
            f"{row['seconds']:.2f}",
            f"{row['seconds_per_million_tokens']:.1f}",
        ]
        for row in record["growth"]
    ]
    by_users = ["users", "steps", "tokens", "s", "s a million tokens"]
    tables = [Table("step", "A training step of GRASP-SASRec", header, body, note)]
    if growth:
        tables.append(
            Table(
                "step_growth",
                "Its epoch by the number of users",
                by_users,
                growth,
                "Of the same run.",
            )
        )
    return tables


def profile(record: dict[str, Any]) -> list[Table]:
    """Where a step's time goes: shares of the stages, and the longest operations of each model."""
    sizes, models, most = record["sizes"], record["models"], record["limits"]
    note = (
        f"`python -m benchmarks.profile`: shares of the busy time, forward + backward, on {sizes['data']}; B={sizes['batch_size']}, "
        f"E={sizes['width']}, L={sizes['max_length']}, D={sizes['features']}, MLP {sizes['hidden']}. Limits measured in the same run: "
        f"{most['flops']['float32'] / 1e9:,.0f} GFLOP/s in float32, {most['flops']['bfloat16'] / 1e9:,.0f} in bfloat16, "
        f"{most['bytes_per_second'] / 1e9:,.1f} GB/s copied. {machine_line(record)}"
    )
    body = _shares(models) + _times(models) + _counts(models)
    header = ["stage", *(model["model"] for model in models)]
    return [
        Table("profile", "Where a training step's time goes", header, body, note),
        *map(_longest, models),
    ]


def _shares(models: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each stage."""
    lines = []
    for stage in dict.fromkeys(row["stage"] for row in models[0]["stages"]):
        shares = [
            {row["backward"]: row["share"] for row in model["stages"] if row["stage"] == stage}
            for model in models
        ]
        lines.append([stage, *(f"{own[False]:.1%} + {own[True]:.1%}" for own in shares)])
    return lines


def _times(models: list[dict[str, Any]]) -> list[list[str]]:
    """Milliseconds of a step, and what time has no stage of its own."""
    milliseconds = {
        "a step, ms": "seconds_per_step",
        "a step under the profiler, ms": "traced_seconds_per_step",
        "busy time of such a step, ms": "busy_seconds_per_step",
    }
    lines = [
        [title, *(f"{1e3 * model[key]:.2f}" for model in models)]
        for title, key in milliseconds.items()
    ]
    lines.append(
        [
            "stage taken from the neighbouring operation",
            *(f"{model['attributed']['by_neighbour']:.1%}" for model in models),
        ]
    )
    lines.append(["unattributed", *(f"{model['unattributed']:.1%}" for model in models)])
    if "operations_per_step" in models[0]:
        lines.append(["operations", *(f"{model['operations_per_step']:,.0f}" for model in models)])
    return lines


def _counts(models: list[dict[str, Any]]) -> list[list[str]]:
    """Floating-point operations, and how near the projection is to the device's limit."""
    projects = [model.get("project") for model in models]
    least = [
        own["share_of_limit"] * own["seconds_per_step"] / model["seconds_per_step"] if own else None
        for own, model in zip(projects, models, strict=True)
    ]
    return [
        [
            "GFLOP by XLA's count",
            *(f"{model['xla_counts'].get('flops', math.nan) / 1e9:.2f}" for model in models),
        ],
        [
            "GFLOP of project, counted",
            *(f"{own['flops'] / 1e9:.2f}" if own else "-" for own in projects),
        ],
        [
            "project: share of the limit",
            *(f"{own['share_of_limit']:.0%}" if own else "-" for own in projects),
        ],
        [
            "project's least time: share of the step",
            *("-" if own is None else f"{own:.1%}" for own in least),
        ],
    ]


def _longest(model: dict[str, Any]) -> Table:
    """The longest operations of a model."""
    header = ["operation", "kind", "stage", "times a step", "ms a step", "share"]
    body = [
        [
            row["name"],
            "matrix product" if row["product"] else row["opcode"],
            row["stage"] + (" (backward)" if row["backward"] else ""),
            f"{row['times_a_step']:g}",
            f"{1e3 * row['seconds_per_step']:.3f}",
            f"{row['share']:.1%}",
        ]
        for row in model["operations"]
    ]
    return Table(
        "profile_top",
        f"The longest operations of {model['model']}",
        header,
        body,
        "Of the same run.",
    )
