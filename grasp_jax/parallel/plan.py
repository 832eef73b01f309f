"""Estimates memory, communication and time of a training step on each device of a mesh, without a device and without data.

Bytes are counted array by array; `benchmarks.scaling` compares them with XLA's memory analysis of the compiled step. The time is the longer
of arithmetic and memory traffic, plus communication between devices, plus the launches of kernels. It is an estimate, not a bound: a
program that overlaps these parts takes less, and one that does not reach the rates of the data sheet takes more.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from grasp_jax.parallel.blocks import ARRAYS_OF_GATES, rows_of_block
from grasp_jax.parallel.exchange import id_capacity
from grasp_jax.parallel.pairs import pair_capacity, row_capacity
from grasp_jax.parallel.rates import LAUNCH

FLOAT = 4  # bytes of a float32 or int32: of all numbers except those of the frozen tables
FEATURE_COPIES = 5  # arrays as large as the hidden layer of all items, forward and backward, as XLA compiles them
USABLE = 0.9  # share of a device's memory
MESHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Device(NamedTuple):
    """One accelerator.

    Attributes:
      memory: bytes.
      bandwidth: bytes a second of its memory.
      flops: floating-point operations a second of dense matrix products with float32 inputs (TF32 on a GPU).
      link: bytes a second that it sends to other devices of its host.
      network: bytes a second that it sends to devices of other hosts.
      host: bytes a second that it receives from its host's memory.
      per_host: number of devices of a host.
    """

    memory: float
    bandwidth: float
    flops: float
    link: float
    network: float
    host: float
    per_host: int


DEVICES = {  # vendors' data sheets; network: one 200 or 400 Gbit/s port a device; host: PCIe 4 or 5 at four fifths
    "A100-80": Device(80e9, 2.04e12, 156e12, 300e9, 25e9, 25e9, 8),
    "H100": Device(80e9, 3.35e12, 495e12, 450e9, 50e9, 50e9, 8),
    "H200": Device(141e9, 4.8e12, 495e12, 450e9, 50e9, 50e9, 8),
    "TPU-v5e": Device(16e9, 0.82e12, 98e12, 200e9, 200e9, 12e9, 256),
}


class Workload(NamedTuple):
    """The sizes of a step with a self-attention backbone: of GRASP, or with E = 0 of a model with ID vectors only.

    Attributes:
      users, items, interactions: N, V and the length of the log.
      evaluated, candidates: users of the validation set, and items that are ranked for each of them.
      width, features, hidden, layers: E, D, H and the number of blocks of the backbone.
      table_bytes: bytes of one number of a frozen table.
      batch: B users a step, on all devices together.
      rows, length: R packed rows of L places.
      pairs, negatives: P targets, and G negatives of each; several devices compute negatives at every place.
      models: M, models trained together.
      catalogue: whether each target is scored against all items (`config.train.loss` is "ce"); then no negatives are drawn, and G is 0.
      gated: whether item vectors depend on the user.
      kernels: number of kernels that a step launches on a device; 0 if launches are not counted.
    """

    users: int
    items: int
    interactions: int
    evaluated: int
    candidates: int
    width: int
    features: int
    hidden: int
    layers: int
    table_bytes: int
    batch: int
    rows: int
    length: int
    pairs: int
    negatives: int
    models: int = 1
    catalogue: bool = False
    gated: bool = False
    kernels: int = 0

    @property
    def places(self) -> int:
        """R * L."""
        return self.rows * self.length

    @property
    def numbers_per_item(self) -> int:
        """Numbers that a step computes for an item independently of the user."""
        return 3 * self.hidden if self.width else self.features

    @property
    def parameters(self) -> int:
        """Number of parameters of one model: the projections of Eq. 5 and its last layer, or ID vectors; and blocks with four D x D
        matrices and an MLP with two.
        """
        encoder = 4 * self.width * self.hidden + self.hidden + (self.hidden + 1) * self.features
        encoder = encoder if self.width else self.items * self.features
        block = 6 * self.features**2 + 10 * self.features
        return encoder + self.layers * block + (self.length + 2) * self.features


class Layout(NamedTuple):
    """`config.mesh` and `config.tables.users`."""

    data: int
    table: int
    users: str = "device"

    @property
    def devices(self) -> int:
        """Number of devices."""
        return self.data * self.table

    def negatives(self, work: Workload) -> int:
        """Number of negatives whose rows a step reads."""
        return work.negatives * (work.pairs if self.devices == 1 else work.places)


Accepts = Callable[[Layout], bool]


def accept_all(layout: Layout) -> bool:
    """The default: every layout is accepted."""
    return True


def table_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """Bytes of the arrays that are on a device during the whole run."""
    share = {"device": 1.0, "sharded": 1.0 / layout.devices, "host": 0.0}[layout.users]
    row = 2 * work.width * work.table_bytes
    evaluated = math.ceil(work.evaluated / layout.devices)
    return {
        "item tables": math.ceil(work.items / layout.table) * row,
        "user tables": math.ceil(work.users * share) * row,
        # item, user, query and two logits of each interaction; excluded items and their offsets
        "interactions": (5 * work.interactions + work.interactions + work.users) * FLOAT,
        # each candidate and its two logits
        "validation": evaluated * (1 + work.candidates) * 3 * FLOAT,
        # parameters, Adam's two moments, and the best parameters
        "parameters": 4 * work.models * work.parameters * FLOAT,
    }


def step_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """Additional bytes on a device during a step: the arrays that are kept for the backward pass."""
    places, negatives = (count / layout.devices for count in (work.places, layout.negatives(work)))
    ids = places + negatives
    rows = 2 * ids * work.width * work.table_bytes
    all_items, scores = catalogue_bytes(work, layout)
    # histories gather item vectors, which are computed on the devices that have the rows
    if work.catalogue:
        rows, ids = 0, 0
    return {
        "rows": work.models * rows,
        "items' numbers": work.models * (2 * ids * work.numbers_per_item * FLOAT + all_items),
        "scores": work.models * scores,
        "hidden layer": work.models * 3 * ids * (work.hidden if work.width else 0) * FLOAT,
        "backbone": work.models
        * work.layers
        * places
        * (16 * work.features + 4 * work.length)
        * FLOAT,
        "gradients": work.models * work.parameters * FLOAT,
        "users' rows": work.models * user_row_bytes(work, layout).stored,
    }


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


def catalogue_bytes(work: Workload, layout: Layout) -> tuple[float, float]:
    """Bytes of a step that scores all items: of the items' vectors or features, and of a block of scores; 0 if negatives are drawn.

    Vectors of all items are on every device, with their gradient; a hidden layer is sharded. A block has scores and their exponentials for
    the items of this device. With gates there are no vectors of items but features, and `ARRAYS_OF_GATES` numbers for each pair of a block.
    """
    if not work.catalogue:
        return 0.0, 0.0
    targets = work.pairs if layout.devices == 1 else work.places
    if work.gated:
        rows = rows_of_block(targets, ARRAYS_OF_GATES * work.items, "gpu")
        pairs = ARRAYS_OF_GATES * rows * work.items
        features = FEATURE_COPIES * work.items * work.numbers_per_item
        return FLOAT * features / layout.devices, FLOAT * pairs / layout.devices
    local_items = math.ceil(work.items / layout.table)
    hidden = FEATURE_COPIES * local_items * work.hidden * (work.width > 0)
    rows = rows_of_block(math.ceil(targets / layout.data), local_items, "gpu")
    return FLOAT * (2.0 * work.items * work.features + hidden), FLOAT * 2.0 * rows * local_items


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
    item_rows: float = (
        others * (work.width > 0) * ids * (2 * FLOAT + 2 * work.numbers_per_item * FLOAT)
    )
    if work.catalogue:
        # features of all items are gathered on all devices, and their gradients reduced; states are gathered and reduced along "table"
        width = (work.numbers_per_item if work.gated else work.hidden) * (work.width > 0)
        features = (
            work.items * width * ((layout.table - 1) / layout.table + 2 * _sent_share(layout))
        )
        states = 2 * (layout.table - 1) * work.places / layout.devices * work.features
        item_rows = FLOAT * (features + states)
    if layout.users != "device" and not work.catalogue:
        others, pairs = layout.devices - 1, pair_capacity(negatives, layout.devices)
    users = user_row_bytes(work, layout)
    of_one_model = {
        "item rows": item_rows,
        "logits": others * work.gated * pairs * (2 * FLOAT + 2 * FLOAT),
        "gradients": 2 * _sent_share(layout) * work.parameters * FLOAT,
        "users' rows": users.to_group + users.to_all,
    }
    return {name: work.models * sent for name, sent in of_one_model.items()}


def step_flops(work: Workload, layout: Layout) -> float:
    """Floating-point operations of matrix products on a device: projections and the gradient of their kernels, logits, and the backbone
    (three times: forward, and both gradients).

    If item tables are sharded, the projection is computed for every slot of an exchange, also for empty ones.
    """
    negatives = layout.negatives(work)
    ids = work.places + negatives
    projected = layout.devices * layout.table * id_capacity(ids, layout.devices, layout.table)
    if work.catalogue:
        ids = projected = work.items
    projection = 2 * 2 * projected * work.width * 4 * work.hidden
    targets = work.pairs if layout.devices == 1 else work.places
    scores = 3 * 2 * targets * work.items * work.features * work.catalogue
    logits = 2 * negatives * 2 * work.width
    last = 3 * 2 * ids * work.hidden * work.features * (work.width > 0)
    backbone = (
        3
        * work.layers
        * work.places
        * (2 * 6 * work.features**2 + 2 * 2 * work.length * work.features)
    )
    return work.models * (projection + logits + last + backbone + scores) / layout.devices


def step_seconds(work: Workload, layout: Layout, device: Device) -> dict[str, float]:
    """Seconds of the parts of a step: arithmetic and memory traffic (the roofline), transfers of user rows from the host, which happen at
    the same time, communication, and launches of kernels.
    """
    stored, sent = step_bytes(work, layout), sent_bytes(work, layout)
    # rows are read from their table, then all arrays are written once and read once
    traffic = stored["rows"] + 2 * sum(stored.values())
    # devices that differ along "table" are neighbours
    all_rate = device.link if layout.devices <= device.per_host else device.network
    table_rate = device.link if layout.table <= device.per_host else device.network
    users = user_row_bytes(work, layout)
    along_all = sent["gradients"] + work.models * users.to_all
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


def fits(work: Workload, layout: Layout, device: Device) -> bool:
    """Whether a step fits into the memory of each device."""
    return total_bytes(work, layout) <= USABLE * device.memory


def smallest_layout(work: Workload, device: Device, accepts: Accepts = accept_all) -> Layout | None:
    """The layout with the fewest devices that fits; among these, user tables on the devices rather than on the host, and item tables in as
    few parts as possible. None: no mesh of `MESHES` fits.

    Args:
      work: the step.
      device: the kind of device.
      accepts: function that says whether a run accepts a layout.
    """
    for devices in MESHES:
        for users in ("device", "sharded", "host"):
            for table in (size for size in MESHES if size <= devices):
                layout = Layout(devices // table, table, users)
                if fits(work, layout, device) and accepts(layout):
                    return layout
    return None
