"""The input of all implementations: one log, four random tables, the same users in the same batches, packed or padded."""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config import Config
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Split
from grasp_jax.knowledge.bank import TABLES
from grasp_jax.models.batch import Tables
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.training_set import TrainingSet, TrainingSources, training_set

SEED, DROPOUT = 0, 0.2
LEARNING_RATE = 1e-3  # of Adam, in every implementation


class PaddedBatch(NamedTuple):
    """A batch in the usual padded form: left-aligned, filled with zeros.

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
    """B users a step, E, L, D, the width H of the MLP's hidden layer, the type of the frozen tables, and the backbone's layers."""

    batch_size: int = 128
    width: int = 1536
    max_length: int = 100
    features: int = 64
    hidden: int = 256
    table_dtype: str = "float32"
    layers: int = 2

    @property
    def bytes_per_row(self) -> int:
        """Bytes of a user or an item in its two tables."""
        return 2 * self.width * jnp.dtype(self.table_dtype).itemsize


SHAPES = {"beauty": Sizes(), "industry": Sizes(width=4096, table_dtype="bfloat16")}
QUICK = Sizes(batch_size=16, width=64, max_length=20, features=16, hidden=32, layers=1)


def config_of(sizes: Sizes) -> Config:
    """The package's defaults with these sizes."""
    return Config().with_fields(
        {
            "data.max_length": sizes.max_length,
            "model.features": sizes.features,
            "model.mlp": sizes.hidden,
            "model.num_layers": sizes.layers,
            "model.row_norm": float(
                np.sqrt(sizes.width)
            ),  # scores are of order one from the start, so that a parity check can fail
            "model.dropout": DROPOUT,
            "train": {
                "batch_size": sizes.batch_size,
                "seeds": SEED,
                "learning_rate": LEARNING_RATE,
            },
        }
    )


def temporary_bytes(compiled: Any) -> int | None:
    """Bytes of temporaries of a compiled function, if the device reports them."""
    memory = compiled.memory_analysis()
    return None if memory is None else memory.temp_size_in_bytes


def device_memory() -> int:
    """Bytes of the device's memory; on a CPU the free bytes."""
    if stats := jax.local_devices()[0].memory_stats():
        return stats["bytes_limit"]
    lines = pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def memory_beside_tables(compiled: Any, tables: Tables) -> int | None:
    """Bytes of arguments and temporaries of a compiled function that reads the frozen tables, without the tables."""
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    return (
        memory.temp_size_in_bytes
        + memory.argument_size_in_bytes
        - sum(table.nbytes for table in tables.values())
    )


def random_tables(log: InteractionLog, width: int, dtype: str = "float32") -> Tables:
    """Frozen tables of random unit rows, on the device."""

    @functools.partial(jax.jit, static_argnums=1)
    def unit_rows(key: jax.Array, rows: int) -> jax.Array:
        table = jax.random.normal(key, (rows, width), dtype)
        return table / jnp.linalg.norm(table.astype(jnp.float32), axis=1, keepdims=True).astype(
            dtype
        )

    rows = {name: log.num_users if name.startswith("users") else log.num_items for name in TABLES}
    return {name: unit_rows(jax.random.key(k), rows[name]) for k, name in enumerate(TABLES)}


def sharpened(tables: Tables, width: int) -> Tables:
    """The same tables with user rows of length E, so that pair logits are of order one and a wrong gate shows in the loss."""
    return {
        name: table * width if name.startswith("users") else table for name, table in tables.items()
    }


def training_of(
    config: Config, split: Split, tables: Tables, method: str = "grasp", backbone: str = "sasrec"
) -> TrainingSet:
    """The training of a run of the config, with these tables and without validation users; models without text get no tables."""
    width = tables["items"].shape[1] if tables else 0
    return training_set(
        config.for_method(method),
        method,
        backbone,
        TrainingSources(split, tables, width, make_mesh(), valid=None),
    )


def fewer_users(split: Split, count: int) -> Split:
    """The same split with `count` of the training users, chosen at random."""
    train = split.train
    kept = np.random.default_rng(0).permutation(np.flatnonzero(train.lengths > 1))[:count]
    end = train.start.copy()
    end[kept] = train.end[kept]
    return dataclasses.replace(split, train=dataclasses.replace(train, end=end))


def pad_batch(
    log: InteractionLog, data: TrainingData, slots: np.ndarray, negatives: np.ndarray, length: int
) -> PaddedBatch:
    """The users of one packed batch, padded.

    Args:
      slots: [R, L'] of the packed batch.
      negatives: [R, L'] item rows drawn for it; each stays with its user.
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
    return PaddedBatch(
        padded_users, items[:, :-1], items[:, 1:], np.where(mask, sampled[:, :-1], 0), mask
    )
