"""A training step: against rivals, and where its time goes."""

from typing import Any

from benchmarks.limits import Limits
from benchmarks.project import least_seconds, shares_of_limit
from benchmarks.record import machine_line
from benchmarks.sections.words import percent
from grasp_jax.report.tables import ReportTable

OPERATIONS = "profile_top"  # name of the tables that stand at the end of the page
MOST = 10  # operations in each of them; the record has more


def step(record: dict[str, Any]) -> list[ReportTable]:
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
        f"`python -m benchmarks.step`: forward pass, backward pass and update for {sizes['batch_size']} users of {sizes['data']}, "
        f"E={sizes['width']}, tables in {sizes.get('table_dtype', 'float32')}, L={sizes['max_length']}, D={sizes['features']}, "
        f"MLP {sizes['mlp']}, in rounds in which the programs take turns. Their losses on the first batch agree within "
        f"{record['parity']['largest_difference']:.0e}{_rounded(record['parity'])}. Memory does not include the frozen tables."
        f"{_project(record)}\n\n{machine_line(record)}"
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
    by_users = ["users", "steps", "tokens", "an epoch, s", "s per million tokens"]
    title = f"A training step of GRASP-SASRec, E={sizes['width']}"
    tables = [ReportTable("step", title, header, body, note)]
    if growth:
        tables.append(
            ReportTable(
                "step_growth",
                "An epoch of GRASP-SASRec by the number of users",
                by_users,
                growth,
                "From the same run as the table above. The last column is nearly constant, so time grows with the tokens.",
            )
        )
    return tables


def profile(record: dict[str, Any]) -> list[ReportTable]:
    """Where a step's time goes: shares of the stages, and the longest operations of each model."""
    sizes, models, most = record["sizes"], record["models"], record["limits"]
    where = f"E={sizes['width']}, {_device(record)}"
    note = (
        f"`python -m benchmarks.profile`: shares of the busy time, forward pass + backward pass, on {sizes['data']}; "
        f"B={sizes['batch_size']}, E={sizes['width']}, L={sizes['max_length']}, D={sizes['features']}, MLP {sizes['hidden']}. "
        "The device's limits, measured in "
        f"the same run: {most['flops']['float32'] / 1e9:,.0f} GFLOP/s in float32, {most['flops']['bfloat16'] / 1e9:,.0f} in bfloat16, "
        f"{most['bytes_per_second'] / 1e9:,.1f} GB/s for {_copies(most)}.\n\n{machine_line(record)}"
    )
    body = _shares(models) + _times(models) + _counts(record)
    header = ["stage", *(model["model"] for model in models)]
    return [
        ReportTable(
            "profile", f"Where the time of a training step goes, {where}", header, body, note
        ),
        *(_longest(model, where) for model in models),
    ]


def _copies(most: dict[str, Any]) -> str:
    """What the rate of a pass over memory is of."""
    return "passes over memory" if most.get("in_place") else "copies into new memory"


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
    """Milliseconds of a step, and the time that belongs to no stage."""
    milliseconds = {
        "a step, ms": "seconds_per_step",
        "a step with the profiler on, ms": "traced_seconds_per_step",
        "busy time of a profiled step, ms": "busy_seconds_per_step",
    }
    lines = [
        [title, *(f"{1e3 * model[key]:.2f}" for model in models)]
        for title, key in milliseconds.items()
    ]
    lines.append(
        [
            "share whose stage is that of a neighbouring operation",
            *(f"{model['attributed']['by_neighbour']:.1%}" for model in models),
        ]
    )
    lines.append(["share without a stage", *(f"{model['unattributed']:.1%}" for model in models)])
    if "operations_per_step" in models[0]:
        lines.append(
            ["operations per step", *(f"{model['operations_per_step']:,.0f}" for model in models)]
        )
    return lines


def _rounded(parity: dict[str, Any]) -> str:
    """How far those are off that round factors to bfloat16, if there are any."""
    off = parity.get("largest_difference_of_rounded")
    return f" (with products in bfloat16 within {off:.0e})" if off else ""


def _project(record: dict[str, Any]) -> str:
    """The share of our step that its products with text vectors need at the device's limit, if the run measured that."""
    if "project" not in record:
        return ""
    share = record["project"]["seconds"] / record["steps"][0]["seconds_per_step"]
    return f" The products with text vectors need {share:.0%} of our step at the device's limit."


def _counts(record: dict[str, Any]) -> list[list[str]]:
    """Floating-point operations, and how close the projection is to the device's limit for the type of the tables."""
    models, most = record["models"], Limits(**record["limits"])
    dtype = record["sizes"].get("table_dtype", "float32")
    projects = [model.get("project") for model in models]
    least = [least_seconds(own, most, dtype) if own else None for own in projects]
    of_stage = ["-" if share is None else f"{share:.0%}" for share in shares_of_limit(record)]
    of_step = [
        "-" if need is None else f"{need / model['seconds_per_step']:.1%}"
        for need, model in zip(least, models, strict=True)
    ]
    return [
        [
            "GFLOP of the stage project, counted by hand",
            *(f"{own['flops'] / 1e9:.2f}" if own else "-" for own in projects),
        ],
        [f"stage project: share of the device's limit in {dtype}", *of_stage],
        ["stage project at the device's limit: share of the step", *of_step],
    ]


def _device(record: dict[str, Any]) -> str:
    """ "CPU", or the name of the GPU without its memory size."""
    machine = record["machine"]
    return " ".join(machine["device"].split()[:2]) if machine["backend"] == "gpu" else "CPU"


def _longest(model: dict[str, Any], where: str) -> ReportTable:
    """The longest operations of a model."""
    header = ["operation", "kind", "stage", "runs per step", "ms per step", "share"]
    operations = model["operations"][:MOST]
    body = [
        [
            row["name"],
            "matrix product" if row["product"] else row["opcode"],
            row["stage"] + (" (backward)" if row["backward"] else ""),
            f"{row['times_a_step']:g}",
            f"{1e3 * row['seconds_per_step']:.3f}",
            f"{row['share']:.1%}",
        ]
        for row in operations
    ]
    shares = [row["share"] for row in operations]
    note = f"The longest takes {percent(shares[0])} of the busy time, all {len(shares)} together {percent(sum(shares))}."
    title = f"The longest operations of {model['model']}, {where}"
    return ReportTable(OPERATIONS, title, header, body, note)
