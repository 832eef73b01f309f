"""What one trial trains on: a model, and every array and shape that its steps read.

Runs, tests and benchmarks assemble their training here.
"""

import dataclasses
import itertools

import numpy as np
from jax.sharding import Mesh

from grasp_jax.config import Config
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.data.negatives import ExclusionIndex, exclusion_index
from grasp_jax.data.packing import Packing, plan_packing
from grasp_jax.data.split import Split
from grasp_jax.evaluation.evaluation_set import EvaluationSet
from grasp_jax.evaluation.protocols import UNSEEN
from grasp_jax.evaluation.seen import seen_pairs
from grasp_jax.models.batch import Tables
from grasp_jax.models.build import build_backbone, build_model
from grasp_jax.models.device_data import DeviceData, interaction_logits
from grasp_jax.models.gate_queries import query_rows
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.own_methods import check_own_model
from grasp_jax.models.projection import choose_projection
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.parallel.mesh import replicate
from grasp_jax.provenance import MadeFrom
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.losses import CATALOGUE, SHARED, choose_loss
from grasp_jax.training.optim.deferred_adam import defers
from grasp_jax.training.replay import replay_of
from grasp_jax.training.replicas import Replica
from grasp_jax.training.states import pack_all_users
from grasp_jax.training.targets import StepShape, count_targets


@dataclasses.dataclass(frozen=True)
class TrainingSources:
    """The sources of a trial's training set.

    Attributes:
      split: the histories.
      tables: frozen tables on the devices; empty for methods that read none.
      width: E of the knowledge bank, 0 without one.
      mesh: devices that share a batch.
      valid: validation users; None if there is no validation.
      made_from: fingerprints of all of this, which checkpoints store.
    """

    split: Split
    tables: Tables
    width: int
    mesh: Mesh
    valid: EvaluationSet | None
    made_from: MadeFrom | None = None


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """A model to be trained, its sizes, its replicas, and their training data."""

    model: SequenceModel
    sizes: ModelSizes
    replicas: list[Replica]
    data: TrainingData


def training_set(
    config: Config, method: str, backbone: str, sources: TrainingSources
) -> TrainingSet:
    """Assembles the training of one method on one backbone.

    Args:
      config: the config with the changes that the method makes (`config.for_method`).
      method, backbone: names in `METHODS` and `BACKBONES`.
      sources: data and knowledge.

    Raises:
      UserError: no user has two training interactions, a method from outside the package has a mistake, or `replay_of` raises it.
    """
    split, mesh = sources.split, sources.mesh
    backbone_module = build_backbone(config.model, method, backbone)
    mask_at, bidirectional = backbone_module.mask_at, backbone_module.bidirectional
    # for a bidirectional backbone the training step adds the masks
    training_mask_at = "" if bidirectional else mask_at
    index = exclusion_index(split.log, split.log.offsets[:-1], split.train.end)
    users = trainable_users(split, index, bool(mask_at and config.train.one_item_users))
    replay = replay_of(config.train, split, users)
    longest_epoch = users if replay is None else replay.longest()
    packing = plan_packing(
        split.train, longest_epoch, config.train.batch_size, training_mask_at, mesh.size
    )

    loss = METHODS[method].loss_of(config)
    shape, projection = step_shape(config, loss, packing, index, bidirectional, split.log.num_items)
    max_length = max(packing.row_length, int(split.test.lengths.max()) + 1)
    sizes = ModelSizes(
        split.log.num_items, max_length, sources.width, packing.batch_size, mesh.size
    )
    gated = METHODS[method].gated(config.model)
    data = TrainingData(
        device=device_data(
            split,
            index,
            sources.tables if gated else {},
            config.model.gate_query,
            mesh,
            by_popularity=shape.drawn != "uniform",
        ),
        tables=sources.tables,
        start=METHODS[method].start,
        histories=split.train,
        users=users,
        packing=packing,
        shape=shape,
        loss=choose_loss(loss, config.train, split.log.num_items, config.model.dtype, mesh),
        valid=sources.valid,
        all_users=pack_all_users(split.train, config.eval.user_block, mask_at, mesh)
        if METHODS[method].reads_states
        else None,
        mask_at=training_mask_at,
        mesh=mesh,
        made_from=sources.made_from,
        select=config.eval.select,
        item_block=config.eval.item_block,
        valid_seen=_seen_in_validation(config, sources),
        trained=METHODS[method].trained,
        epoch_steps=config.train.epoch_steps,
        replay=replay,
    )
    model = build_model(config.model, method, backbone, sizes, projection)
    names = (method, backbone)
    check_own_model(names, model, sizes.num_items, packing.row_length, sources.tables, gated)
    return TrainingSet(model, sizes, replicas_of(config, data.trained), data)


def _seen_in_validation(config: Config, sources: TrainingSources) -> np.ndarray | None:
    """The items that users have seen, if the protocol for comparing epochs leaves them out."""
    if sources.valid is None or config.eval.select != UNSEEN:
        return None
    return seen_pairs(sources.split.log, sources.split.valid, sources.valid.batches)


def trainable_users(split: Split, index: ExclusionIndex, one_item_users: bool) -> np.ndarray:
    """[n] int64 rows of the users in training: those who have a target and have not had every item of the catalogue.

    Raises:
      UserError: there are none.
    """
    has_negatives = np.diff(index.offsets) < split.log.num_items
    if not has_negatives.all():
        all_items = f"all {split.log.num_items} items of the catalogue"
        logger.info(
            f"{(~has_negatives).sum():,} users are not trained on, because they have had {all_items}"
        )
    has_target = split.train.lengths > (0 if one_item_users else 1)
    if not has_target.any():
        raise UserError(
            f"{split.log.name}: no user has two training interactions, so there is nothing to train on"
        )
    if not (has_target & has_negatives).any():
        raise UserError(
            f"{split.log.name}: all users with two training interactions have had every item of the catalogue, so no item is left that "
            "could be a negative; give a catalogue with more items in config.data.items_file"
        )
    return np.flatnonzero(has_target & has_negatives)


def device_data(
    split: Split,
    index: ExclusionIndex,
    gate_tables: Tables,
    gate_query: str,
    mesh: Mesh,
    by_popularity: bool = False,
) -> DeviceData:
    """Flat interactions and exclusion index on the devices and, if there are gates, the pair logits of every interaction.

    With `by_popularity` also the numbers of training interactions of the items, by which negatives are drawn.
    """
    log = split.log
    queries = query_rows(gate_query, log, np.arange(log.num_interactions), log.users)
    flat = {"items": log.items, "users": log.users, "queries": queries}
    excluded = {"excluded": index.shifted, "excluded_offsets": index.offsets}
    arrays = flat | excluded
    if by_popularity:
        arrays["popularity"] = np.cumsum(split.item_counts, dtype=np.int32)
    device = DeviceData(**replicate(mesh, arrays), logits=None)
    if gate_tables:
        logits = interaction_logits(gate_tables, device.queries, device.items)
        device = device._replace(logits=replicate(mesh, logits))
    return device


def step_shape(
    config: Config,
    loss: str,
    packing: Packing,
    index: ExclusionIndex,
    bidirectional: bool,
    num_items: int,
) -> tuple[StepShape, str]:
    """The static shape of a step, and how it projects items: "token" or "table"."""
    model, train = config.model, config.train
    mask_rate = model.mask_rate if bidirectional else 0.0
    last_only, shared = train.targets == "last", loss in SHARED
    num_targets = count_targets(packing, mask_rate, last_only)
    catalogue = loss == CATALOGUE  # reads every item
    drawn = train.negatives_drawn if loss == "softmax" else "uniform"
    negatives = train.shared_negatives if shared else 0 if catalogue else train.negatives
    negatives = num_targets if drawn == "in_batch" else negatives
    logq = train.logq == "on" or (train.logq == "auto" and drawn != "uniform")
    num_ids = packing.num_rows * packing.row_length + (
        negatives if shared else num_targets * negatives
    )
    projection = "table" if catalogue else model.projection
    if projection == "auto":
        projection = choose_projection(num_items, num_ids)
    every_place = packing.shares > 1 and not bidirectional and not last_only
    # With weight decay every row changes in every step, and deferred rows are updated with a single learning rate.
    can_defer = not train.weight_decay and not train.decay_epochs
    deferred = projection == "token" and defers(num_items, num_ids) and can_defer
    shape = StepShape(
        num_items=num_items,
        search_steps=index.search_steps,
        num_targets=num_targets,
        negatives=negatives,
        mask_rate=mask_rate,
        mask_noise=model.mask_noise,
        shared=shared,
        last_only=last_only,
        deferred=deferred,
        every_place=every_place,
        catalogue=catalogue,
        drawn=drawn,
        logq=logq and loss == "softmax",
    )
    return shape, projection


def replicas_of(config: Config, trained: bool = True) -> list[Replica]:
    """Every combination of seed, dropout and learning rate; if the method is not trained, only the first dropout and learning rate."""
    rates = [*itertools.product(config.train.learning_rate, config.model.dropout)]
    if not trained:
        rates = rates[:1]
    return [Replica(seed, dropout, rate) for rate, dropout in rates for seed in config.train.seeds]
