"""Packed rows for the timing of kernels: batches of paper Beauty, or of synthetic histories with its lengths."""

import dataclasses

import numpy as np

from benchmarks import lengths
from grasp_jax.data.packing import pack, plan_packing, stratified_batches
from grasp_jax.data.split import leave_one_out

PASSES = ("evaluation", "training")  # forward; forward and backward


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes: B users of at most L items, S batches in one dispatch, D features in n heads; and the number of timed rounds."""

    users: int
    items: int
    batch_size: int = 128
    max_length: int = 100
    features: int = 64
    heads: tuple[int, ...] = (1, 4)
    steps: int = 16
    rounds: int = 15


PAPER = Sizes(lengths.BEAUTY_USERS, lengths.BEAUTY_ITEMS)
QUICK = Sizes(
    users=60, items=100, batch_size=8, max_length=20, features=16, heads=(2,), steps=2, rounds=2
)


def packed_segments(data: str, sizes: Sizes) -> tuple[str, np.ndarray]:
    """The log's name, and [S, R, L'] segments of the first batches of an epoch."""
    log = lengths.load_log(data, sizes.users, sizes.items)
    histories = leave_one_out(log, sizes.max_length).train
    users = np.flatnonzero(histories.lengths > 1)
    packing = plan_packing(histories, users, sizes.batch_size)
    batches = stratified_batches(
        histories.lengths, users, packing.batch_size, np.random.default_rng(0)
    )
    slots, _ = pack(histories, batches[: sizes.steps], packing)
    return log.name, np.where(slots >= 0, log.users[slots], -1).astype(np.int32)
