"""Labels of runs on a page: their data and the fields in which their configs differ, not their folders."""

from collections.abc import Mapping, Sequence
from typing import Any

from grasp_jax.config import FIELDS, identity
from grasp_jax.evaluation.untrained import is_trained
from grasp_jax.models.methods import METHODS
from grasp_jax.report.runs import FinishedRun

COLUMNS = ("model.method", "model.backbone")  # which tables show in columns of their own
MOST_FIELDS, MOST_LETTERS = 3, 30
OWN_FIELDS = {  # prefix of fields -> beginning of the names of the methods that have them
    "model.llm_esr.": "llm_esr",
    "model.plus.": "grasp_plus",
    "model.rlmrec.": "rlmrec",
    "model.semantic_neighbours.": "semantic_neighbours",
    "model.unisrec.": "unisrec",
}


def run_labels(runs: Sequence[FinishedRun]) -> dict[str, str]:
    """Folder's name -> label, a different one for each run.

    A label is the name of the data, with the fields that differ between runs of these data; the folder's name comes only where configs
    do not tell two runs apart.
    """
    labels: dict[str, str] = {}
    for dataset in dict.fromkeys(map(dataset_of, runs)):
        own = [run for run in runs if dataset_of(run) == dataset]
        labels |= _of_one_dataset(dataset, own)
    return {run.name: labels[run.name] for run in runs}


def within(dataset: str, label: str) -> str:
    """A run's label without its dataset, as shown in parentheses after a method."""
    rest = label.removeprefix(dataset).strip(", ")
    return rest[1:-1] if rest.startswith("(") and rest.endswith(")") else rest or label


def dataset_of(run: FinishedRun) -> str:
    """The name of the run's data."""
    return str(run.rows[0]["dataset"])


def method_labels(runs: Sequence[FinishedRun]) -> dict[tuple[str, str], str]:
    """(folder's name, method) -> the method as a sentence on several runs of one dataset names it.

    In parentheses stand the fields that differ between the runs, as far as the method has them. Where these do not tell the methods of two
    runs apart, their folders' names stand there, unless the results are the same: then one name is enough.
    """
    if len(runs) == 1:
        return {(runs[0].name, method): method for method in _methods(runs[0])}
    flat = {run.name: identity(run.config) for run in runs}
    differing = [key for key in _differing(flat) if key not in COLUMNS]
    found: dict[tuple[str, str], str] = {}
    for method in dict.fromkeys(method for run in runs for method in _methods(run)):
        having = [run for run in runs if method in _methods(run)]
        keys = [key for key in differing if _has_field(method, key)][:MOST_FIELDS]
        told = {
            run.name: [_shown(key, _value(flat[run.name], key)) for key in keys] for run in having
        }
        for run in having:
            alike = [other for other in having if told[other.name] == told[run.name]]
            same = all(_results(other, method) == _results(run, method) for other in alike)
            words = ", ".join(told[run.name] if same else [*told[run.name], run.name])
            found[run.name, method] = f"{method} ({words})" if words else method
    return found


def _methods(run: FinishedRun) -> list[str]:
    """Methods of a run, also those that failed."""
    return list(dict.fromkeys(own["method"] for own in [*run.rows, *run.results["failed"]]))


def _has_field(method: str, key: str) -> bool:
    """Whether what a method computes may depend on a field of the config."""
    registered = METHODS.get(method)
    if registered is None:
        return True
    if key.startswith("by_method."):
        return key.startswith(f"by_method.{method}.")
    if owner := next((OWN_FIELDS[own] for own in OWN_FIELDS if key.startswith(own)), ""):
        return method.startswith(owner)
    if key.startswith("knowledge."):
        return registered.needs_bank
    return is_trained(method) or not key.startswith(("model.", "train."))


def _results(run: FinishedRun, method: str) -> set[tuple[Any, ...]]:
    """What a run measured of a method; the seeds of one that is not trained do not matter."""
    trained = is_trained(method)
    return {
        (row["protocol"], row["group"], row["NDCG@10"], row["MRR"])
        + ((row["backbone"], row.get("seed")) if trained else ())
        for row in run.rows
        if row["method"] == method
    }


def _differing(flat: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The fields that have several values among the identities of configs."""
    keys = dict.fromkeys(key for own in flat.values() for key in own)
    return [key for key in keys if len({str(own.get(key)) for own in flat.values()}) > 1]


def _value(own: Mapping[str, Any], key: str) -> Any:
    """The value of a field; an identity lacks a later version's field that has the value of earlier behaviour."""
    return own[key] if key in own else FIELDS[key].before if key in FIELDS else None


def _of_one_dataset(dataset: str, runs: Sequence[FinishedRun]) -> dict[str, str]:
    if len(runs) == 1:
        return {runs[0].name: dataset}
    flat = {run.name: identity(run.config) for run in runs}
    differing = _differing(flat)
    others = [key for key in differing if key not in COLUMNS]
    for chosen in (others[:MOST_FIELDS], [*others[:MOST_FIELDS], *COLUMNS]):
        labels = {
            name: ", ".join(
                [dataset, *(_shown(key, _value(own, key)) for key in chosen if key in differing)]
            )
            for name, own in flat.items()
        }
        if len(set(labels.values())) == len(runs):
            return labels
    return {name: f"{label} ({name})" for name, label in labels.items()}


def _shown(key: str, value: Any) -> str:
    """A field without its section, as in "num_neighbours 5"."""
    shown = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return f"{key.split('.', 1)[-1]} {shown[:MOST_LETTERS] or 'none'}"
