"""Whether a run fits this machine: arithmetic on the config and the data, before hours of preparation or an allocation that fails.

What is counted is needed by any way of computing the run, so a refusal is certain; what passes may still be too much (`--mode=plan` says
more). Numbers are four bytes. `planning.step` counts a step array by array, and was compared with what XLA says.
"""

import math
import os
from typing import NamedTuple

import jax
import numpy as np

from grasp_jax.config import Config, names, value_of
from grasp_jax.config.model import QUERIES_BY_INTERACTION, QUERIES_OF_BANK
from grasp_jax.core.errors import UserError
from grasp_jax.data.split import Split
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.methods.llminit import too_few_components
from grasp_jax.training.losses import CATALOGUE, SHARED

FLOAT = 4  # bytes of float32 and int32
MOST_ROWS = 2**31 - 1  # places of interactions and rows of queries are int32
OF_TRAINING = 5  # float arrays as large as the parameters: they, their gradient, Adam's two moments, and the best so far


class Need(NamedTuple):
    """The bytes of an allocation, and the fields that decide its size."""

    what: str
    bytes: float
    fields: tuple[str, ...]


def check_sizes(
    config: Config,
    split: Split,
    width: int,
    memory: float | None = None,
    host_memory: float | None = None,
) -> None:
    """Refuses a run that does not fit this machine, naming the field to lower.

    Args:
      config: of the run; each of its methods is looked at.
      split: the data.
      width: E of the knowledge bank, 0 without one or if it is not known.
      memory: bytes of all devices of the run together; None: as the devices report it; a CPU has the memory of its machine.
      host_memory: bytes of this machine; None: as it reports them.

    Raises:
      UserError: more interactions and users than `MOST_ROWS`, more shared negatives than there are items, or more memory than there is.
    """
    rows = split.log.num_interactions + split.log.num_users
    if rows > MOST_ROWS:
        raise UserError(
            f"{split.log.name}: {split.log.num_interactions:,} interactions of {split.log.num_users:,} users; expected at most "
            f"{MOST_ROWS:,} of both together, because places of interactions are 32-bit integers: leave the oldest interactions out of the "
            "file, or raise config.data.min_rating"
        )
    items = split.log.num_items
    memory = memory_of_devices(devices_of(config)) if memory is None else memory
    host_memory = memory_of_host() if host_memory is None else host_memory
    for method in names(config.model.method):
        own = config.for_method(method)
        loss = METHODS[method].loss_of(own)
        if draws_shared(loss, own) and own.train.shared_negatives > items:
            raise UserError(
                f"config.train.shared_negatives: {own.train.shared_negatives}, which {method} draws for its loss {loss}; expected at most "
                f"{items}, the number of items"
            )
        needs = [*evaluation_needs(own, split), *training_needs(own, split, method, width)]
        largest = max(needs, key=lambda need: need.bytes)
        if largest.bytes > memory:
            field = _field_to_lower(own, largest.fields)
            raise UserError(
                f"config.{field}: {value_of(own, field)!r} makes {largest.what} of {method} {_gigabytes(largest.bytes)}; expected at most "
                f"{_gigabytes(memory)}, because there is no more memory: lower it"
            )
        queries = query_bytes(own, split, method, width)
        if queries > host_memory:
            raise UserError(
                f"config.model.gate_query: {own.model.gate_query!r} makes the query tables of {method} {_gigabytes(queries)}; expected at "
                f"most {_gigabytes(host_memory)}, the memory of this machine: use 'neighbours', which needs no tables of its own"
            )


def check_components(config: Config, num_items: int, width: int) -> None:
    """Refuses more features than the text vectors have principal components, for methods whose ID vectors start from these.

    Args:
      config: of the run; each of its methods is looked at, unless training starts from an earlier run, which has the components.
      num_items: V.
      width: E of the knowledge bank, or the most that it can be.

    Raises:
      UserError: naming the method and the largest number of features.
    """
    for method in names(config.model.method):
        own = config.for_method(method)
        model = own.model
        entry = METHODS[method]
        if own.train.start_from or entry.pads_start or not entry.starts_from_text(model):
            continue
        of_bank = model.start_components != "raw"  # else the encoder decides how many numbers
        most = width if of_bank else num_items
        if model.features > min(num_items, most):
            raise too_few_components(model.features, num_items, most, method)


def devices_of(config: Config) -> int:
    """The number of devices of a run; those of all processes, if the config leaves the mesh at 1 x 1."""
    asked = config.mesh.data * config.mesh.table
    return jax.device_count() if asked == 1 and jax.process_count() > 1 else asked


def memory_of_devices(count: int) -> float:
    """The memory of so many devices in bytes; CPU devices share that of the machine."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None
    return float(count * limit) if limit else memory_of_host()


def memory_of_host() -> float:
    """The memory of this machine in bytes."""
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def query_bytes(config: Config, split: Split, method: str, width: int) -> float:
    """Bytes on the host of the two query tables that `models.gate_queries` computes; 0 where gates read the rows of the bank."""
    kind, log = config.model.gate_query, split.log
    if not METHODS[method].gated(config.model) or kind in QUERIES_OF_BANK:
        return 0.0
    rows = log.num_users + (log.num_interactions if kind in QUERIES_BY_INTERACTION else 0)
    return 2.0 * rows * width * FLOAT


def evaluation_needs(config: Config, split: Split) -> list[Need]:
    """The allocations of ranking, at least."""
    users, items, part = len(split.test.evaluated), split.log.num_items, config.eval
    block = min(part.user_block, split.log.num_users)
    longest = int(split.test.lengths.max(initial=1))
    return [
        Need("the stored negatives", users * part.num_negatives * FLOAT, ("eval.num_negatives",)),
        # Scores of a block of users and items, where the whole catalogue is ranked or recommended from.
        Need(
            "a block of scores",
            block * min(part.item_block, items) * FLOAT,
            ("eval.user_block", "eval.item_block"),
        ),
        # The vectors of those users' histories, packed without padding.
        Need(
            "a block of histories",
            block * min(_mean(split.test.lengths), longest) * config.model.features * FLOAT,
            ("eval.user_block",),
        ),
    ]


def training_needs(config: Config, split: Split, method: str, width: int) -> list[Need]:
    """The allocations of a training step, at least, for all models that are trained together."""
    model, train, items = config.model, config.train, split.log.num_items
    replicas = len(train.seeds) * len(train.learning_rate) * len(model.dropout)
    lengths = split.train.lengths
    batch = min(train.batch_size, split.log.num_users)
    # of a batch: all batches have about the same number, so packed rows hold the mean
    tokens = batch * _mean(lengths)
    places = batch * model.padded_length if model.padded_length else tokens
    loss = METHODS[method].loss_of(config)
    steps = min(train.steps_per_dispatch, math.ceil(split.log.num_users / batch))
    # Arrays of D numbers that the backward pass reads again of a place and layer; of a backbone from outside nothing is known.
    per_block = {
        "sasrec": 6 * model.num_layers,
        "bert4rec": 6 * model.num_layers,
        "gru4rec": 3 * model.gru_layers,
    }
    backbone = max(per_block.get(name, 0) for name in names(model.backbone))
    sizes = (
        "train.batch_size",
        "data.max_length",
        "model.features",
        "model.num_layers",
        "model.gru_layers",
        "model.padded_length",
    )
    of_replicas = ("train.seeds", "train.learning_rate", "model.dropout")
    if loss == CATALOGUE:  # vectors of all items and their gradient
        logits = Need(
            "the vectors of all items",
            replicas * 2 * items * model.features * FLOAT,
            ("model.features", *of_replicas),
        )
    elif loss in SHARED:  # a logit of every target and shared negative
        logits = Need(
            "a step's scores",
            replicas
            * tokens
            * (train.shared_negatives if draws_shared(loss, config) else 1)
            * FLOAT,
            ("train.shared_negatives", "train.batch_size"),
        )
    else:  # the id of each negative of each target
        logits = Need(
            "a step's negatives",
            replicas * tokens * train.negatives * FLOAT,
            ("train.negatives", "train.batch_size"),
        )
    return [
        Need(
            "parameters",
            OF_TRAINING * replicas * parameters(config, method, width, items) * FLOAT,
            ("model.features", "model.mlp", "model.num_layers", "model.gru_layers", *of_replicas),
        ),
        Need(
            "a step's hidden states",
            replicas * backbone * places * model.features * FLOAT,
            (*sizes, *of_replicas),
        ),
        logits,
        # Which interactions each step of a dispatch reads; drawn for each model on its own.
        Need(
            "a dispatch's batches",
            replicas * steps * tokens * FLOAT,
            ("train.steps_per_dispatch", "train.batch_size", *of_replicas),
        ),
    ]


def draws_shared(loss: str, config: Config) -> bool:
    """Whether a batch draws `train.shared_negatives`."""
    in_batch = loss == "softmax" and config.train.negatives_drawn == "in_batch"
    return loss in SHARED and not in_batch


def parameters(config: Config, method: str, width: int, items: int) -> float:
    """Numbers of one model, at least: item vectors or the MLP that makes them from text, and the largest of its backbones."""
    model, features = config.model, config.model.features
    # Six matrices of D x D a layer: four of attention and two of its MLP, or a GRU's two times three.
    layers = {"sasrec": model.num_layers, "bert4rec": model.num_layers, "gru4rec": model.gru_layers}
    blocks = [6 * features**2 * layers.get(name, 0) for name in names(model.backbone)]
    return METHODS[method].item_parameters(model, ModelSizes(items, 0, width)) + max(blocks)


def _mean(lengths: np.ndarray) -> float:
    return float(lengths[lengths > 0].mean()) if (lengths > 0).any() else 1.0


def _field_to_lower(config: Config, fields: tuple[str, ...]) -> str:
    """The field that is furthest above its default."""
    defaults = Config()
    return max(fields, key=lambda field: _size(field, config) / max(1.0, _size(field, defaults)))


def _size(field: str, config: Config) -> float:
    value = value_of(config, field)
    return float(
        sum(value) if field == "model.mlp" else len(value) if isinstance(value, tuple) else value
    )


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
