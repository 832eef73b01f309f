"""Models on the small log, each with a packed batch and targets, for the tests of a training step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config import ModelConfig
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.models.batch import PackedBatch, Targets
from grasp_jax.models.device_data import DeviceData, gather_batch
from grasp_jax.models.frozen import frozen_query_tables
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.targets import StepShape, draw_targets
from tests.assembly import assembled, sharpened
from tests.random_params import random_params

BATCH, NEGATIVES, LENGTH = 6, 3, 8  # a length shorter than the longest histories
MODELS = {
    "plain": ("plain", (), "paper"),
    "linear": ("grasp", (), "paper"),
    "hidden": ("grasp", (10,), "learned"),
    "softmax": ("grasp", (), "softmax"),
    "llm_esr": ("llm_esr", (), "paper"),
    "plus": ("grasp_plus", (10,), "none"),
    "gated plus": ("grasp_plus", (10,), "learned"),
    "towers": ("grasp_plus", (10,), "none"),
}


class Setting(NamedTuple):
    """A model on the small log, and one packed batch of it."""

    split: Split
    shape: StepShape
    data: DeviceData
    tables: dict[str, jax.Array]
    model: SequenceModel
    params: Any
    slots: np.ndarray  # [S, R, L], two epochs
    batch: PackedBatch
    targets: Targets


def make_setting(log: InteractionLog, tables_of_bank: dict[str, jax.Array], name: str) -> Setting:
    """The model of this name of `MODELS`."""
    method, mlp, gate = MODELS[name]
    bank = {name: np.asarray(table) for name, table in sharpened(tables_of_bank, 6).items()}
    split = leave_one_out(log, LENGTH)
    fields = {
        "features": 6,
        "num_layers": 1,
        "mlp": mlp,
        "gate": gate,
        "plus.gate": gate,
        "plus.fusion": "late" if name == "towers" else "early",
        "llm_esr.similar_users": 3,
    }
    config = ModelConfig().with_fields(fields)
    declared = [*METHODS[method].tables(bank, Facts(config, split.item_counts, split=split))]
    declared += frozen_query_tables("user", bank, split) if METHODS[method].gated(config) else []
    tables = {table.name: jnp.asarray(table.rows) for table in declared}
    train = {"loss": "bce", "batch_size": BATCH, "negatives": NEGATIVES}
    fields["projection"] = "token"
    made = assembled(
        log,
        tables,
        method,
        "sasrec",
        {"data.max_length": LENGTH, "model": fields, "train": train},
    )
    slots = np.concatenate(
        [make_epoch(made.data, made.replicas, epoch).slots[0] for epoch in range(2)]
    )
    batch = jax.jit(gather_batch)(made.data.device, jnp.asarray(slots[0]))
    targets = draw_batch(made.data.shape)(jax.random.key(7), 0, made.data.device, batch)
    params = random_params(made.model, tables, batch)
    return Setting(
        split,
        made.data.shape,
        made.data.device,
        tables,
        made.model,
        params,
        slots,
        batch,
        targets,
    )


def draw_batch(shape: StepShape) -> Any:
    """Compiled `draw_targets`."""
    return jax.jit(lambda key, step, data, batch: draw_targets(key, step, data, batch, shape)[1])
