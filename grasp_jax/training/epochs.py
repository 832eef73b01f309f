"""What training reads, and in which order: epochs of packed batches, and chunks of many steps that are sent to the devices together.

The order of the data is a function of (seed, epoch) alone. Each process packs the rows of its own devices.
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
from grasp_jax.evaluation.evaluation_set import EvaluationSet
from grasp_jax.models.batch import Tables
from grasp_jax.models.device_data import QUERY_TABLES, DeviceData, QueryUsers
from grasp_jax.parallel.mesh import make_mesh, replicate, shard
from grasp_jax.parallel.rows import HostRows, ShardedRows
from grasp_jax.provenance import MadeFrom
from grasp_jax.training.losses import Loss
from grasp_jax.training.replay import Replay
from grasp_jax.training.replicas import Replica
from grasp_jax.training.states import AllUsers
from grasp_jax.training.targets import StepShape

ORDER = 3  # purpose of the random stream for shuffling
# largest number of entries of query tables on the host that a chunk reads; the entries of two chunks are in memory
HOST_ENTRIES = 1 << 24


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The data on which one method with one backbone is trained and validated.

    Attributes:
      device: the interactions, on every device.
      tables: the method's frozen tables; empty for methods that read none.
      start: `Method.start`, which changes the random initial parameters.
      histories: the training windows.
      users: [n] rows of the users in training.
      packing: how their histories are packed into batches.
      shape: static numbers that a step is compiled for.
      loss: one of `training.losses`.
      valid: the validation set; None: training lasts `train.max_epochs` epochs, and the last one counts as the best.
      all_users: histories of all users, for methods that read the states of others.
      mask_at: where packed histories have an additional mask; for a bidirectional backbone the training step adds the masks.
      mesh: devices that share a batch and that have all arrays.
      made_from: describes all of this (`provenance`); stored with checkpoints.
      select: the protocol (`evaluation.protocols`) whose NDCG@10 decides between epochs.
      item_block: number of items that are scored at once if the whole catalogue is ranked.
      valid_seen: `evaluation.seen_pairs` of the validation set, which "full_unseen" leaves out; None for other protocols.
      trained: `Method.trained`, whether there are parameters to learn.
      epoch_steps: largest number of steps in an epoch; 0: as many as read all users of the epoch once.
      replay: the users of an epoch; None: all of `users`.
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
    all_users: AllUsers | None = None
    mask_at: str = ""
    mesh: Mesh = dataclasses.field(default_factory=make_mesh)
    made_from: MadeFrom | None = None
    select: str = "sampled100"
    item_block: int = 4096
    valid_seen: np.ndarray | None = None
    trained: bool = True
    epoch_steps: int = 0
    replay: Replay | None = None

    @property
    def steps_per_epoch(self) -> int:
        """S: the number of batches that contain each user of an epoch once, or `epoch_steps` if that is smaller."""
        full = self.full_epoch_steps
        return min(full, self.epoch_steps or full)

    @property
    def full_epoch_steps(self) -> int:
        """The number of batches that contain each user of an epoch once."""
        users = len(self.users) if self.replay is None else self.replay.size
        return -(-users // self.packing.batch_size)

    @property
    def full_epoch_tokens(self) -> int:
        """Interactions of the users of an epoch; with `replay` a mean."""
        lengths = self.histories.lengths
        return (
            int(lengths[self.users].sum()) if self.replay is None else self.replay.tokens(lengths)
        )


class Epoch(NamedTuple):
    """One epoch of each model: [M, S, R, L] slots, this process's share of the rows; and [M, S, B] the users of each step, ascending."""

    slots: np.ndarray
    users: np.ndarray


def make_epoch(data: TrainingData, replicas: Sequence[Replica], epoch: int) -> Epoch:
    """The epoch of each replica, which is a function of its seed and of the number of the epoch."""
    by_seed = {}
    for seed in {replica.seed for replica in replicas}:
        rng = np.random.default_rng([seed, ORDER, epoch])
        users = data.users if data.replay is None else data.replay.users(rng)
        batches = stratified_batches(data.histories.lengths, users, data.packing.batch_size, rng)[
            : data.steps_per_epoch
        ]
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
      begin, end: range of the steps within the epoch.
      slots: [M, S, R, L]; S may be more than end - begin.
      query_users: the users whose query rows the steps need, or None.
    """

    begin: int
    end: int
    slots: jax.Array
    query_users: QueryUsers | None


def chunks(
    data: TrainingData, epoch: Epoch, first: int, steps: int, equal_sizes: bool = False
) -> Iterator[Chunk]:
    """Yields the steps of an epoch from step `first` on, in chunks for the devices.

    If query tables are on the host, the rows of the next chunk are read while the devices work on the present one.

    Args:
      data: the training data.
      epoch: the result of `make_epoch`.
      first: the step of the epoch with which the first chunk begins.
      steps: largest number of steps in a chunk.
      equal_sizes: whether all chunks have the same number of steps, counted from the beginning of the epoch whatever `first` is; the last
        chunk is padded with steps of empty rows.
    """
    query_tables = {
        name: data.tables[name]
        for name in QUERY_TABLES
        if isinstance(data.tables.get(name), HostRows | ShardedRows)
    }
    host_tables = {
        name: table for name, table in query_tables.items() if isinstance(table, HostRows)
    }
    if host_tables:
        entries_of_step = epoch.users[:, 0].size * sum(
            table.shape[1] for table in host_tables.values()
        )
        steps = max(1, min(steps, HOST_ENTRIES // entries_of_step))
    total = epoch.slots.shape[1]
    if equal_sizes:
        steps = -(-total // -(-total // steps))
        first -= first % steps

    def load(begin: int) -> Chunk:
        end = min(begin + steps, total)
        missing = begin + steps - end if equal_sizes else 0
        padding = ((0, 0), (0, missing), (0, 0))
        slots = np.pad(epoch.slots[:, begin:end], (*padding, (0, 0)), constant_values=-1)
        slots = shard(data.mesh, slots, axis=2, process_local=True)
        if not query_tables:
            return Chunk(begin, end, slots, None)
        users = np.pad(epoch.users[:, begin:end], padding, mode="edge")
        ids = replicate(data.mesh, users.astype(np.int32))
        if not host_tables:
            return Chunk(begin, end, slots, QueryUsers(ids, None))
        existing = np.minimum(users, len(data.histories.lengths) - 1)
        padding = ((0, 0), (0, 0), (0, -users.shape[2] % data.mesh.size))
        existing = np.pad(existing, padding, mode="edge")
        rows = {name: table.on_devices(existing) for name, table in host_tables.items()}
        return Chunk(begin, end, slots, QueryUsers(ids, rows))

    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(load, first)
        for begin in range(first, total, steps):
            chunk = pending.result()
            if begin + steps < total:
                pending = reader.submit(load, begin + steps)
            yield chunk
