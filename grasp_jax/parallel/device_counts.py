"""How the time of a step changes with the number of devices, for the same batch: the fastest mesh of each number."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from grasp_jax.parallel.plan import (
    Device,
    Layout,
    Takes,
    Workload,
    fits,
    limiting_part,
    step_seconds,
    take_all,
    total_seconds,
)

LEAST_COMPARED = 8  # a plan for one device also says what up to so many would gain

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


def compared(
    work_of: WorkOf, own: Layout, device: Device, takes: Takes = take_all
) -> list[Estimate]:
    """The fastest layout of 1, 2, 4, ... devices up to those of `own` that holds the job, in rising order, and `own` if it holds it.

    A number without such a layout is left out.

    Args:
      work_of: the step for a number of devices.
      own: the layout of the config.
      device: each of them.
      takes: whether a run accepts a layout.
    """
    found = []
    for devices in _counts(max(own.devices, LEAST_COMPARED)):
        work = work_of(devices)
        fitting = [
            estimate(work, layout, device)
            for layout in _layouts(devices)
            if fits(work, layout, device) and takes(layout)
        ]
        if fitting:
            found.append(min(fitting, key=lambda each: each.seconds))
    if own not in [each.layout for each in found] and fits(work_of(own.devices), own, device):
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
