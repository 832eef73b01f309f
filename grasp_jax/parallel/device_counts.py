"""How the time of a step changes with the number of devices, for the same batch: the fastest mesh of each number, and what follows."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from grasp_jax.parallel.plan import (
    USABLE,
    Device,
    Layout,
    Workload,
    limiting_part,
    step_seconds,
    total_bytes,
    total_seconds,
)

LEAST_COMPARED = 8  # a plan for one device also says what up to so many would gain
AS_FAST = 1.1  # steps are called equally fast if one takes at most so many times as long

WorkOf = Callable[[int], Workload]  # the same batch for a number of devices


class Estimate(NamedTuple):
    """A layout, and the seconds of its step: in all, and of the part that takes most."""

    layout: Layout
    seconds: float
    limit: str
    limit_seconds: float


def estimate(work: Workload, layout: Layout, device: Device) -> Estimate:
    """That of a layout."""
    parts = step_seconds(work, layout, device)
    limit = limiting_part(parts)
    return Estimate(layout, total_seconds(parts), limit, parts[limit])


def compared(work_of: WorkOf, own: Layout, device: Device) -> list[Estimate]:
    """The fastest layout of 1, 2, 4, ... devices up to those of `own` that holds the job, in rising order, and `own` if it holds it.

    A number without such a layout is left out.
    """
    found = []
    for devices in _counts(max(own.devices, LEAST_COMPARED)):
        work = work_of(devices)
        fitting = [
            estimate(work, layout, device)
            for layout in _layouts(devices)
            if _fits(work, layout, device)
        ]
        if fitting:
            found.append(min(fitting, key=lambda each: each.seconds))
    if own not in [each.layout for each in found] and _fits(work_of(own.devices), own, device):
        found.append(estimate(work_of(own.devices), own, device))
    return sorted(found, key=lambda each: each.layout.devices)


def _counts(most: int) -> list[int]:
    """Powers of two below `most`, and `most`."""
    return [2**k for k in range((most - 1).bit_length())] + [most]


def _layouts(devices: int) -> Iterable[Layout]:
    """Every way to use so many devices; item tables are split into a power of two of parts."""
    for users in ("device", "sharded", "host"):
        for table in (2**k for k in range(devices.bit_length())):
            if devices % table == 0:
                yield Layout(devices // table, table, users)


def _fits(work: Workload, layout: Layout, device: Device) -> bool:
    return total_bytes(work, layout) <= USABLE * device.memory


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


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"
