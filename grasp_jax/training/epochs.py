"""What training reads, and in which order: epochs of packed batches, and dispatches of many steps to the devices.

Data order is a function of (seed, epoch) alone. Of several processes each packs the rows of its own devices.
"""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from grasp_jax.data.packing import Packing, pack, stratified_batches
from grasp_jax.data.split import Histories
from grasp_jax.evaluation.questions import EvaluationSet
from grasp_jax.models.device_data import QUERY_TABLES, DeviceData
from grasp_jax.models.recommender import Tables
from grasp_jax.parallel.mesh import make_mesh, shared_out
from grasp_jax.parallel.rows import HostRows
from grasp_jax.provenance import MadeFrom
from grasp_jax.training.losses import Loss
from grasp_jax.training.members import Member
from grasp_jax.training.states import AllUsers
from grasp_jax.training.targets import StepShape

ORDER = 3  # purpose of the random stream that shuffles
HOST_ROWS = 1 << 24  # numbers of query tables that a dispatch takes along from the host; two dispatches' are in memory


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What training reads: the device arrays, the method's start (`Method.start`), the windows to pack, the users to deal, the shapes.

    `loss` is of `training.losses`; `everyone` is there for methods that read the states of other users;
    `mask_at` is where the packed histories have a mask (a bidirectional backbone gets its masks in the step); `mesh` are the devices
    that share out a batch, on which all arrays lie; `made_from` describes all of that (`provenance`) and is stored with checkpoints.
    """

    device: DeviceData
    tables: Tables
    start: Callable[[Any, Tables], Any]
    histories: Histories
    users: np.ndarray
    packing: Packing
    shape: StepShape
    loss: Loss
    valid: EvaluationSet
    everyone: AllUsers | None = None
    mask_at: str = ""
    mesh: Mesh = dataclasses.field(default_factory=make_mesh)
    made_from: MadeFrom | None = None


class Epoch(NamedTuple):
    """One epoch of each model: [M, S, R, L] slots, this process's share of the rows; and [M, S, B] the users of each step, ascending."""

    slots: np.ndarray
    users: np.ndarray


def make_epoch(data: TrainingData, members: list[Member], epoch: int) -> Epoch:
    """A function of (seed, epoch) for each member."""
    by_seed = {}
    for seed in {member.seed for member in members}:
        rng = np.random.default_rng([seed, ORDER, epoch])
        batches = stratified_batches(data.histories.lengths, data.users, data.packing.batch_size, rng)
        slots, _ = pack(data.histories, batches, data.packing, data.mask_at, (jax.process_index(), jax.process_count()))
        by_seed[seed] = slots, np.sort(np.where(batches < 0, len(data.histories.lengths), batches), axis=1)
    slots, users = zip(*(by_seed[member.seed] for member in members), strict=True)
    return Epoch(np.stack(slots), np.stack(users))


def dispatches(
    data: TrainingData, epoch: Epoch, first: int, steps: int
) -> Iterator[tuple[int, jax.Array, dict[str, jax.Array] | None]]:  # fmt: skip
    """What the device gets of an epoch from step `first` on, so many steps at once: the first step's number, slots and query rows.

    Where query tables are on the host, the rows of the dispatch after the one that is given are read meanwhile.
    """
    read = {name: data.tables[name] for name in QUERY_TABLES if isinstance(data.tables.get(name), HostRows)}
    if read:
        steps = max(1, min(steps, HOST_ROWS // (epoch.users[:, 0].size * sum(table.shape[1] for table in read.values()))))

    def ready(begin: int) -> tuple[int, jax.Array, dict[str, jax.Array] | None]:
        chunk = slice(begin, begin + steps)
        slots = shared_out(data.mesh, epoch.slots[:, chunk], axis=2, in_parts=True)
        if not read:
            return begin, slots, None
        users = np.minimum(epoch.users[:, chunk], len(data.histories.lengths) - 1)
        users = np.pad(users, ((0, 0), (0, 0), (0, -users.shape[2] % data.mesh.size)), mode="edge")
        return begin, slots, {name: table.on_devices(users) for name, table in read.items()}

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(ready, first)
        for begin in range(first, epoch.slots.shape[1], steps):
            now = coming.result()
            if begin + steps < epoch.slots.shape[1]:
                coming = reader.submit(ready, begin + steps)
            yield now
