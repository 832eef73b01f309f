"""Results of a cell: measured, stored with what they were made from, and found again."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from grasp_jax.cells import Cell
from grasp_jax.config import of_method
from grasp_jax.errors import UserError
from grasp_jax.evaluation.catalogue import seen_pairs
from grasp_jax.evaluation.examples import example_users, examples, target_gates
from grasp_jax.evaluation.metrics import group_rows
from grasp_jax.evaluation.questions import EvaluationSet
from grasp_jax.evaluation.ranking import full_ranks, sampled_ranks
from grasp_jax.evaluation.significance import ndcg_gains
from grasp_jax.evaluation.stored import StoredNegatives
from grasp_jax.experiment import Experiment
from grasp_jax.files import checksums, first_damaged, write_arrays, write_sealed, write_text
from grasp_jax.knowledge.corruption import USERS, corrupted_rows
from grasp_jax.knowledge.prompts import item_titles
from grasp_jax.machine import commit
from grasp_jax.parallel.processes import is_first, meet
from grasp_jax.progress import progress_bar
from grasp_jax.provenance import difference
from grasp_jax.training.checkpoint import find_model, hash_of_model
from grasp_jax.training.loop import Snapshot
from grasp_jax.training.members import Member, one_of
from grasp_jax.workdir import read_cell_file


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
        made_from = results_made_from(experiment, cell.method, hash_of_model(snapshot.best_params))
        names = sorted(path.relative_to(experiment.workdir).as_posix() for path in _files_of(experiment, cell, rows))
        epochs = experiment.records.checksum(cell.labels)
        content = {"made_from": made_from, "rows": rows, "epochs": epochs, "files": checksums(experiment.workdir, names)}
        write_sealed(cell_file(experiment.workdir, *cell.name), content)
    meet(f"evaluated {cell.name}")
    return _read_cell(experiment, *cell.name)[0]


def _files_of(experiment: Experiment, cell: Cell, rows: list[dict[str, Any]]) -> set[pathlib.Path]:
    """What was written besides the rows."""
    ranks = {_ranks_file(experiment, *cell.name, row["seed"], row["protocol"]) for row in rows}
    looks = {path for path in _looks_files(experiment, *cell.name) if path.exists()}
    return ranks | looks


def results_made_from(experiment: Experiment, method: str, model: str | None) -> dict[str, Any]:
    """What results of a method are made from; `model` is the hash of its best parameters, None where that is not known."""
    negatives = StoredNegatives(experiment.workdir / "candidates" / "test.npy", {})
    stored = {"negatives": negatives.checksum()} if negatives.path.exists() else {}
    return experiment.made_from(method) | ({} if model is None else {"model": model}) | stored


def finished_cell(experiment: Experiment, method: str, backbone: str, model: str | None = None) -> Evaluated | None:
    """What an earlier call of the same run measured of a cell.

    Args:
      model: hash of the best parameters that the cell has now; None: as its newest checkpoint says, if there is one.

    Returns:
      None where it was never measured, or is to be measured again: its files are damaged, which is said, or were made from something else.
    """
    path = cell_file(experiment.workdir, method, backbone)
    if not path.exists():
        return None
    again = f"run --mode=evaluate --config.model.method={method} --config.model.backbone={backbone} to measure it again"
    try:
        evaluated, made_from = _read_cell(experiment, method, backbone)
        if model is None and (found := find_model(experiment.workdir / "checkpoints" / f"{method}-{backbone}", experiment.allow_older)):
            model = found.manifest["model"]
        wanted = results_made_from(experiment, method, model)
        if model is None:
            made_from = {name: value for name, value in made_from.items() if name != "model"}
        reason = difference(made_from, wanted)
    except UserError as error:
        reason = str(error)
    if reason:
        print(f"{path}: these results are not used: {reason}; {again}", flush=True)
        return None
    return evaluated


def _read_cell(experiment: Experiment, method: str, backbone: str) -> tuple[Evaluated, dict[str, Any]]:
    """Results and what they were made from.

    Raises:
      UserError: a file is damaged.
    """
    stored = read_cell_file(cell_file(experiment.workdir, method, backbone))
    if damage := first_damaged(experiment.workdir, stored["files"]):
        raise UserError(damage)
    gains: dict[str, list[np.ndarray]] = {}
    for row in stored["rows"]:
        if row["group"] == "all":
            with np.load(_ranks_file(experiment, method, backbone, row["seed"], row["protocol"]), allow_pickle=False) as ranks:
                gains.setdefault(row["protocol"], []).append(ndcg_gains(ranks["rank"]))
    return Evaluated(stored["rows"], {protocol: np.mean(seeds, axis=0) for protocol, seeds in gains.items()}), stored["made_from"]


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
    of_examples, of_gates = _looks_files(experiment, *cell.name)
    write_text(of_examples, json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
    if gates is not None:
        hit = corrupted_rows(experiment.config.knowledge.corruption, log.num_users, USERS)[test.users]
        write_arrays(of_gates, user=log.user_ids[test.users], gates=gates.astype(np.float32), corrupted=hit)


def _looks_files(experiment: Experiment, method: str, backbone: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Example recommendations, and gates where the method has them."""
    return experiment.workdir / "examples" / f"{method}-{backbone}.json", experiment.workdir / "gates" / f"{method}-{backbone}.npz"


def _store_ranks(experiment: Experiment, path: pathlib.Path, evaluation: EvaluationSet, ranks: np.ndarray) -> None:
    write_arrays(path, user=experiment.split.log.user_ids[evaluation.users], rank=ranks)


def cell_file(workdir: pathlib.Path, method: str, backbone: str) -> pathlib.Path:
    """Where the results of a cell are."""
    return workdir / "cells" / f"{method}-{backbone}.json"


def _ranks_file(experiment: Experiment, method: str, backbone: str, seed: int, protocol: str) -> pathlib.Path:
    return experiment.workdir / "ranks" / f"{method}-{backbone}-seed{seed}-{protocol}.npz"
