"""What a training step holds, moves and computes on each device of a mesh, by arithmetic alone: before there is a device or any data.

Bytes are counted array by array; `benchmarks.scaling` compares them with what XLA says of the compiled step. Seconds are the longer of
arithmetic and memory traffic, then what goes between devices, then the launches of kernels, one after the other. This is an estimate and no
bound: a program that overlaps these parts takes less, and one that does not reach the rates of the data sheet takes more.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from grasp_jax.parallel.blocks import ARRAYS_OF_GATES, rows_of_block
from grasp_jax.parallel.exchange import slots
from grasp_jax.parallel.pairs import room_of_pairs, room_of_rows
from grasp_jax.parallel.rates import LAUNCH

FLOAT = 4  # bytes of float32 and int32, of all but the frozen tables
FEATURE_COPIES = 5  # of a hidden layer of all items, with what its backward pass reads and makes; as XLA compiles it
USABLE = 0.9  # of a device's memory
MESHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Device(NamedTuple):
    """One accelerator.

    Attributes:
      memory: bytes.
      bandwidth: bytes a second from its memory.
      flops: a second of matrix products on float32 inputs (TF32 on a GPU), dense.
      link: bytes a second that it sends to others of its host.
      network: bytes a second to those of another host.
      host: bytes a second that it gets from its host's memory.
      per_host: devices of a host.
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
    """The sizes of a step on a self-attention backbone: GRASP's, or with E = 0 that of ID vectors alone.

    Attributes:
      users, items, interactions: N, V and the log's length.
      evaluated, candidates: users of the validation set, and items that each is ranked among.
      width, features, hidden, layers: E, D, H and the backbone's blocks.
      table_bytes: of one number of a frozen table.
      batch: B users a step, on all devices together.
      rows, length: R rows of L places, packed.
      pairs, negatives: P targets, and G negatives of each; several devices compute negatives at every place.
      models: M trained together.
      catalogue: each target meets every item (`config.train.loss` is "ce"), and no negatives are drawn; G is 0.
      gated: item vectors depend on the user.
      kernels: that a step launches on a device; 0 where launches are not counted.
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
    def of_item(self) -> int:
        """Numbers that a step computes of an item before a user is known."""
        return 3 * self.hidden if self.width else self.features

    @property
    def parameters(self) -> int:
        """Of one model: the projections of Eq. 5 and its last layer, or ID vectors; and blocks of four DxD matrices and an MLP of two."""
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
        return self.data * self.table

    def negatives(self, work: Workload) -> int:
        """The negatives whose rows a step reads."""
        return work.negatives * (work.pairs if self.devices == 1 else work.places)


Takes = Callable[[Layout], bool]


def take_all(layout: Layout) -> bool:
    """Of a run that accepts every layout."""
    return True


def table_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """Of what lies on a device from beginning to end."""
    share = {"device": 1.0, "sharded": 1.0 / layout.devices, "host": 0.0}[layout.users]
    row = 2 * work.width * work.table_bytes
    return {
        "item tables": math.ceil(work.items / layout.table) * row,
        "user tables": math.ceil(work.users * share) * row,
        "interactions": work.interactions * 5 * FLOAT
        + work.interactions * FLOAT
        + work.users * FLOAT,  # with logits; exclusions
        "validation": math.ceil(work.evaluated / layout.devices)
        * (1 + work.candidates)
        * 3
        * FLOAT,
        "parameters": 4
        * work.models
        * work.parameters
        * FLOAT,  # Adam's two moments, and the best so far
    }


def step_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """Additional bytes of a step on a device: the arrays that its backward pass reads again."""
    places, negatives = (count / layout.devices for count in (work.places, layout.negatives(work)))
    ids = places + negatives
    rows = 2 * ids * work.width * work.table_bytes
    all_items, scores = catalogue_bytes(work, layout)
    if work.catalogue:  # histories read vectors of items that are computed where rows lie
        rows, ids = 0, 0
    return {
        "rows": work.models * rows,
        "items' numbers": work.models * (2 * ids * work.of_item * FLOAT + all_items),
        "scores": work.models * scores,
        "hidden layer": work.models * 3 * ids * (work.hidden if work.width else 0) * FLOAT,
        "backbone": work.models
        * work.layers
        * places
        * (16 * work.features + 4 * work.length)
        * FLOAT,
        "gradients": work.models * work.parameters * FLOAT,
        "users' rows": work.models * users_rows(work, layout).held,
    }


class UsersRows(NamedTuple):
    """Bytes of the rows of a step's users on a device: that it holds, gets from the host, sends to its group, and sends to all others."""

    held: float = 0.0
    from_host: float = 0.0
    to_group: float = 0.0
    to_all: float = 0.0


def users_rows(work: Workload, layout: Layout) -> UsersRows:
    """Of a step of a method with gates; nothing where the tables are on every device.

    A device of a group, those that differ along "table" alone, shows its rows to the others of the group. Where each target meets every
    item, all rows go to all devices, summed up where they come from rows that are shared out.
    """
    if layout.users == "device" or not work.gated:
        return UsersRows()
    row = 2.0 * work.width * work.table_bytes
    filled = math.ceil(work.batch / layout.devices) * layout.devices
    from_host = filled / layout.devices * row * (layout.users == "host")
    of_all = (layout.devices - 1) / layout.devices
    if work.catalogue:
        everyone = (filled if layout.users == "host" else work.batch) * row
        times = 1 if layout.users == "host" else 2
        return UsersRows(everyone, from_host, to_all=times * of_all * everyone)
    drawn = layout.users == "sharded"
    own = room_of_rows(work.batch if drawn else filled, layout.devices, drawn) * row
    held = own * (layout.table + (layout.table > 1))
    return UsersRows(held, from_host, to_group=(layout.table - 1) * own)


def catalogue_bytes(work: Workload, layout: Layout) -> tuple[float, float]:
    """Of a step whose targets meet every item: what it holds of all items, and of a block of scores; 0 where negatives are drawn.

    Vectors of all items are on every device, with their gradient; a hidden layer is shared out. A block has scores and their
    exponentials, of the items of this device. With gates there are no vectors of items but features, and of each pair of a block
    `ARRAYS_OF_GATES` numbers.
    """
    if not work.catalogue:
        return 0.0, 0.0
    targets = work.pairs if layout.devices == 1 else work.places
    if work.gated:
        rows = rows_of_block(targets, ARRAYS_OF_GATES * work.items, "gpu")
        pairs = ARRAYS_OF_GATES * rows * work.items
        features = FEATURE_COPIES * work.items * work.of_item
        return FLOAT * features / layout.devices, FLOAT * pairs / layout.devices
    here = math.ceil(work.items / layout.table)
    hidden = FEATURE_COPIES * here * work.hidden * (work.width > 0)
    rows = rows_of_block(math.ceil(targets / layout.data), here, "gpu")
    return FLOAT * (2.0 * work.items * work.features + hidden), FLOAT * 2.0 * rows * here


def sent_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """That leave a device in a step.

    A row's id goes there twice, its 3H numbers come back and their gradient goes there; so with logits, without a gradient. Where users'
    rows are not on every device, a pair's two addresses go to where both rows are, and its two logits come back.
    """
    others, of_all = layout.table - 1, (layout.devices - 1) / layout.devices
    negatives = layout.negatives(work)
    ids, pairs = (
        slots(count, layout.devices, layout.table) for count in (work.places + negatives, negatives)
    )
    item_rows: float = others * (work.width > 0) * ids * (2 * FLOAT + 2 * work.of_item * FLOAT)
    if work.catalogue:  # features of all items go everywhere, and gradients come back; states go along "table", and come back
        width = (work.of_item if work.gated else work.hidden) * (work.width > 0)
        everywhere = work.items * width * ((layout.table - 1) / layout.table + 2 * of_all)
        states = 2 * (layout.table - 1) * work.places / layout.devices * work.features
        item_rows = FLOAT * (everywhere + states)
    if layout.users != "device" and not work.catalogue:
        others, pairs = layout.devices - 1, room_of_pairs(negatives, layout.devices)
    users = users_rows(work, layout)
    each = {
        "item rows": item_rows,
        "logits": others * work.gated * pairs * (2 * FLOAT + 2 * FLOAT),
        "gradients": 2 * of_all * work.parameters * FLOAT,
        "users' rows": users.to_group + users.to_all,
    }
    return {name: work.models * sent for name, sent in each.items()}


def step_flops(work: Workload, layout: Layout) -> float:
    """Of matrix products on a device: projections forward and their kernels' gradient, logits, and the backbone three times.

    Where item tables are split, the projection is computed for every place of an exchange, also for the empty ones.
    """
    negatives = layout.negatives(work)
    ids = work.places + negatives
    projected = layout.devices * layout.table * slots(ids, layout.devices, layout.table)
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
    """Of the parts of a step: the roofline's, communication, users' rows that come from the host meanwhile, and launches."""
    held, sent = step_bytes(work, layout), sent_bytes(work, layout)
    traffic = held["rows"] + 2 * sum(
        held.values()
    )  # rows are read from their table, then all is written once and read once
    to_all = device.link if layout.devices <= device.per_host else device.network
    by_table = (
        device.link if layout.table <= device.per_host else device.network
    )  # parts of a table are neighbours
    users = users_rows(work, layout)
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
        "communication": along_all / to_all + along_table / by_table,
        "launches": work.kernels * LAUNCH.seconds,
    }


def total_seconds(parts: dict[str, float]) -> float:
    """Of a step, by the parts that `step_seconds` gives."""
    return max(
        parts["host"],
        max(parts["arithmetic"], parts["memory"]) + parts["communication"] + parts["launches"],
    )


def limiting_part(parts: dict[str, float]) -> str:
    """The part that takes most of a step; "host" only where its transfers are longer than everything else together."""
    if parts["host"] >= total_seconds(parts):
        return "host"
    return max((name for name in parts if name != "host"), key=lambda name: parts[name])


def total_bytes(work: Workload, layout: Layout) -> float:
    return sum(table_bytes(work, layout).values()) + sum(step_bytes(work, layout).values())


def fits(work: Workload, layout: Layout, device: Device) -> bool:
    """Whether the memory of each device holds it."""
    return total_bytes(work, layout) <= USABLE * device.memory


def smallest_layout(work: Workload, device: Device, takes: Takes = take_all) -> Layout | None:
    """The fewest devices that hold it, users' tables as near as they fit, items in as few parts as they must; None: no mesh of `MESHES`.

    Args:
      work: the step.
      device: each of them.
      takes: whether a run accepts a layout.
    """
    for devices in MESHES:
        for users in ("device", "sharded", "host"):
            for table in (size for size in MESHES if size <= devices):
                layout = Layout(devices // table, table, users)
                if fits(work, layout, device) and takes(layout):
                    return layout
    return None
