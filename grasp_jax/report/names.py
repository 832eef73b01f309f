"""Labels of runs on a page: their data and the fields in which their configs differ, not their folders."""

from collections.abc import Sequence
from typing import Any

from grasp_jax.config import identity
from grasp_jax.report.runs import FinishedRun

COLUMNS = ("model.method", "model.backbone")  # which tables show in columns of their own
MOST_FIELDS, MOST_LETTERS = 3, 30


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


def _of_one_dataset(dataset: str, runs: Sequence[FinishedRun]) -> dict[str, str]:
    if len(runs) == 1:
        return {runs[0].name: dataset}
    flat = {run.name: identity(run.config) for run in runs}
    keys = list(dict.fromkeys(key for own in flat.values() for key in own))
    differing = [key for key in keys if len({str(own.get(key)) for own in flat.values()}) > 1]
    others = [key for key in differing if key not in COLUMNS]
    for chosen in (others[:MOST_FIELDS], [*others[:MOST_FIELDS], *COLUMNS]):
        labels = {
            name: ", ".join(
                [dataset, *(_shown(key, own.get(key)) for key in chosen if key in differing)]
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
