"""A cell of a run, one method on one backbone: made, trained, evaluated, and found again on disk."""

import dataclasses
import itertools
import json
import pathlib
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config import of_method
from grasp_jax.data.negatives import exclusion_index
from grasp_jax.data.packing import plan_packing
from grasp_jax.errors import UserError
from grasp_jax.evaluation.catalogue import seen_pairs
from grasp_jax.evaluation.examples import example_users, examples, target_gates
from grasp_jax.evaluation.metrics import group_rows
from grasp_jax.evaluation.questions import EvaluationSet
from grasp_jax.evaluation.ranking import full_ranks, sampled_ranks
from grasp_jax.evaluation.significance import ndcg_gains
from grasp_jax.experiment import Experiment
from grasp_jax.files import write_text
from grasp_jax.knowledge.corruption import USERS, corrupted_rows
from grasp_jax.knowledge.prompts import item_titles
from grasp_jax.knowledge.queries import query_rows
from grasp_jax.machine import commit
from grasp_jax.models.device_data import DeviceData, interaction_logits
from grasp_jax.models.methods import METHODS
from grasp_jax.models.projection import choose_projection
from grasp_jax.models.recommender import BACKBONES, Recommender, build_recommender, has_gates
from grasp_jax.parallel.mesh import everywhere
from grasp_jax.parallel.processes import PREEMPTION, is_first, meet
from grasp_jax.progress import progress_bar
from grasp_jax.training.checkpoint import Checkpoints
from grasp_jax.training.deferred_adam import defers
from grasp_jax.training.early_stopping import as_progress
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.loop import Snapshot, initial_snapshot, train
from grasp_jax.training.losses import SHARED, choose_loss
from grasp_jax.training.members import Member, one_of
from grasp_jax.training.start_from import earlier_rows, start_from
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


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Test results of one cell.

    Attributes:
      rows: of `results.json`, for both protocols, all groups and each seed.
      gains: per protocol [n] NDCG@10 of each user, mean over seeds; methods of one run have the same users in the same order.
    """

    rows: list[dict[str, Any]]
    gains: dict[str, np.ndarray]


def preferred_members(members: list[Member], best: np.ndarray) -> list[int]:
    """Indices of the members with the dropout and the learning rate that validation prefers, one for each seed.

    Args:
      members: all that were trained.
      best: [M] best validation NDCG@10 of each; the mean over seeds decides.
    """
    scores: dict[tuple[float, float], list[float]] = {}
    for member, score in zip(members, best, strict=True):
        scores.setdefault((member.dropout, member.learning_rate), []).append(float(score))
    preferred = max(scores, key=lambda rates: np.mean(scores[rates]))
    return [m for m, member in enumerate(members) if (member.dropout, member.learning_rate) == preferred]


def make_cell(experiment: Experiment, method: str, backbone: str) -> Cell:
    """Model and data of one method on one backbone."""
    config, split, tables = of_method(experiment.config, method), experiment.split, experiment.tables(method)
    bidirectional = BACKBONES[backbone].bidirectional
    mask_at = experiment.mask_at(method, backbone)
    training_mask_at = "" if bidirectional else mask_at  # a bidirectional backbone gets its masks in the step
    users = np.flatnonzero(split.train.lengths > (0 if mask_at and config.train.one_item_users else 1))
    if not len(users):
        raise UserError(f"{split.log.name}: no user has two training interactions, so there is nothing to train on")
    mesh = experiment.mesh
    packing = plan_packing(split.train, users, config.train.batch_size, training_mask_at, mesh.size)
    index = exclusion_index(split.log, split.log.offsets[:-1], split.train.end)
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
    )
    return Cell(method, backbone, model, members, data, experiment.workdir / "checkpoints" / f"{method}-{backbone}")


def train_cell(experiment: Experiment, cell: Cell) -> Snapshot:
    """Trains a cell, or finds it trained."""
    config = of_method(experiment.config, cell.method).train
    initial = initial_snapshot(cell.model, cell.members, cell.data)
    if config.start_from and Checkpoints(cell.folder / "last").latest() is None:
        earlier, item_ids = pathlib.Path(config.start_from), experiment.split.log.item_ids
        rows = earlier_rows(item_ids, earlier)
        params = start_from(initial.state.params, earlier / "checkpoints" / cell.folder.name, rows)
        params = everywhere(cell.data.mesh, params)
        initial = initial._replace(state=initial.state._replace(params=params), best_params=jax.tree.map(jnp.copy, params))
        print(f"{cell.folder.name}: starts from {earlier}, which knows {(rows >= 0).sum():,} of {len(rows):,} items")
    with PREEMPTION.saving():
        return train(config, cell.model, cell.members, cell.data, initial, cell.folder, experiment.records, cell.labels)


def trained_cell(experiment: Experiment, cell: Cell) -> Snapshot:
    """A trained cell from its checkpoints.

    Raises:
      UserError: nothing was trained in this workdir.
    """
    like = initial_snapshot(cell.model, cell.members, cell.data)
    for name in ("best", "last"):
        if (cell.folder / name).is_dir() and (restored := Checkpoints(cell.folder / name).restore(like)):
            tree = Snapshot(*restored[1])
            return tree._replace(progress=as_progress(tree.progress))
    raise UserError(f"{cell.folder}: no checkpoint; run --mode=train with the same --workdir first")


def evaluate_cell(experiment: Experiment, cell: Cell, snapshot: Snapshot) -> Evaluated:
    """Test results of a cell by both protocols; rows, ranks, examples and gates are stored in the workdir."""
    config, split = experiment.config, experiment.split
    test = experiment.evaluation_set("test", cell.method, cell.backbone)
    ranking = test if config.eval.full else None
    if config.eval.full and config.eval.full_users:
        ranking = experiment.evaluation_set("test", cell.method, cell.backbone, config.eval.full_users)
    seen = seen_pairs(split.log, split.test, ranking.batches) if ranking is not None and config.eval.exclude_seen else None
    rows: list[dict[str, Any]] = []
    for m in preferred_members(cell.members, snapshot.progress.best):
        member = cell.members[m]
        params = one_of(snapshot.best_params, m)
        labels = {
            "dataset": split.log.name,
            **cell.labels,
            "seed": member.seed,
            "dropout": member.dropout,
            "learning_rate": member.learning_rate,
            "best_epoch": int(snapshot.progress.best_epoch[m]),
            "split": "test",
            "commit": commit(),
        }
        ranks = {"sampled100": (test, sampled_ranks(cell.model, params, cell.data.device, cell.data.tables, test))}
        if ranking is not None:
            with progress_bar(len(ranking.users), f"{cell.method}: full ranking", "user") as bar:
                full = full_ranks(cell.model, params, cell.data.device, cell.data.tables, ranking, config.eval.item_block, seen, bar.update)
            ranks["full"] = (ranking, full)
        for protocol, (evaluation, values) in ranks.items():
            if is_first():
                _store_ranks(experiment, _ranks_file(experiment, *cell.name, member.seed, protocol), evaluation, values)
            rows += group_rows(values, evaluation.users, evaluation.targets, experiment.groups, {**labels, "protocol": protocol})
        _store_looks(experiment, cell, params, test, member.seed)
    if is_first():
        write_text(_cell_file(experiment, *cell.name), json.dumps(rows, indent=1) + "\n")
    meet(f"evaluated {cell.name}")
    return _read_cell(experiment, *cell.name)


def finished_cell(experiment: Experiment, method: str, backbone: str) -> Evaluated | None:
    """What an earlier call of the same run measured of a cell; None where nothing readable is left, so that it is measured again."""
    try:
        return _read_cell(experiment, method, backbone)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _read_cell(experiment: Experiment, method: str, backbone: str) -> Evaluated:
    rows = json.loads(_cell_file(experiment, method, backbone).read_text(encoding="utf-8"))
    gains: dict[str, list[np.ndarray]] = {}
    for row in rows:
        if row["group"] == "all":
            with np.load(_ranks_file(experiment, method, backbone, row["seed"], row["protocol"]), allow_pickle=False) as stored:
                gains.setdefault(row["protocol"], []).append(ndcg_gains(stored["rank"]))
    return Evaluated(rows, {protocol: np.mean(seeds, axis=0) for protocol, seeds in gains.items()})


def _store_looks(experiment: Experiment, cell: Cell, params: Any, test: EvaluationSet, seed: int) -> None:
    """Example recommendations and gates, for a report; of a config's first seed."""
    if seed != of_method(experiment.config, cell.method).train.seeds[0]:
        return
    split, log = experiment.split, experiment.split.log
    titles = item_titles(items) if (items := experiment.dataset.texts.items) else [str(item) for item in log.item_ids]
    gates = target_gates(cell.model, params, test)
    shown = examples(
        cell.model, params, cell.data.device, cell.data.tables, split, example_users(split, experiment.config.eval.seed),
        experiment.queries(cell.method, split.test.end), titles, gates,
    )  # fmt: skip
    if not is_first():
        return
    name = f"{cell.method}-{cell.backbone}"
    write_text(experiment.workdir / "examples" / f"{name}.json", json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
    if gates is not None:
        hit = corrupted_rows(experiment.config.knowledge.corruption, log.num_users, USERS)[test.users]
        path = experiment.workdir / "gates" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, user=log.user_ids[test.users], gates=gates.astype(np.float32), corrupted=hit)


def _store_ranks(experiment: Experiment, path: pathlib.Path, evaluation: EvaluationSet, ranks: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, user=experiment.split.log.user_ids[evaluation.users], rank=ranks)


def _cell_file(experiment: Experiment, method: str, backbone: str) -> pathlib.Path:
    return experiment.workdir / "cells" / f"{method}-{backbone}.json"


def _ranks_file(experiment: Experiment, method: str, backbone: str, seed: int, protocol: str) -> pathlib.Path:
    return experiment.workdir / "ranks" / f"{method}-{backbone}-seed{seed}-{protocol}.npz"
