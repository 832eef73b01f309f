"""Results of a trial: measured, stored with their provenance, and read again."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import checksums, first_damaged, write_arrays, write_sealed, write_text
from grasp_jax.core.log import logger
from grasp_jax.core.machine import commit
from grasp_jax.core.progress import progress_bar
from grasp_jax.evaluation.audience import Audience, Wanted, best_items
from grasp_jax.evaluation.evaluation_set import EvaluationSet
from grasp_jax.evaluation.examples import ExampleUsers, example_users, examples, target_gates
from grasp_jax.evaluation.metrics import group_rows, ndcg_gains
from grasp_jax.evaluation.protocols import FULL, SAMPLED, UNSEEN
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.evaluation.ranking import FullRanks, full_ranks, sampled_ranks
from grasp_jax.evaluation.ranking_metrics import Metric, Ranking, length_of_lists, measured
from grasp_jax.evaluation.seen import seen_pairs
from grasp_jax.evaluation.stored import StoredNegatives
from grasp_jax.knowledge.corruption import USERS, corrupted_rows
from grasp_jax.parallel.processes import barrier, is_main_process
from grasp_jax.provenance import difference
from grasp_jax.training.checkpoint import find_model, hash_of_model
from grasp_jax.training.snapshot import Snapshot
from grasp_jax.trials.evaluation_sets import evaluation_of
from grasp_jax.trials.run import Run
from grasp_jax.trials.trial import (
    Trial,
    checkpoint_folder,
    is_unfinished,
    preferred_replicas,
    validation_scores,
)
from grasp_jax.workdir import read_trial_file, trial_file, trial_name

Ranks = dict[str, tuple[EvaluationSet, np.ndarray]]  # by protocol
AGAIN = (
    "run --mode=evaluate --config.model.method={} --config.model.backbone={} to measure it again"
)


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Test results of one trial.

    Attributes:
      rows: of `results.json`, for every protocol, all groups and each seed.
      gains: per protocol [S, n] NDCG@10 of each seed and user; methods of one run have the same users in the same order.
      training: of the models that were tested: "epoch", how many they were trained for, "max_epochs", and "unfinished", whether the
        training could go on; empty if an earlier version tested them.
    """

    rows: list[dict[str, Any]]
    gains: dict[str, np.ndarray]
    training: dict[str, Any] = dataclasses.field(default_factory=dict)


def evaluate_trial(trial: Trial, snapshot: Snapshot) -> Evaluated:
    """Test results of a trial by every protocol; rows, ranks, examples and gates are stored in the workdir.

    Raises:
      UserError: there are no test interactions.
    """
    run = trial.run
    test = evaluation_of(trial.prepared, "test", trial.method, trial.backbone)
    ranking, config = test if run.config.eval.full else None, run.config.eval
    if config.full and config.full_users:
        ranking = evaluation_of(
            trial.prepared, "test", trial.method, trial.backbone, config.full_users
        )
    rows: list[dict[str, Any]] = []
    seen = _seen(trial, ranking) if ranking is not None else None
    for replica in preferred_replicas(trial.replicas, validation_scores(trial, snapshot)):
        ranker, seed = trial.ranker(snapshot, replica), trial.replicas[replica].seed
        labels = row_labels(trial, snapshot, replica)
        ranks: Ranks = {SAMPLED: (test, sampled_ranks(ranker, test))}
        if ranking is not None and seen is not None:
            found = _full(trial, ranker, ranking, seen)
            ranks |= {FULL: (ranking, found.full), UNSEEN: (ranking, found.unseen)}
        for protocol, (evaluation, values) in ranks.items():
            if is_main_process():
                users = run.split.log.user_ids[evaluation.users]
                write_arrays(_ranks_file(run, trial.name, seed, protocol), user=users, rank=values)
            own = {**labels, "protocol": protocol}
            rows += group_rows(values, evaluation.users, evaluation.targets, run.groups, own)
        if seed == trial.config.train.seeds[0]:
            _store_examples(trial, ranker, test)
    if is_main_process():
        _store_rows(trial, snapshot, rows)
    barrier(f"evaluated {trial.name}")
    return _read(run, trial.method, trial.backbone)[0]


def row_labels(trial: Trial, snapshot: Snapshot, replica: int) -> dict[str, Any]:
    """What identifies the result rows of a replica."""
    of_replica = trial.replicas[replica]
    return {
        "dataset": trial.run.split.log.name,
        **trial.job.labels,
        "seed": of_replica.seed,
        "dropout": of_replica.dropout,
        "learning_rate": of_replica.learning_rate,
        "best_epoch": int(snapshot.progress.best_epoch[replica]),
        "split": "test",
        "commit": commit(),
    }


def _seen(trial: Trial, ranking: EvaluationSet) -> np.ndarray:
    """[S, J, 2] the items that test users have had before the target."""
    split = trial.run.split
    return seen_pairs(split.log, split.test, ranking.batches)


def _full(trial: Trial, ranker: Ranker, ranking: EvaluationSet, seen: np.ndarray) -> FullRanks:
    """Ranks among all items, and among those that users have not had."""
    item_block = trial.run.config.eval.item_block
    with progress_bar(
        len(ranking.users), f"{trial.method}: full ranking", "user", trial=trial.label
    ) as bar:
        return full_ranks(ranker, ranking, item_block, seen, bar.update)


def _store_rows(trial: Trial, snapshot: Snapshot, rows: list[dict[str, Any]]) -> None:
    run = trial.run
    made = {_ranks_file(run, trial.name, row["seed"], row["protocol"]) for row in rows}
    made |= {path for path in _example_files(run, trial.name) if path.exists()}
    names = sorted(path.relative_to(run.workdir).as_posix() for path in made)
    most = trial.config.train.max_epochs
    content = {
        "made_from": results_made_from(
            run, trial.method, trial.backbone, hash_of_model(snapshot.best_params)
        ),
        "rows": rows,
        "training": {
            "epoch": int(snapshot.progress.epoch),
            "max_epochs": most,
            "unfinished": is_unfinished(trial, snapshot),
        },
        "epochs": run.records.checksum(trial.job.labels),
        "files": checksums(run.workdir, names),
    }
    write_sealed(trial_file(run.workdir, trial.method, trial.backbone), content)


def results_made_from(run: Run, method: str, backbone: str, model: str | None) -> dict[str, Any]:
    """The provenance of the results of a method on a backbone; `model` is the hash of its best parameters, None if unknown."""
    negatives = StoredNegatives(run.workdir / "candidates" / "test.npy", {})
    stored = {"negatives": negatives.checksum()} if negatives.path.exists() else {}
    return run.made_from(method, backbone) | ({} if model is None else {"model": model}) | stored


def finished(run: Run, method: str, backbone: str, model: str | None = None) -> Evaluated | None:
    """The results of a trial that an earlier call of the same run stored.

    Args:
      run: the run.
      method, backbone: of the trial.
      model: hash of the best parameters that the trial has now; None: as its newest checkpoint says, if there is one.

    Returns:
      None where it was never measured, or is to be measured again: its files are damaged, which is said, or were made from something else.
    """
    path, at_hand = trial_file(run.workdir, method, backbone), model is not None
    if not path.exists():
        return None
    try:
        evaluated, stored = _read(run, method, backbone)
        made_from = stored["made_from"]
        if model is None and (
            found := find_model(checkpoint_folder(run.workdir, method, backbone), run.allow_older)
        ):
            model = found.manifest.get("model")
        wanted = results_made_from(run, method, backbone, model)
        if model is None:
            made_from = {name: value for name, value in made_from.items() if name != "model"}
        reason = (
            difference(made_from, wanted)
            or _lacking(run, evaluated, made_from, at_hand)
            or _continued(run, method, backbone, stored)
        )
    except UserError as error:
        reason = str(error)
    if reason:
        logger.warning(
            f"{path}: these results are not used: {reason}; {AGAIN.format(method, backbone)}"
        )
        return None
    return evaluated


def _lacking(run: Run, evaluated: Evaluated, made_from: dict[str, Any], at_hand: bool) -> str:
    """The reason why results of an earlier version lack protocols of this version, or could have more if the model is available."""
    if made_from.get("config", {}).get("eval.exclude_seen"):
        return f"an earlier version called {FULL} what is {UNSEEN} now"
    if (
        at_hand
        and run.config.eval.full
        and FULL in evaluated.gains
        and UNSEEN not in evaluated.gains
    ):
        return f"an earlier version did not rank by {UNSEEN}"
    return ""


def _continued(run: Run, method: str, backbone: str, stored: dict[str, Any]) -> str:
    """The reason why results say that a training has not ended that has gone on since; even if no later epoch was better."""
    labels = {"method": method, "backbone": backbone}
    if stored.get("training", {}).get("unfinished") and stored["epochs"] != run.records.checksum(
        labels
    ):
        return "the training has gone on since then"
    return ""


def extra_rows(
    trial: Trial, snapshot: Snapshot, metrics: Sequence[str | Metric]
) -> list[dict[str, Any]]:
    """Rows of further metrics of all users by both full rankings, one each for every seed; none without metrics.

    Raises:
      UserError: there is no such metric.
    """
    if not metrics:
        return []
    run, config = trial.run, trial.run.config.eval
    test = evaluation_of(trial.prepared, "test", trial.method, trial.backbone, config.full_users)
    rows, seen = [], _seen(trial, test)
    for replica in preferred_replicas(trial.replicas, validation_scores(trial, snapshot)):
        ranker = trial.ranker(snapshot, replica)
        found = _full(trial, ranker, test, seen)
        for protocol, ranks in ((FULL, found.full), (UNSEEN, found.unseen)):
            top = _top_of(trial, ranker, test, exclude_seen=protocol == UNSEEN)
            ranking = Ranking(ranks, test.users, test.targets, run.split.item_counts, top)
            labels = row_labels(trial, snapshot, replica)
            labels |= {"protocol": protocol, "group": "all", "n": len(ranks)}
            rows.append(labels | measured(ranking, metrics, taken=(*labels, "MRR")))
    return rows


def _top_of(
    trial: Trial, ranker: Ranker, test: EvaluationSet, exclude_seen: bool
) -> Callable[[int], np.ndarray]:
    """`Ranking.top`: k -> [n, k] items with the best scores for test users."""
    run, config = trial.run, trial.run.config.eval
    queries = run.queries(trial.method, run.split.test.end)
    audience = Audience(ranker, run.split.log, queries, run.split.test, trial.prepared.mesh)
    blocks = config.user_block, config.item_block

    @functools.cache
    def computed(k: int) -> np.ndarray:
        # the target stays among the candidates, as it does for its rank
        wanted = Wanted(k, exclude_seen, None, None, *blocks, kept=test.targets)
        found = np.zeros((len(test.users), k), np.int64)
        for lists in best_items(audience, test.users, wanted):
            ends = np.cumsum(lists.counts)
            for place, count, end in zip(lists.people, lists.counts, ends, strict=True):
                own = lists.items[end - count : end]
                # a shorter list repeats its items, which adds none to the count
                found[place] = np.resize(own, k)
        found.flags.writeable = False  # the next metric gets the same array
        return found

    return lambda k: computed(length_of_lists(k, ranker.num_items))


def _read(run: Run, method: str, backbone: str) -> tuple[Evaluated, dict[str, Any]]:
    """Results of a trial, and the content of its file.

    Raises:
      UserError: a file is damaged.
    """
    stored = read_trial_file(trial_file(run.workdir, method, backbone))
    if damage := first_damaged(run.workdir, stored["files"]):
        raise UserError(damage)
    gains: dict[str, list[np.ndarray]] = {}
    for row in stored["rows"]:
        if row["group"] == "all":
            with np.load(
                _ranks_file(run, trial_name(method, backbone), row["seed"], row["protocol"]),
                allow_pickle=False,
            ) as ranks:
                gains.setdefault(row["protocol"], []).append(ndcg_gains(ranks["rank"]))
    by_seed = {protocol: np.stack(seeds) for protocol, seeds in gains.items()}
    return Evaluated(stored["rows"], by_seed, stored.get("training", {})), stored


def _store_examples(trial: Trial, ranker: Ranker, test: EvaluationSet) -> None:
    """Example recommendations and gates, for a report."""
    run = trial.run
    split, log = run.split, run.split.log
    gates = target_gates(ranker, test)
    queries = run.queries(trial.method, split.test.end)
    shown = ExampleUsers(example_users(split, run.config.eval.seed), queries, run.dataset.titles)
    found = examples(ranker, split, shown, gates)
    if not is_main_process():
        return
    of_examples, of_gates = _example_files(run, trial.name)
    write_text(of_examples, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if gates is not None:
        hit = corrupted_rows(run.config.knowledge.corruption, log.num_users, USERS)[test.users]
        write_arrays(
            of_gates, user=log.user_ids[test.users], gates=gates.astype(np.float32), corrupted=hit
        )


def _example_files(run: Run, name: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Example recommendations, and gates where the method has them."""
    return run.workdir / "examples" / f"{name}.json", run.workdir / "gates" / f"{name}.npz"


def _ranks_file(run: Run, name: str, seed: int, protocol: str) -> pathlib.Path:
    return run.workdir / "ranks" / f"{name}-seed{seed}-{protocol}.npz"
