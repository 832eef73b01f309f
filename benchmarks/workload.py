"""The work that all implementations are given: one log, four random tables, the same users in the same batches, packed or padded."""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config import default_config
from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.negatives import exclusion_index
from grasp_jax.data.packing import Packing, plan_packing
from grasp_jax.data.split import Split
from grasp_jax.knowledge.bank import TABLES
from grasp_jax.models.device_data import DeviceData, interaction_logits
from grasp_jax.models.methods.method import as_initialised
from grasp_jax.models.projection import choose_projection
from grasp_jax.models.recommender import Tables, has_gates
from grasp_jax.training.deferred_adam import defers
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.losses import binary_cross_entropy
from grasp_jax.training.targets import StepShape

LEARNING_RATE = 1e-3  # of Adam, in every implementation


class PaddedBatch(NamedTuple):
    """A batch as textbook code wants it, left-aligned and padded with zeros.

    Attributes:
      users: [B] user rows.
      history: [B, L] item rows, input of the sequence.
      positive: [B, L] the item after each.
      negative: [B, L] one sampled item for each.
      mask: [B, L] whether the position has a next item.
    """

    users: Any
    history: Any
    positive: Any
    negative: Any
    mask: Any


class Sizes(NamedTuple):
    """B users a step, E, L, D, the width H of the MLP's hidden layer, and the type of the frozen tables."""

    batch_size: int = 128
    width: int = 1536
    max_length: int = 100
    features: int = 64
    hidden: int = 256
    table_dtype: str = "float32"

    @property
    def bytes_per_row(self) -> int:
        """Of a user or an item, in its two tables."""
        return 2 * self.width * jnp.dtype(self.table_dtype).itemsize


SHAPES = {"beauty": Sizes(), "industry": Sizes(width=4096, table_dtype="bfloat16")}
QUICK = Sizes(batch_size=16, width=64, max_length=20, features=16, hidden=32)


def config_of(sizes: Sizes) -> ConfigDict:
    """The package's defaults with these sizes."""
    config = default_config()
    config.data.max_length = sizes.max_length
    config.model.features, config.model.mlp = sizes.features, (sizes.hidden,)
    config.model.row_norm = float(np.sqrt(sizes.width))  # scores of order one from the start
    config.train.batch_size = sizes.batch_size
    return config


def temporary_bytes(compiled: Any) -> int | None:
    """Temporaries of a compiled function, where the device tells."""
    memory = compiled.memory_analysis()
    return None if memory is None else memory.temp_size_in_bytes


def device_memory() -> int:
    """Bytes of the device; on a CPU those that are free."""
    if stats := jax.local_devices()[0].memory_stats():
        return stats["bytes_limit"]
    lines = pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def memory_beside_tables(compiled: Any, tables: Tables) -> int | None:
    """Bytes of arguments and temporaries of a compiled function that takes the frozen tables, less the tables."""
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    return memory.temp_size_in_bytes + memory.argument_size_in_bytes - sum(table.nbytes for table in tables.values())


def random_tables(log: InteractionLog, width: int, dtype: str = "float32") -> Tables:
    """Frozen tables of random unit rows, on the device."""

    @functools.partial(jax.jit, static_argnums=1)
    def unit_rows(key: jax.Array, rows: int) -> jax.Array:
        table = jax.random.normal(key, (rows, width), dtype)
        return table / jnp.linalg.norm(table.astype(jnp.float32), axis=1, keepdims=True).astype(dtype)

    rows = {name: log.num_users if name.startswith("users") else log.num_items for name in TABLES}
    return {name: unit_rows(jax.random.key(k), rows[name]) for k, name in enumerate(TABLES)}


def sharpened(data: TrainingData, width: int) -> TrainingData:
    """The same data with user rows of length E, so that pair logits are of order one and a wrong gate shows in the loss."""
    tables = {name: table * width if name.startswith("users") else table for name, table in data.tables.items()}
    return with_tables(data, tables)


def with_tables(data: TrainingData, tables: Tables) -> TrainingData:
    """`data` with other tables and the pair logits that follow from them."""
    logits = jnp.asarray(interaction_logits(tables, data.device.users, data.device.items)) if has_gates(tables) else None
    device = data.device._replace(logits=logits)
    return dataclasses.replace(data, device=device, tables=tables)


def training_data(split: Split, tables: Tables, batch_size: int) -> TrainingData:
    """What `grasp_jax.training.loop` trains on; no tables for models without text, one negative a position, and no validation set."""
    log = split.log
    users = np.flatnonzero(split.train.lengths > 1)
    index = exclusion_index(log, log.offsets[:-1], split.train.end)
    device = DeviceData(
        items=jnp.asarray(log.items),
        users=jnp.asarray(log.users),
        logits=None,
        excluded=jnp.asarray(index.shifted),
        excluded_offsets=jnp.asarray(index.offsets),
    )
    packing = plan_packing(split.train, users, batch_size)
    num_ids = ids_of_a_step(packing)
    deferred = choose_projection(log.num_items, num_ids) == "token" and defers(log.num_items, num_ids)  # as `grasp_jax.cells` chooses
    shape = StepShape(log.num_items, index.search_steps, packing.num_pairs, negatives=1, deferred=deferred)
    valid: Any = None
    data = TrainingData(device, tables, as_initialised, split.train, users, packing, shape, binary_cross_entropy, valid)
    return with_tables(data, tables)


def ids_of_a_step(packing: Packing) -> int:
    """Item ids that a step looks up: every place of its packed rows, and a negative for each pair."""
    return packing.num_rows * packing.row_length + packing.num_pairs


def fewer_users(data: TrainingData, count: int, batch_size: int) -> TrainingData:
    """The same data with `count` of its users, chosen at random, in rows planned for them."""
    users = np.sort(np.random.default_rng(0).permutation(data.users)[:count])
    packing = plan_packing(data.histories, users, batch_size)
    shape = data.shape._replace(num_targets=packing.num_pairs)
    return dataclasses.replace(data, users=users, packing=packing, shape=shape)


def pad_batch(log: InteractionLog, data: TrainingData, slots: np.ndarray, negatives: np.ndarray, length: int) -> PaddedBatch:
    """The users of one packed batch, padded.

    Args:
      slots: [R, L'] of the packed batch.
      negatives: [R, L'] item rows drawn for it; a user's go with the user.
      length: L.

    Returns:
      NumPy arrays with B rows; a place without a user is masked throughout.
    """
    filled = slots >= 0
    place = slots[filled]
    users, rows = np.unique(log.users[place], return_inverse=True)
    positions = place - data.histories.start[log.users[place]]
    items = np.zeros((data.packing.batch_size, length + 1), np.int32)
    sampled = np.zeros_like(items)
    items[rows, positions] = log.items[place]
    sampled[rows, positions] = negatives[filled]
    lengths = np.bincount(rows, minlength=len(items))
    mask = np.arange(length) < lengths[:, None] - 1
    padded_users = np.zeros(len(items), np.int32)
    padded_users[: len(users)] = users
    return PaddedBatch(padded_users, items[:, :-1], items[:, 1:], np.where(mask, sampled[:, :-1], 0), mask)
