"""The stages of a whole job and its parts, for `--mode=plan`: their times, where these are from, and their prices."""

import dataclasses
from typing import NamedTuple

from grasp_jax.config import Config, PlanConfig
from grasp_jax.planning.devices import Device
from grasp_jax.planning.rates import Rate
from grasp_jax.planning.workload import Layout, Workload

HOST, DEVICES, ENDPOINT = "host", "devices", "endpoint"
CORES = 2  # of the host, among which processor seconds are divided
# fields of `PlanConfig` that replace a number of the data sheet
OVERRIDING = ("memory_gb", "bandwidth_gb", "tflops", "link_gb", "network_gb", "host_gb", "per_host")


def overridden(plan: PlanConfig) -> list[str]:
    """The fields of `OVERRIDING` that are set."""
    return [name for name in OVERRIDING if getattr(plan, name) > 0]


def named_device(plan: PlanConfig) -> str:
    """The name of the device; of one that the config describes with numbers of its own, what it began with."""
    return f"your device (from {plan.device})" if overridden(plan) else plan.device


class Stage(NamedTuple):
    """One line of the table.

    Attributes:
      name, work: what is done, and how much of it.
      seconds: from its beginning to its end; None where that is not known.
      on: HOST, DEVICES or ENDPOINT.
      how: where the seconds are from.
      tokens_price: the price of an endpoint's tokens, in dollars; None if no price is given.
    """

    name: str
    work: str
    seconds: float | None
    on: str
    how: str
    tokens_price: float | None = None
    devices: int = 0  # at work


@dataclasses.dataclass(frozen=True)
class Job:
    """The parts of a whole job in addition to training steps.

    Attributes:
      config: of the method alone.
      work: of a step.
      layout, device: where steps run.
      trained, tested: users who are trained on, and of the test.
      group_pairs: of "items" and "users", pairs of rows of one group; None where neighbours are of all rows, nan where it is not known.
      fits_text: whether tables are computed from the texts and the companions of items (`Method.fits_text`).
      validations_of_parts: how often at least the parts of late fusion are validated after training.
    """

    config: Config
    work: Workload
    layout: Layout
    device: Device
    trained: int
    tested: int
    group_pairs: dict[str, float | None]
    fits_text: bool = False
    validations_of_parts: int = 0


def measured(
    name: str, count: float, units: str, rate: Rate, cores: int = 1, what: str = ""
) -> Stage:
    """A stage of the host at a measured rate; processor seconds of one core are shared out to `cores`."""
    shared = f", divided by {cores} cores" if cores > 1 else ""
    how = f"{source(rate, count)}{f', {what}' if what else ''}{shared}"
    return Stage(name, f"{count:,.0f} {units}", count * rate.seconds / cores, HOST, how)


def source(rate: Rate, count: float) -> str:
    beyond = f"; extrapolated {count / rate.units:,.0f} times" if count > 2 * rate.units else ""
    return f"measured on {rate.on} ({rate.record}){beyond}"


def dollars(stage: Stage, plan: PlanConfig) -> float | None:
    """What a stage costs; None where a price is not given or its time not known."""
    if stage.seconds is None:
        return None
    hours = stage.seconds / 3600
    if stage.on == ENDPOINT:
        if stage.tokens_price is None or not plan.host_price:
            return stage.tokens_price
        return stage.tokens_price + hours * plan.host_price
    price = plan.device_price * stage.devices if stage.on == DEVICES else plan.host_price
    return hours * price if price or not stage.seconds else None
