"""Estimates memory, communication and time of a training step on each device of a mesh, without a device and without data.

Bytes are counted array by array; `benchmarks.scaling` compares them with XLA's memory analysis of the compiled step. The time is the longer
of arithmetic and memory traffic, plus communication between devices, plus the launches of kernels. It is an estimate, not a bound: a
program that overlaps these parts takes less, and one that does not reach the rates of the data sheet takes more.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from grasp_jax.parallel.exchange import id_capacity
from grasp_jax.parallel.pairs import pair_capacity, row_capacity
from grasp_jax.planning.catalogue import catalogue_bytes, catalogue_traffic, score_blocks
from grasp_jax.planning.devices import Device
from grasp_jax.planning.further import (
    further_bytes,
    further_flops,
    further_sent,
    further_tables,
)
from grasp_jax.planning.ranking import ranking_bytes
from grasp_jax.planning.rates import LAUNCH
from grasp_jax.planning.workload import FLOAT, Layout, Workload

USABLE = 0.9  # share of a device's memory
MESHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


Accepts = Callable[[Layout], bool]


def accept_all(layout: Layout) -> bool:
    """The default: every layout is accepted."""
    return True


def table_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """Bytes of the arrays that are on a device during the whole run."""
    share = {"device": 1.0, "sharded": 1.0 / layout.devices, "host": 0.0}[layout.users]
    user_row = 2 * work.width * work.table_bytes * work.gated
    logits = 2 * work.gated
    evaluated = math.ceil(work.evaluated / layout.devices)
    further = further_tables(work, layout)
    return {
        "item tables": math.ceil(work.items / layout.table) * work.vectors.row_bytes
        + work.items * work.vectors.copied_bytes
        + further["item tables"],
        "user tables": math.ceil(work.users * share) * user_row + further["user tables"],
        # item, user, query and logits of each interaction; excluded items and their offsets
        "interactions": ((3 + logits) * work.interactions + work.interactions + work.users) * FLOAT,
        # each candidate and its logits
        "validation": evaluated * (1 + work.candidates) * (1 + logits) * FLOAT,
        # parameters, Adam's two moments, and the best parameters
        "parameters": 4 * work.models * work.parameters * FLOAT,
    }


def step_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """Additional bytes on a device during a step: the arrays that are kept for the backward pass."""
    places, negatives = (count / layout.devices for count in (work.places, layout.negatives(work)))
    ids = places + negatives
    rows = ids * (work.vectors.row_bytes + work.vectors.joined * FLOAT)
    all_items, scores = catalogue_bytes(work, layout), score_blocks(work, layout).bytes
    # histories gather item vectors, which are computed on the devices that have the rows
    if work.catalogue:
        rows, ids = 0, 0
    return {
        "rows": work.models * rows,
        "items' numbers": work.models
        * (2 * ids * (work.vectors.trained + work.vectors.numbers) * FLOAT + all_items),
        "scores": work.models * scores,
        "hidden layer": work.models * 3 * ids * work.vectors.hidden * FLOAT,
        "backbone": work.models
        * work.backbones
        * work.layers
        * places
        * (16 * work.features + 4 * work.length)
        * FLOAT,
        "gradients": work.models * work.parameters * FLOAT,
        "users' rows": work.models * user_row_bytes(work, layout).stored,
    } | {name: work.models * own for name, own in further_bytes(work, layout).items()}


class UserRowBytes(NamedTuple):
    """Bytes of the rows of a step's users that a device stores, receives from the host, sends to its group, and sends to all devices."""

    stored: float = 0.0
    from_host: float = 0.0
    to_group: float = 0.0
    to_all: float = 0.0


def user_row_bytes(work: Workload, layout: Layout) -> UserRowBytes:
    """The bytes of a step of a method with gates; 0 if the user tables are on every device.

    Each device sends its rows to the other devices of its group (`parallel.pairs`). If each target is scored against all items, all rows go
    to all devices: by an all-gather from the host's rows, or by an all-reduce from sharded rows, which sends twice as much.
    """
    if layout.users == "device" or not work.gated:
        return UserRowBytes()
    row = 2.0 * work.width * work.table_bytes
    padded = math.ceil(work.batch / layout.devices) * layout.devices
    from_host = padded / layout.devices * row * (layout.users == "host")
    if work.catalogue:
        all_rows = (padded if layout.users == "host" else work.batch) * row
        passes = 1 if layout.users == "host" else 2
        return UserRowBytes(all_rows, from_host, to_all=passes * _sent_share(layout) * all_rows)
    sharded = layout.users == "sharded"
    local_rows = row_capacity(work.batch if sharded else padded, layout.devices, sharded) * row
    stored = local_rows * (layout.table + (layout.table > 1))
    return UserRowBytes(stored, from_host, to_group=(layout.table - 1) * local_rows)


def _sent_share(layout: Layout) -> float:
    """Share of an array that each of n devices sends in a ring all-gather, (n - 1) / n; an all-reduce sends twice as much."""
    return (layout.devices - 1) / layout.devices


def sent_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """Bytes that a device sends in a step.

    The id of an item row is sent in the forward and in the backward pass, its 3H numbers are sent back, and their gradient is sent. It is
    the same for logits, which have no gradient. If user rows are not on every device, the two addresses of a pair are sent to the device
    that has both rows, and its two logits are sent back.
    """
    others = layout.table - 1
    negatives = layout.negatives(work)
    ids, pairs = (
        id_capacity(count, layout.devices, layout.table)
        for count in (work.places + negatives, negatives)
    )
    vectors = work.vectors
    item_rows: float = (
        others * (vectors.numbers > 0) * ids * (2 * FLOAT + 2 * vectors.numbers * FLOAT)
    )
    if work.catalogue:
        # features of all items are gathered on all devices, and their gradients reduced; states are gathered and reduced along "table"
        features = work.items * (
            vectors.numbers * (layout.table - 1) / layout.table
            + (vectors.numbers - vectors.match) * 2 * _sent_share(layout)
        )
        if vectors.mixed:  # the gradient of the mixture is reduced, and that of its parts is gathered like themselves
            gathered = vectors.numbers * (layout.table > 1) + work.features
            features = work.items * gathered * 2 * _sent_share(layout)
        states = 2 * (layout.table - 1) * work.places / layout.devices * sum(vectors.losses)
        item_rows = FLOAT * (features + states)
    if layout.users != "device" and not work.catalogue:
        others, pairs = layout.devices - 1, pair_capacity(negatives, layout.devices)
    users = user_row_bytes(work, layout)
    of_one_model = {
        "item rows": item_rows,
        "logits": others * work.gated * pairs * (2 * FLOAT + 2 * FLOAT),
        "gradients": 2 * _sent_share(layout) * work.parameters * FLOAT,
        "users' rows": users.to_group + users.to_all,
        **further_sent(work, layout),
    }
    return {name: work.models * sent for name, sent in of_one_model.items()}


def step_flops(work: Workload, layout: Layout) -> float:
    """Floating-point operations of matrix products on a device: networks (of frozen rows twice, because they have no gradient), logits,
    backbones and scores (three times: forward, and both gradients), products of two matrices by each other, and `further_flops`.

    If item tables are sharded, networks read every slot of an exchange, also empty ones. Vectors of all items are computed again along
    "data".
    """
    negatives = layout.negatives(work)
    ids = work.places + negatives
    projected = layout.devices * layout.table * id_capacity(ids, layout.devices, layout.table)
    if work.catalogue:
        ids = projected = work.items
    networks = work.vectors.networks
    frozen = 2 * 2 * projected * sum(network.inputs * network.first for network in networks)
    last = 3 * 2 * ids * sum(network.hidden * network.outputs for network in networks)
    targets = work.pairs if layout.devices == 1 else work.places
    scores = 3 * 2 * targets * work.items * sum(work.vectors.losses) * work.catalogue
    logits = 2 * negatives * 2 * work.width * work.gated
    block = 2 * 6 * work.features**2 + 2 * 2 * work.length * work.features
    backbones = 3 * work.backbones * work.layers * work.places * block
    repeated = layout.data if work.catalogue and not work.gated else 1
    total = repeated * (frozen + last) + scores + logits + backbones
    folded = 3 * 2 * sum(own.inputs * own.folded * own.outputs for own in networks)
    return work.models * (total / layout.devices + folded + further_flops(work, layout))


def step_seconds(work: Workload, layout: Layout, device: Device) -> dict[str, float]:
    """Seconds of the parts of a step: arithmetic and memory traffic (the roofline), transfers of user rows from the host, which happen at
    the same time, communication, and launches of kernels.
    """
    stored, sent = step_bytes(work, layout), sent_bytes(work, layout)
    # rows are read from their table, then all arrays are written once and read once
    traffic = stored["rows"] + 2 * sum(stored.values()) + catalogue_traffic(work, layout)
    # devices that differ along "table" are neighbours
    all_rate = device.link if layout.devices <= device.per_host else device.network
    table_rate = device.link if layout.table <= device.per_host else device.network
    users = user_row_bytes(work, layout)
    along_all = sent["gradients"] + work.models * users.to_all + sent.get("additional loss", 0.0)
    along_table = sent["item rows"] + work.models * users.to_group
    if layout.users == "device":
        along_table += sent["logits"]
    else:
        along_all += sent["logits"]
    return {
        "arithmetic": step_flops(work, layout) / device.flops,
        "memory": traffic / device.bandwidth,
        "host": work.models * users.from_host / device.host,
        "communication": along_all / all_rate + along_table / table_rate,
        "launches": work.kernels * LAUNCH.seconds,
    }


def total_seconds(parts: dict[str, float]) -> float:
    """The time of a step, from the parts of `step_seconds`."""
    return max(
        parts["host"],
        max(parts["arithmetic"], parts["memory"]) + parts["communication"] + parts["launches"],
    )


def limiting_part(parts: dict[str, float]) -> str:
    """The part that takes most of the time of a step; "host" only if its transfers take longer than everything else together."""
    if parts["host"] >= total_seconds(parts):
        return "host"
    return max((name for name in parts if name != "host"), key=lambda name: parts[name])


def total_bytes(work: Workload, layout: Layout) -> float:
    """Bytes on a device during a step."""
    return sum(table_bytes(work, layout).values()) + sum(step_bytes(work, layout).values())


def ranking_total(work: Workload, layout: Layout) -> float:
    """Bytes on a device during ranking, when the tables and the parameters of training are there too."""
    return sum(table_bytes(work, layout).values()) + sum(ranking_bytes(work, layout).values())


def needed_bytes(work: Workload, layout: Layout) -> float:
    """Bytes that a device must have for a whole run: of a step or of ranking, whichever needs more."""
    return max(total_bytes(work, layout), ranking_total(work, layout))


def fits(work: Workload, layout: Layout, device: Device) -> bool:
    """Whether training and ranking fit into the memory of each device."""
    return needed_bytes(work, layout) <= USABLE * device.memory


def smallest_layout(work: Workload, device: Device, accepts: Accepts = accept_all) -> Layout | None:
    """The layout with the fewest devices that fits; among these, user tables on the devices rather than on the host, and item tables in as
    few parts as possible. None: no mesh of `MESHES` fits.

    Args:
      work: the step.
      device: the kind of device.
      accepts: function that says whether a run accepts a layout.
    """
    for layout in _layouts():
        if fits(work, layout, device) and accepts(layout):
            return layout
    return None


def least_layout(work: Workload, accepts: Accepts = accept_all) -> Layout | None:
    """The layout of `MESHES` whose devices need the least memory; among equal ones that with the fewest devices. None: none is accepted."""
    ordered = sorted(_layouts(), key=lambda layout: needed_bytes(work, layout))
    return next((layout for layout in ordered if accepts(layout)), None)


def _layouts() -> Iterator[Layout]:
    """The layouts of `MESHES`, in the order in which one prefers them."""
    for devices in MESHES:
        for users in ("device", "sharded", "host"):
            for table in (size for size in MESHES if size <= devices):
                yield Layout(devices // table, table, users)
