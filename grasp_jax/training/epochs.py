"""What training reads, and in which order: epochs of packed batches, and dispatches of many steps to the devices.

Data order is a function of (seed, epoch) alone. Of several processes each packs the rows of its own devices.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from grasp_jax.data.packing import Packing, pack, stratified_batches
from grasp_jax.data.split import Histories
from grasp_jax.evaluation.questions import EvaluationSet
from grasp_jax.models.batch import Tables
from grasp_jax.models.device_data import QUERY_TABLES, AskedUsers, DeviceData
from grasp_jax.parallel.mesh import everywhere, make_mesh, shared_out
from grasp_jax.parallel.rows import HostRows, ShardedRows
from grasp_jax.provenance import MadeFrom
from grasp_jax.training.losses import Loss
from grasp_jax.training.replicas import Replica
from grasp_jax.training.states import AllUsers
from grasp_jax.training.targets import StepShape

ORDER = 3  # purpose of the random stream that shuffles
HOST_ROWS = (
    1 << 24
)  # numbers of query tables that a dispatch takes along from the host; two dispatches' are in memory


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What one method on one backbone is trained and validated on.

    Attributes:
      device: the interactions, on every device.
      tables: the method's frozen knowledge, empty for methods without.
      start: `Method.start`, which changes fresh parameters.
      histories: the training windows.
      users: [U] rows of the users who are trained on.
      packing: how their histories are packed into batches.
      shape: static numbers that a step is compiled for.
      loss: of `training.losses`.
      valid: the validation set; None: training lasts `train.max_epochs` epochs, and the last is best.
      everyone: histories of all users, for methods that read the states of others.
      mask_at: where packed histories have a mask; a bidirectional backbone gets its masks in the step.
      mesh: devices that share out a batch, on which all arrays lie.
      made_from: describes all of that (`provenance`), and is stored with checkpoints.
      select: protocol by whose NDCG@10 epochs are compared, of `evaluation.protocols`.
      item_block: items that are scored at once where the whole catalogue is ranked.
      valid_seen: `evaluation.seen_pairs` of the validation set, which "full_unseen" leaves out; None for other protocols.
      trained: `Method.trained`, whether there is anything to learn.
      epoch_steps: steps of an epoch, at most; 0: those that read every user once.
    """

    device: DeviceData
    tables: Tables
    start: Callable[[Any, Tables], Any]
    histories: Histories
    users: np.ndarray
    packing: Packing
    shape: StepShape
    loss: Loss
    valid: EvaluationSet | None
    everyone: AllUsers | None = None
    mask_at: str = ""
    mesh: Mesh = dataclasses.field(default_factory=make_mesh)
    made_from: MadeFrom | None = None
    select: str = "sampled100"
    item_block: int = 4096
    valid_seen: np.ndarray | None = None
    trained: bool = True
    epoch_steps: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """S: batches that hold each user once, or the first so many of them."""
        whole = self.whole_epoch_steps
        return min(whole, self.epoch_steps or whole)

    @property
    def whole_epoch_steps(self) -> int:
        """Batches that hold each user once."""
        return -(-len(self.users) // self.packing.batch_size)


class Epoch(NamedTuple):
    """One epoch of each model: [M, S, R, L] slots, this process's share of the rows; and [M, S, B] the users of each step, ascending."""

    slots: np.ndarray
    users: np.ndarray


def make_epoch(data: TrainingData, replicas: Sequence[Replica], epoch: int) -> Epoch:
    """A function of (seed, epoch) for each replica."""
    by_seed = {}
    for seed in {replica.seed for replica in replicas}:
        rng = np.random.default_rng([seed, ORDER, epoch])
        batches = stratified_batches(
            data.histories.lengths, data.users, data.packing.batch_size, rng
        )[: data.steps_per_epoch]
        slots, _ = pack(
            data.histories,
            batches,
            data.packing,
            data.mask_at,
            (jax.process_index(), jax.process_count()),
        )
        by_seed[seed] = (
            slots,
            np.sort(np.where(batches < 0, len(data.histories.lengths), batches), axis=1),
        )
    slots, users = zip(*(by_seed[replica.seed] for replica in replicas), strict=True)
    return Epoch(np.stack(slots), np.stack(users))


class Chunk(NamedTuple):
    """Steps of an epoch, on the devices.

    Attributes:
      begin, end: which, of the epoch.
      slots: [M, S, R, L]; S may be more than end - begin.
      asked: whose query rows, or None.
    """

    begin: int
    end: int
    slots: jax.Array
    asked: AskedUsers | None


def chunks(
    data: TrainingData, epoch: Epoch, first: int, steps: int, alike: bool = False
) -> Iterator[Chunk]:
    """What the devices get of an epoch from step `first` on, so many steps at once.

    Where query tables are on the host, the rows of the chunk after the one that is given are read meanwhile.

    Args:
      data: what is trained on.
      epoch: `make_epoch`.
      first: step of the epoch; the first chunk begins with it.
      steps: of a chunk, at most.
      alike: chunks are cut from the beginning of the epoch, wherever `first` is, and have arrays of one length, the last with empty rows.
    """
    asks = {
        name: data.tables[name]
        for name in QUERY_TABLES
        if isinstance(data.tables.get(name), HostRows | ShardedRows)
    }
    read = {name: table for name, table in asks.items() if isinstance(table, HostRows)}
    if read:
        numbers = epoch.users[:, 0].size * sum(table.shape[1] for table in read.values())
        steps = max(1, min(steps, HOST_ROWS // numbers))
    total = epoch.slots.shape[1]
    if alike:
        steps = -(-total // -(-total // steps))
        first -= first % steps

    def ready(begin: int) -> Chunk:
        end = min(begin + steps, total)
        missing = begin + steps - end if alike else 0
        fill = ((0, 0), (0, missing), (0, 0))
        slots = np.pad(epoch.slots[:, begin:end], (*fill, (0, 0)), constant_values=-1)
        slots = shared_out(data.mesh, slots, axis=2, in_parts=True)
        if not asks:
            return Chunk(begin, end, slots, None)
        users = np.pad(epoch.users[:, begin:end], fill, mode="edge")
        ids = everywhere(data.mesh, users.astype(np.int32))
        if not read:
            return Chunk(begin, end, slots, AskedUsers(ids, None))
        there = np.minimum(users, len(data.histories.lengths) - 1)
        there = np.pad(there, ((0, 0), (0, 0), (0, -users.shape[2] % data.mesh.size)), mode="edge")
        rows = {name: table.on_devices(there) for name, table in read.items()}
        return Chunk(begin, end, slots, AskedUsers(ids, rows))

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(ready, first)
        for begin in range(first, total, steps):
            now = coming.result()
            if begin + steps < total:
                coming = reader.submit(ready, begin + steps)
            yield now
