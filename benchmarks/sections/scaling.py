"""How training scales over devices."""

from typing import Any

from benchmarks.record import machine_line
from benchmarks.scaling import PLANNED_DEVICE, planned, show
from grasp_jax.planning.step import limiting_part
from grasp_jax.report.tables import ReportTable


def scaling(record: dict[str, Any]) -> list[ReportTable]:
    """Strong and weak scaling as compiled, real processes, and what limits 32 devices, as planned."""
    sizes = record["sizes"]
    note = (
        f"`python -m benchmarks.scaling`: a step of GRASP on SASRec, {sizes['users']:,} users, {sizes['items']:,} items, "
        f"E={sizes['width']}, compiled for meshes (data x table) of {sizes['devices']} emulated devices or fewer. The figures are for "
        f"each device; those of the planner are in brackets. Memory is that of arguments and temporaries.\n\n{machine_line(record)}"
    )
    kinds = {"strong": "One batch on more devices", "weak": "A batch for each device"}
    tables = [
        ReportTable(
            f"scaling-{kind}",
            title,
            *show(record[kind]),
            note if kind == "strong" else "As in the table above.",
        )
        for kind, title in kinds.items()
    ]
    if record["processes"]:
        tables.append(_processes(record))
    return [*tables, _planned()]


def _processes(record: dict[str, Any]) -> ReportTable:
    rows, losses = record["processes"], record["processes"][0]["losses"]
    apart = max(abs(a / b - 1) for row in rows for a, b in zip(row["losses"], losses, strict=True))
    note = (
        "From the same run: processes started by `launch/local.py`, with one CPU device each. Two processes share the cores that a single "
        f"one has to itself. The losses are within {apart:.0e} of each other."
    )
    body = [[str(row["processes"]), f"{row['epoch_seconds']:.2f}"] for row in rows]
    return ReportTable(
        "processes", "One process and two processes", ["processes", "an epoch, s"], body, note
    )


def _planned() -> ReportTable:
    """Seconds of a step by the plan; the note begins with what the fastest mesh gains over one device, and what limits it."""
    rows = planned(PLANNED_DEVICE)
    single, most = rows[0], max(rows, key=_users_a_second)
    parts = list(rows[0]["seconds"])
    body = [
        [
            f"{row['data']} x {row['table']}, {row['users']}",
            f"{row['batch']:,}",
            f"{row['bytes'] / 1e9:.1f}",
            *(f"{1e3 * row['seconds'][name]:.2f}" for name in parts),
            f"{1e3 * row['step_seconds']:.2f}",
            f"{_users_a_second(row) / 1e6:.2f}",
        ]
        for row in rows
    ]
    note = (
        f"**What it means.** By the plan, {most['data'] * most['table']} devices process "
        f"{_users_a_second(most) / _users_a_second(single):.0f} times as many users per second as one device, with 128 users a step on "
        f"each; {limiting_part(most['seconds'])} takes most of their time.\n\n"
        "An estimate of the present version by `--mode=plan`, not measured: GRASP, 10 million users, 1.2 million items, E=4096 in float16, "
        f"128 users a step on each {PLANNED_DEVICE}, eight to a host. The time of a step is the larger of arithmetic and memory by the "
        "data sheet, plus communication, plus launches; or the time of transfers from the host, if that is longer. Launches are those that "
        "[the plan](scaling.md#before-renting-anything) counts for one device."
    )
    header = [
        "mesh, users' tables",
        "batch",
        "GB per device",
        *(f"{name}, ms" for name in parts),
        "whole step, ms",
        "million users/s",
    ]
    return ReportTable("planned", "What limits 32 devices", header, body, note)


def _users_a_second(row: dict[str, Any]) -> float:
    rate: float = row["batch"] / row["step_seconds"]
    return rate
