"""The rows of the study `ahead`: which runs belong to one row, and which of the settings that were tried the row has.

A run's name is STUDY-VARIANT, followed by -dropoutN or -rates if it tried other dropouts or learning rates, and by -seedN if its seeds
were trained in several runs. Rows of `grasp_plus`, of which there are many variants, are named by the variant; other rows are named by
their method.
"""

import re
from collections.abc import Sequence

import numpy as np

from benchmarks.study_labels import DEFAULT
from benchmarks.study_records import METRICS
from grasp_jax.models.methods import METHODS
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values

OURS, BASELINE = "grasp_plus", "sasrec_ce"
# Runs called `OURS` have the defaults before version 0.7: a match set with test figures in view, and IDs that start at random.
RANDOM_START = "validated_match"  # as `DEFAULT`, with IDs that start at random
LOSSES = {"bce": "BCE", "gbce": "gBCE", "softmax": "sampled softmax", "ce": "cross-entropy"}
EPOCHS = 20  # of the study's trainings by cross-entropy; rows with another number say so
Trial = tuple[str, str]  # label and loss of a row
Part = tuple[FinishedRun, str]  # a run, and the method in it
Setting = tuple[float, float]  # dropout and learning rate; 0 in runs that did not keep the rate


def label(run: FinishedRun, method: str) -> str:
    """The name of a row: the method, or for `grasp_plus` the variant in the run's name; and what is unusual in its training."""
    if method == OURS:
        variant = re.sub(r"^[a-z]+-|-(dropout|seed)\d+|-rates", "", run.name)
        return DEFAULT if variant == OURS and starts_from_text(run) else variant
    raw = run.config.get("model", {}).get("start_components") == "raw"
    return with_training(run, method) + ", raw vectors" * raw


def starts_from_text(run: FinishedRun) -> bool:
    """Whether the ID vectors of a run of `grasp_plus` start from text, as those of `DEFAULT` do."""
    return bool(run.config["model"]["plus"].get("id_start") == "text")


def with_training(run: FinishedRun, method: str) -> str:
    """The method, its weight decay if it has one, the length of its texts if that is not 1, and its number of epochs if cross-entropy
    trained it for another number than `EPOCHS`.
    """
    epochs = run.config["train"].get("max_epochs", EPOCHS)
    decay = run.config["train"].get("weight_decay", 0.0)
    other = loss(run, method) == LOSSES["ce"] and epochs != EPOCHS
    length = run.config.get("model", {}).get("row_norm", 1.0) if method != OURS else 1.0
    changes = {
        f", weight decay {decay:g}": bool(decay),
        f", texts of length {length:g}": length != 1,
        f", {epochs} epochs": other,
    }
    return method + "".join(words for words, applies in changes.items() if applies)


def loss(run: FinishedRun, method: str) -> str:
    """The loss with which a method was trained; "" if it is not trained."""
    if not METHODS[method].trained:
        return ""
    named = run.config["train"]["loss"]
    own = "ce" if method == OURS else METHODS[method].loss
    return LOSSES[own if named == "auto" else named]


def all_parts(runs: Sequence[FinishedRun]) -> dict[Trial, list[Part]]:
    """The runs of each label and loss, whatever their settings, in the order of the runs."""
    found: dict[Trial, list[Part]] = {}
    for run in runs:
        for method, _ in trials(run):
            found.setdefault((label(run, method), loss(run, method)), []).append((run, method))
    return found


def by_trial(runs: Sequence[FinishedRun]) -> dict[Trial, list[Part]]:
    """The runs of each label and loss that have the setting with the best validation score.

    A run that tried several settings only has rows of its best one, so the best of all is among those of the rows.
    """
    found = {}
    for trial, parts in all_parts(runs).items():
        best = best_setting(parts)
        found[trial] = [part for part in parts if chosen(*part) == best]
    return found


def best_setting(parts: Sequence[Part]) -> Setting:
    """Of the settings that were tested, the one with the best mean validation score over its seeds."""
    scores = tried(parts)
    return max((chosen(*part) for part in parts), key=lambda own: np.mean(scores.get(own, [0.0])))


def tried(parts: Sequence[Part]) -> dict[Setting, list[float]]:
    """The best validation NDCG@10 of each model, by setting; also of settings that were not tested."""
    found: dict[Setting, list[float]] = {}
    for run, method in parts:
        best: dict[tuple[int, Setting], float] = {}
        for record in run.epochs:
            if record["method"] == method:
                model = record["seed"], (record["dropout"], record.get("learning_rate") or 0.0)
                best[model] = max(best.get(model, 0.0), record["valid_ndcg@10"])
        for (_, setting), score in best.items():
            found.setdefault(setting, []).append(score)
    return found


def chosen(run: FinishedRun, method: str) -> Setting:
    """The setting of the models that were tested."""
    row = next(row for row in run.rows if row["method"] == method)
    return row["dropout"], row.get("learning_rate") or 0.0


def merged(runs: Sequence[FinishedRun]) -> dict[Trial, FinishedRun]:
    """The results of each label and loss, in the order of the runs; seeds of several runs are together."""
    return {trial: together(parts) for trial, parts in by_trial(runs).items()}


def together(parts: Sequence[Part]) -> FinishedRun:
    """One run with the rows and epochs of a method in several."""
    first = parts[0][0]
    rows = [row for run, method in parts for row in run.rows if row["method"] == method]
    epochs = [
        record | {"run": run.name}
        for run, method in parts
        for record in run.epochs
        if record["method"] == method
    ]
    return FinishedRun(first.name, first.config, first.results | {"rows": rows}, epochs, {}, {})


def main_metric(run: FinishedRun) -> np.ndarray:
    """[seeds] NDCG@10 without seen items, percent, of the first method of a run."""
    return values(run, *trials(run)[0], "full_unseen", "all", METRICS[0])
