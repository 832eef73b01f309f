"""The tables of `--mode=plan` as lines of text: a step in a few layouts, and numbers of devices with what follows from them."""

from collections.abc import Sequence

from grasp_jax.parallel.device_counts import Estimate, WorkOf
from grasp_jax.parallel.plan import (
    Device,
    Layout,
    fits,
    sent_bytes,
    step_bytes,
    step_seconds,
    table_bytes,
    total_bytes,
    total_seconds,
)

AS_FAST = 1.1  # steps are called equally fast if one takes at most so many times as long


def method_lines(
    method: str, work_of: WorkOf, layouts: dict[str, Layout], device: Device
) -> list[str]:
    """The bytes and the times of a step; a column for each layout, of which the first is the config's own."""
    each = [(work_of(layout.devices), layout) for layout in layouts.values()]
    memory = [total_bytes(work, layout) for work, layout in each]
    seconds = [step_seconds(work, layout, device) for work, layout in each]
    rows = [
        ["mesh, data x table", *(f"{layout.data} x {layout.table}" for _, layout in each)],
        ["tables.users", *(layout.users for _, layout in each)],
        *_bytes("", [table_bytes(work, layout) for work, layout in each]),
        *_bytes("of a step: ", [step_bytes(work, layout) for work, layout in each]),
        ["memory of a device", *map(_size, memory)],
        ["fits", *("yes" if fits(work, layout, device) else "no" for work, layout in each)],
        *_bytes("sent in a step: ", [sent_bytes(work, layout) for work, layout in each]),
        *([f"time of {name}", *(_ms(own[name]) for own in seconds)] for name in seconds[0]),
        ["whole step, estimate", *(_ms(total_seconds(own)) for own in seconds)],
    ]
    work = each[0][0]
    head = (
        f"{method}: {work.users:,} users, {work.items:,} items, {work.interactions:,} interactions, E={work.width}, D={work.features}, "
        f"H={work.hidden}, B={work.batch}, {work.rows} rows of {work.length}, {work.pairs:,} targets"
    )
    return [head, *aligned([["", *layouts], *rows])]


def count_lines(
    found: Sequence[Estimate], own: Layout, steps: int, device_price: float
) -> list[str]:
    """A table with a row for each layout.

    Args:
      found: of `device_counts.compared`; speed-up and efficiency are those over the first.
      own: the config's layout.
      steps: of an epoch.
      device_price: dollars of a device and hour; 0 for no column of dollars.
    """
    priced = ["dollars an epoch"] if device_price else []
    header = ["devices", "mesh", "tables.users", "a step", "speed-up", "efficiency", *priced]
    rows = [[*header, "limited by"]]
    for each in found:
        layout, faster = each.layout, found[0].seconds / each.seconds
        share = faster * found[0].layout.devices / layout.devices
        dollars = steps * each.seconds / 3600 * layout.devices * device_price
        rows.append(
            [
                f"{layout.devices}{' (as configured)' if layout == own else ''}",
                f"{layout.data} x {layout.table}",
                layout.users,
                _ms(each.seconds),
                f"{faster:.2f}",
                f"{share:.0%}",
                *([f"{dollars:,.4f}"] if priced else []),
                f"{each.limit} ({each.limit_seconds / each.seconds:.0%})",
            ]
        )
    return aligned(rows)


def conclusion(found: list[Estimate], own: Layout) -> str:
    """One sentence: whether fewer devices than `own` has, or more, or another mesh, would do better."""
    if not found:
        return ""
    best = min(each.seconds for each in found)
    enough = next(each for each in found if each.seconds <= AS_FAST * best)
    configured = next((each for each in found if each.layout == own), None)
    mesh = f"mesh {enough.layout.data} x {enough.layout.table}, tables.users={enough.layout.users}"
    better = f"{_ms(enough.seconds)} a step with {_devices(enough.layout)} ({mesh})"
    if configured is None:
        return f"As configured the job does not fit; by this estimate it takes {better}."
    here = f"{_ms(configured.seconds)} with {_devices(own)} as configured"
    here += f", where {configured.limit} takes {_ms(configured.limit_seconds)}"
    if enough.layout.devices < own.devices:
        return f"By this estimate fewer devices are as fast or faster: {better}, {here}."
    if configured.seconds > AS_FAST * enough.seconds:
        return f"By this estimate another mesh is faster: {better}, {here}."
    said = []
    if any(each.layout.devices < own.devices for each in found):
        said.append("fewer devices are slower")
    elif own.devices > 1:
        said.append("fewer devices do not hold the job")
    if found[-1].layout.devices > own.devices:
        said.append(f"more devices, up to {found[-1].layout.devices}, are hardly faster")
    told = f" {', and '.join(said)}" if said else ""
    return f"By this estimate{told}: {here}."


def _devices(layout: Layout) -> str:
    return "1 device" if layout.devices == 1 else f"{layout.devices} devices"


def _bytes(prefix: str, columns: Sequence[dict[str, float]]) -> list[list[str]]:
    return [[prefix + name, *(_size(column[name]) for column in columns)] for name in columns[0]]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms"


def _size(count: float) -> str:
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
    """Two decimals; "" where the price is not known."""
    return "" if dollars is None else f"{dollars:,.2f}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a table, first column to the left, the others to the right."""
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
