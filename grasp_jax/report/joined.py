"""All runs in one table: a row for each run, backbone, method and protocol, to be sorted and filtered."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from grasp_jax.evaluation.protocols import PROTOCOLS
from grasp_jax.evaluation.results import spread
from grasp_jax.evaluation.untrained import is_trained, shown_backbone, stand_together
from grasp_jax.report.intervals import Interval, intervals
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import MISSING, trials, values
from grasp_jax.report.verdict import baseline_trial

METRICS = (  # header, group, metric
    ("HR@10", "all", "HR@10"),
    ("MRR", "all", "MRR"),
    ("NDCG@10, tail items", "tail_item", "NDCG@10"),
    ("NDCG@10, head items", "head_item", "NDCG@10"),
    ("NDCG@10, tail users", "tail_user", "NDCG@10"),
)

HEADER = ("NDCG@10", "95 % interval", "over IDs alone", *(name for name, _, _ in METRICS))
HEADER += ("seeds", "dropout", "learning rate", "best epoch")


@dataclasses.dataclass(frozen=True)
class Cell:
    """The text of a cell, and the number by which it is sorted; None: sorted by its text."""

    text: str
    value: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the joined table.

    Attributes:
      run, backbone, method, protocol: labels, which filters compare; the backbone is `untrained.NONE` of a method that has none.
      cells: under `JoinedTable.header`.
      interval: of NDCG@10.
      first: whether it has the best NDCG@10 of its run, backbone and protocol; a method that has no backbone is among those of each.
    """

    run: str
    backbone: str
    method: str
    protocol: str
    cells: tuple[Cell, ...]
    interval: Interval
    first: bool


@dataclasses.dataclass(frozen=True)
class JoinedTable:
    """The joined table; the first four columns are those of `Row`."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]


def joined(runs: Sequence[FinishedRun], labels: Mapping[str, str]) -> JoinedTable:
    """The table of all runs.

    Args:
      runs: in the order of the page.
      labels: of `names.run_labels`.
    """
    return JoinedTable(HEADER, tuple(row for run in runs for row in _rows(run, labels[run.name])))


def _rows(run: FinishedRun, label: str) -> list[Row]:
    found = []
    for protocol in (
        name for name in PROTOCOLS if any(row["protocol"] == name for row in run.rows)
    ):
        measured = {(own.method, own.backbone): own for own in intervals(run, protocol)}
        for method, backbone in trials(run):
            if (own := measured.get((method, backbone))) is None:
                continue
            shown = shown_backbone(method, backbone)
            best = max(
                other.mean
                for trial, other in measured.items()
                if stand_together(shown, shown_backbone(*trial))
            )
            base = baseline_trial(list(measured), method, backbone)
            compared = measured[base] if base and base != (method, backbone) else None
            cells = _cells(run, own, protocol, compared)
            found.append(
                Row(label, shown, method, PROTOCOLS[protocol], cells, own, own.mean == best)
            )
    return found


def _cells(
    run: FinishedRun, own: Interval, protocol: str, base: Interval | None
) -> tuple[Cell, ...]:
    method, backbone = own.method, own.backbone
    gain = 100 * (own.mean / base.mean - 1) if base and base.mean else None
    whole = values(run, method, backbone, protocol, "all", "NDCG@10")
    cells = [
        Cell(spread(whole, method), own.mean),
        Cell(MISSING)
        if own.low is None or own.high is None
        else Cell(f"{own.low:.2f} to {own.high:.2f}", own.low),
        Cell(MISSING) if gain is None else Cell(f"{gain:+.1f} %", gain),
    ]
    for _, group, metric in METRICS:
        found = values(run, method, backbone, protocol, group, metric)
        found = found[np.isfinite(found)]
        cells.append(
            Cell(spread(found, method), float(found.mean())) if len(found) else Cell(MISSING)
        )
    wanted = (method, backbone, protocol, "all")
    rows = [
        row
        for row in run.rows
        if (row["method"], row["backbone"], row["protocol"], row["group"]) == wanted
    ]
    cells.append(Cell(str(len(rows)), float(len(rows))))
    for key in ("dropout", "learning_rate", "best_epoch"):
        numbers = [row[key] for row in rows if isinstance(row.get(key), (int, float))]
        numbers = numbers if is_trained(method) else []
        cells.append(
            Cell(", ".join(dict.fromkeys(f"{n:g}" for n in numbers)), float(numbers[0]))
            if numbers
            else Cell(MISSING)
        )
    return tuple(cells)
