"""What tables of a report are made of: values of seeds, captions for papers, and CSV with full precision."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grasp_jax.evaluation.results import varies
from grasp_jax.evaluation.untrained import is_trained, shown_backbone, without_repeats
from grasp_jax.report.runs import FinishedRun

MISSING = "-"


def trials(run: FinishedRun) -> list[tuple[str, str]]:
    """(method, backbone) of a run, in its order; an untrained method only once."""
    return without_repeats((row["method"], row["backbone"]) for row in run.rows)


def values(
    run: FinishedRun, method: str, backbone: str, protocol: str, group: str, metric: str
) -> np.ndarray:
    """[seeds] percent; empty where nothing was measured."""
    return 100 * np.array(
        [row[metric] for row in _rows(run, method, backbone, protocol) if row["group"] == group]
    )


def chosen_rates(run: FinishedRun, method: str, backbone: str, protocol: str) -> tuple[str, str]:
    """Dropout and learning rate that validation chose for a trial, as text; `MISSING` where it has none."""
    found = []
    for key in ("dropout", "learning_rate"):
        rates = [row.get(key) for row in _rows(run, method, backbone, protocol)]
        numbers = [rate for rate in rates if isinstance(rate, (int, float)) and is_trained(method)]
        found.append(f"{numbers[0]:g}" if numbers else MISSING)
    return found[0], found[1]


def caption(run: FinishedRun, protocol: str, bold: bool = True) -> str:
    """What a paper must say of the numbers: their spread, what is bold, how many seeds and users; without a full stop.

    Args:
      run: the run.
      protocol: whose numbers the table has.
      bold: whether the table marks the best values.
    """
    rows = [row for row in run.rows if (row["protocol"], row["group"]) == (protocol, "all")]
    counts = {
        len(values(run, *trial, protocol, "all", "NDCG@10"))
        for trial in trials(run)
        if is_trained(trial[0])
    } - {0}
    parts = []
    if counts:
        fewest, most = min(counts), max(counts)
        number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        word = "seed" if most == 1 else "seeds"
        parts.append(f"{number} {word} of each trained method")
        if most > 1:
            parts[-1] += "; ± is the standard deviation over seeds, with n - 1"
    if bold:
        parts.append("Bold: the best of a column among the methods on one backbone")
    if users := {row["n"] for row in rows if "n" in row}:
        parts.append(f"{max(users):,} test users")
    return ". ".join(parts)


def seeds_data(
    run: FinishedRun, protocol: str, columns: Sequence[tuple[str, str, str]]
) -> list[list[str | float]]:
    """Header and rows of a CSV file: of each trial its seeds, its rates, and mean and standard deviation (n - 1) of each column in percent.

    A cell is empty where nothing was measured, or where a deviation says nothing (`varies`).

    Args:
      run: the run.
      protocol: whose numbers.
      columns: group, metric, and the name of the column.
    """
    names = [f"{name} {part}" for _, _, name in columns for part in ("mean", "sd")]
    found: list[list[str | float]] = [
        ["backbone", "method", "seeds", "dropout", "learning rate", *names]
    ]
    for method, backbone in trials(run):
        seeds = len(_rows_of_all(run, method, backbone, protocol))
        line: list[str | float] = [shown_backbone(method, backbone), method, seeds]
        line += chosen_rates(run, method, backbone, protocol)
        for group, metric, _ in columns:
            measured = values(run, method, backbone, protocol, group, metric)
            line.append(float(measured.mean()) if len(measured) else "")
            line.append(float(measured.std(ddof=1)) if varies(measured, method) else "")
        found.append(line)
    return found


def comparison_data(comparisons: Sequence[Mapping[str, Any]]) -> list[list[str | float]]:
    """Header and rows of the CSV file of differences, in percentage points."""
    found: list[list[str | float]] = [
        ["protocol", "backbone", "first", "second", "second minus first", "low", "high", "p"]
    ]
    for row in comparisons:
        names = [row[name] for name in ("protocol", "backbone", "first", "second")]
        numbers = [100 * row[name] for name in ("difference", "low", "high")]
        found.append([*names, *numbers, row["p_value"]])
    return found


def _rows(run: FinishedRun, method: str, backbone: str, protocol: str) -> list[dict[str, Any]]:
    wanted = (method, backbone, protocol)
    return [row for row in run.rows if (row["method"], row["backbone"], row["protocol"]) == wanted]


def _rows_of_all(
    run: FinishedRun, method: str, backbone: str, protocol: str
) -> list[dict[str, Any]]:
    return [row for row in _rows(run, method, backbone, protocol) if row["group"] == "all"]
