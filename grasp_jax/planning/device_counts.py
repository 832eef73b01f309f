"""Estimates the time of a step with the same batch on different numbers of devices, each with its fastest mesh."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from grasp_jax.planning.devices import Device
from grasp_jax.planning.step import (
    Accepts,
    accept_all,
    fits,
    limiting_part,
    step_seconds,
    total_seconds,
)
from grasp_jax.planning.workload import Layout, Workload

MIN_COMPARED = 8  # a plan for fewer devices also estimates the time with up to so many

# function from a number of devices to the sizes of a step with the same batch
WorkOf = Callable[[int], Workload]


class Estimate(NamedTuple):
    """A layout, the seconds of a step, the part that takes most of them, and the seconds of this part."""

    layout: Layout
    seconds: float
    limit: str
    limit_seconds: float


def estimate_layout(work: Workload, layout: Layout, device: Device) -> Estimate:
    """The estimate for one layout."""
    parts = step_seconds(work, layout, device)
    limit = limiting_part(parts)
    return Estimate(layout, total_seconds(parts), limit, parts[limit])


def compare_device_counts(
    work_of: WorkOf, configured: Layout, device: Device, accepts: Accepts = accept_all
) -> list[Estimate]:
    """The fastest layout that fits for 1, 2, 4, ... devices up to those of `configured`, in rising order; and `configured` if it fits.

    A number without a layout that fits is left out.

    Args:
      work_of: function from a number of devices to the sizes of a step.
      configured: the layout of the config.
      device: the kind of device.
      accepts: function that says whether a run accepts a layout.
    """
    estimates = []
    for devices in _counts(max(configured.devices, MIN_COMPARED)):
        work = work_of(devices)
        fitting = [
            estimate_layout(work, layout, device)
            for layout in _layouts(devices)
            if fits(work, layout, device) and accepts(layout)
        ]
        if fitting:
            estimates.append(min(fitting, key=lambda estimate: estimate.seconds))
    work = work_of(configured.devices)
    is_new = configured not in [estimate.layout for estimate in estimates]
    if is_new and fits(work, configured, device):
        estimates.append(estimate_layout(work, configured, device))
    return sorted(estimates, key=lambda estimate: estimate.layout.devices)


def _counts(largest: int) -> list[int]:
    """Powers of two below `largest`, and `largest`."""
    return [2**k for k in range((largest - 1).bit_length())] + [largest]


def _layouts(devices: int) -> Iterable[Layout]:
    """All layouts with so many devices; item tables are split into a power of two of parts."""
    for users in ("device", "sharded", "host"):
        for table in (2**k for k in range(devices.bit_length())):
            if devices % table == 0:
                yield Layout(devices // table, table, users)
