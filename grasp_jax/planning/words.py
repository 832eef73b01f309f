"""The tables of `--mode=plan` as lines of text: a step in a few layouts, different numbers of devices, and a conclusion."""

from collections.abc import Sequence

from grasp_jax.planning.device_counts import Estimate, WorkOf
from grasp_jax.planning.devices import Device
from grasp_jax.planning.ranking import ranking_bytes
from grasp_jax.planning.step import (
    fits,
    ranking_total,
    sent_bytes,
    step_bytes,
    step_seconds,
    table_bytes,
    total_bytes,
    total_seconds,
)
from grasp_jax.planning.workload import Layout

AS_FAST = 1.1  # steps are called equally fast if one takes at most so many times as long


def method_lines(
    label: str, work_of: WorkOf, layouts: dict[str, Layout], device: Device
) -> list[str]:
    """The bytes and the times of a step, with a column for each layout; the first layout is that of the config. `label` names the method,
    and where there are several the backbone.
    """
    columns = [(work_of(layout.devices), layout) for layout in layouts.values()]
    training = [total_bytes(work, layout) for work, layout in columns]
    ranking = [ranking_total(work, layout) for work, layout in columns]
    seconds = [step_seconds(work, layout, device) for work, layout in columns]
    rows = [
        ["mesh, data x table", *(f"{layout.data} x {layout.table}" for _, layout in columns)],
        ["tables.users", *(layout.users for _, layout in columns)],
        *_bytes("", [table_bytes(work, layout) for work, layout in columns]),
        *_bytes("of a step: ", [step_bytes(work, layout) for work, layout in columns]),
        *_bytes("of ranking: ", [ranking_bytes(work, layout) for work, layout in columns]),
        ["memory in training", *map(size_of, training)],
        ["memory in ranking", *map(size_of, ranking)],
        ["memory of a device", *map(size_of, map(max, training, ranking))],
        ["decided by", *map(_decided, training, ranking)],
        ["fits", *("yes" if fits(work, layout, device) else "no" for work, layout in columns)],
        *_bytes("sent in a step: ", [sent_bytes(work, layout) for work, layout in columns]),
        *([f"time of {name}", *(_ms(parts[name]) for parts in seconds)] for name in seconds[0]),
        ["whole step, estimate", *(_ms(total_seconds(parts)) for parts in seconds)],
    ]
    work = columns[0][0]
    head = (
        f"{label}: {work.users:,} users, {work.items:,} items, {work.interactions:,} interactions, E={work.width}, D={work.features}, "
        f"H={work.hidden}, B={work.batch}, {work.rows} rows of {work.length}, {work.pairs:,} targets"
    )
    return [head, *aligned([["", *layouts], *rows])]


def count_lines(
    estimates: Sequence[Estimate], configured: Layout, steps: int, device_price: float
) -> list[str]:
    """A table with a row for each layout.

    Args:
      estimates: from `compare_device_counts`; speed-up and efficiency are relative to the first one.
      configured: the layout of the config.
      steps: number of steps of an epoch.
      device_price: dollars per device and hour; 0 for no column of dollars.
    """
    priced = ["dollars an epoch"] if device_price else []
    header = ["devices", "mesh", "tables.users", "a step", "speed-up", "efficiency", *priced]
    rows = [[*header, "limited by"]]
    for estimate in estimates:
        layout, speed_up = estimate.layout, estimates[0].seconds / estimate.seconds
        efficiency = speed_up * estimates[0].layout.devices / layout.devices
        dollars = steps * estimate.seconds / 3600 * layout.devices * device_price
        rows.append(
            [
                f"{layout.devices}{' (as configured)' if layout == configured else ''}",
                f"{layout.data} x {layout.table}",
                layout.users,
                _ms(estimate.seconds),
                f"{speed_up:.2f}",
                f"{efficiency:.0%}",
                *([f"{dollars:,.4f}"] if priced else []),
                f"{estimate.limit} ({estimate.limit_seconds / estimate.seconds:.0%})",
            ]
        )
    return aligned(rows)


def conclusion(estimates: list[Estimate], configured: Layout) -> str:
    """One sentence: whether fewer devices than configured, more devices, or another mesh would be better."""
    if not estimates:
        return ""
    best = min(estimate.seconds for estimate in estimates)
    smallest = next(estimate for estimate in estimates if estimate.seconds <= AS_FAST * best)
    present = next((estimate for estimate in estimates if estimate.layout == configured), None)
    layout = smallest.layout
    mesh = f"mesh {layout.data} x {layout.table}, tables.users={layout.users}"
    better = f"{_ms(smallest.seconds)} a step with {_devices(layout)} ({mesh})"
    if present is None:
        return f"As configured the job does not fit; by this estimate it takes {better}."
    as_configured = (
        f"{_ms(present.seconds)} with {_devices(configured)} as configured"
        f", of which {_ms(present.limit_seconds)} for {present.limit}"
    )
    if layout.devices < configured.devices:
        return f"By this estimate fewer devices are as fast or faster: {better}, {as_configured}."
    if present.seconds > AS_FAST * smallest.seconds:
        return f"By this estimate another mesh is faster: {better}, {as_configured}."
    alternatives = []
    if any(estimate.layout.devices < configured.devices for estimate in estimates):
        alternatives.append("fewer devices are slower")
    elif configured.devices > 1:
        alternatives.append("fewer devices do not hold the job")
    if estimates[-1].layout.devices > configured.devices:
        largest = estimates[-1].layout.devices
        alternatives.append(f"more devices, up to {largest}, are hardly faster")
    comparison = f" {', and '.join(alternatives)}" if alternatives else ""
    return f"By this estimate{comparison}: {as_configured}."


def _devices(layout: Layout) -> str:
    return "1 device" if layout.devices == 1 else f"{layout.devices} devices"


def _bytes(prefix: str, columns: Sequence[dict[str, float]]) -> list[list[str]]:
    return [[prefix + name, *(size_of(column[name]) for column in columns)] for name in columns[0]]


def _decided(training: float, ranking: float) -> str:
    return "training" if training >= ranking else "ranking"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms"


def size_of(count: float) -> str:
    """Bytes with a unit: "1.63 GB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.2f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """ "0 s", "below 0.1 s", "4.4 s", "56 s", "5.8 min" or "41.9 h"."""
    for unit, scale in (("h", 3600), ("min", 60)):
        if seconds >= scale:
            return f"{seconds / scale:,.1f} {unit}"
    if 0 < seconds < 0.1:
        return "below 0.1 s"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"


def money(dollars: float | None) -> str:
    """Dollars with two decimals; "" if the price is not known."""
    return "" if dollars is None else f"{dollars:,.2f}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a table with the first column aligned left and the others aligned right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
