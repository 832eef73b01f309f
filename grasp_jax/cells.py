"""A cell of a run, one method on one backbone: made, trained, and found again on disk."""

import dataclasses
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config import of_method
from grasp_jax.data.negatives import exclusion_index
from grasp_jax.data.packing import plan_packing
from grasp_jax.errors import UserError
from grasp_jax.experiment import Experiment
from grasp_jax.knowledge.queries import query_rows
from grasp_jax.models.device_data import DeviceData, interaction_logits
from grasp_jax.models.methods import METHODS
from grasp_jax.models.projection import choose_projection
from grasp_jax.models.recommender import BACKBONES, Recommender, build_recommender, has_gates
from grasp_jax.parallel.mesh import everywhere
from grasp_jax.parallel.processes import PREEMPTION
from grasp_jax.provenance import difference
from grasp_jax.training.checkpoint import Checkpoints, check_made_from, find_model
from grasp_jax.training.deferred_adam import defers
from grasp_jax.training.early_stopping import as_progress
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.loop import Snapshot, initial_snapshot, train
from grasp_jax.training.losses import SHARED, choose_loss
from grasp_jax.training.members import Member
from grasp_jax.training.start_from import check_basis, earlier_banks, earlier_rows, read_earlier, start_from
from grasp_jax.training.states import pack_all_users
from grasp_jax.training.targets import StepShape, count_targets


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method on one backbone, with everything it is trained and evaluated on."""

    method: str
    backbone: str
    model: Recommender
    members: list[Member]
    data: TrainingData
    folder: pathlib.Path

    @property
    def name(self) -> tuple[str, str]:
        return self.method, self.backbone

    @property
    def labels(self) -> dict[str, str]:
        return {"method": self.method, "backbone": self.backbone}


def make_cell(experiment: Experiment, method: str, backbone: str) -> Cell:
    """Model and data of one method on one backbone."""
    config, split, tables = of_method(experiment.config, method), experiment.split, experiment.tables(method)
    bidirectional = BACKBONES[backbone].bidirectional
    mask_at = experiment.mask_at(method, backbone)
    training_mask_at = "" if bidirectional else mask_at  # a bidirectional backbone gets its masks in the step
    index = exclusion_index(split.log, split.log.offsets[:-1], split.train.end)
    has_negatives = np.diff(index.offsets) < split.log.num_items
    if not has_negatives.all():
        print(f"{(~has_negatives).sum():,} users are not trained on, for they have had all {split.log.num_items} items of the catalogue")
    users = np.flatnonzero((split.train.lengths > (0 if mask_at and config.train.one_item_users else 1)) & has_negatives)
    if not len(users):
        raise UserError(f"{split.log.name}: no user has two training interactions, so there is nothing to train on")
    mesh = experiment.mesh
    packing = plan_packing(split.train, users, config.train.batch_size, training_mask_at, mesh.size)
    queries = query_rows(config.model.gate_query, split.log, np.arange(split.log.num_interactions), split.log.users)
    flat = {"items": split.log.items, "users": split.log.users, "queries": queries}
    device = DeviceData(**everywhere(mesh, {**flat, "excluded": index.shifted, "excluded_offsets": index.offsets}), logits=None)
    if has_gates(tables):
        device = device._replace(logits=everywhere(mesh, interaction_logits(tables, device.queries, device.items)))
    mask_rate = config.model.mask_rate if bidirectional else 0.0
    last_only = config.train.targets == "last"
    num_targets = count_targets(packing, mask_rate, last_only)
    loss = METHODS[method].loss if config.train.loss == "auto" else config.train.loss
    shared = loss in SHARED
    negatives = config.train.shared_negatives if shared else config.train.negatives
    num_ids = packing.num_rows * packing.row_length + (negatives if shared else num_targets * negatives)
    projection = config.model.projection
    if projection == "auto":
        projection = choose_projection(split.log.num_items, num_ids)
    deferred = projection == "token" and defers(split.log.num_items, num_ids)
    longest = max(packing.row_length, int(split.test.lengths.max()) + 1)
    width = experiment.bank.width if experiment.bank else 0
    model = build_recommender(
        config.model, method, backbone, split.log.num_items, longest, width, projection, packing.batch_size, mesh.size
    )  # fmt: skip
    rates = itertools.product(config.train.learning_rate, config.model.dropout)
    members = [Member(seed, dropout, learning_rate) for learning_rate, dropout in rates for seed in config.train.seeds]
    shape = StepShape(
        split.log.num_items, index.search_steps, num_targets, negatives, mask_rate, config.model.mask_noise, shared, last_only, deferred,
        packing.batch_size, mesh.size > 1 and not bidirectional and not last_only and not config.model.gate_dropout,
    )  # fmt: skip
    data = TrainingData(
        device,
        tables,
        METHODS[method].start,
        split.train,
        users,
        packing,
        shape,
        choose_loss(loss, config.train, split.log.num_items),
        experiment.evaluation_set("valid", method, backbone, config.eval.valid_users),
        pack_all_users(split.train, config.eval.user_block, mask_at, mesh) if METHODS[method].reads_states else None,
        training_mask_at,
        mesh,
        experiment.made_from(method),
    )
    return Cell(method, backbone, model, members, data, experiment.workdir / "checkpoints" / f"{method}-{backbone}")


def train_cell(experiment: Experiment, cell: Cell) -> Snapshot:
    """Trains a cell, or finds it trained."""
    config = of_method(experiment.config, cell.method).train
    initial = initial_snapshot(cell.model, cell.members, cell.data)
    if config.start_from and Checkpoints(cell.folder / "last").newest() is None:
        workdir = pathlib.Path(config.start_from).expanduser()
        earlier = read_earlier(workdir, cell.folder.name, experiment.allow_older)
        rows = earlier_rows(experiment.split.log.item_ids, earlier.item_ids)
        if METHODS[cell.method].needs_bank and experiment.bank is not None:
            check_basis(earlier, experiment.bank, earlier_banks(workdir), rows)
        params = everywhere(cell.data.mesh, start_from(initial.state.params, earlier, rows))
        initial = initial._replace(state=initial.state._replace(params=params), best_params=jax.tree.map(jnp.copy, params))
        print(f"{cell.folder.name}: starts from {workdir}, which knows {(rows >= 0).sum():,} of {len(rows):,} items")
    check_made_from(cell.folder, cell.data.made_from or {})
    experiment.claim()
    with PREEMPTION.saving():
        return train(config, cell.model, cell.members, cell.data, initial, cell.folder, experiment.records, cell.labels)


def trained_cell(experiment: Experiment, cell: Cell) -> Snapshot:
    """A trained cell from its checkpoints.

    Raises:
      UserError: nothing was trained in this workdir; or it was trained on something else; or the newest model is damaged.
    """
    found = find_model(cell.folder, experiment.allow_older)
    if found is None:
        raise UserError(f"{cell.folder}: no checkpoint; run --mode=train with the same --workdir first")
    if reason := difference(found.manifest["made_from"], experiment.made_from(cell.method)):
        raise UserError(f"{found.folder / str(found.step)}: this model is of another run: {reason}; use another --workdir")
    checkpoints = Checkpoints(found.folder)
    tree = Snapshot(*checkpoints.read(found.step, initial_snapshot(cell.model, cell.members, cell.data)))
    checkpoints.close()
    return tree._replace(progress=as_progress(tree.progress))
