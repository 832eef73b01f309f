"""The figures of a report, in colours that the colour-blind can tell apart and with markers for print."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from grasp_jax.config import identity
from grasp_jax.evaluation.protocols import PROTOCOLS
from grasp_jax.evaluation.untrained import trial_label
from grasp_jax.models.gates import NAMES
from grasp_jax.report.names import dataset_of
from grasp_jax.report.plot import COLOURS, Figure, Panel
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values
from grasp_jax.workdir import trial_name

CURVES = {"K": ("knowledge", "num_neighbours"), "D": ("model", "features")}
LEARNING, LENGTHS = "Learning curves", "Lengths of histories"


def all_figures(runs: Sequence[FinishedRun], labels: Mapping[str, str]) -> dict[str, Figure]:
    """Title -> figure, of every figure that the runs have the numbers for.

    Args:
      runs: all runs of the report.
      labels: what to call each run, by its folder's name.
    """
    made = {LEARNING: curves} if (curves := learning_curves(runs, labels)) else {}
    for run in runs:
        if figure := gate_histograms(run):
            made[gates_title(run)] = figure
    whole: dict[str, Callable[[Sequence[FinishedRun]], Figure | None]] = {
        "Number of neighbours K": lambda runs: metric_against(runs, "K"),
        "Width D": lambda runs: metric_against(runs, "D"),
        "Wrong descriptions": robustness,
        "Temperature of the gate": gate_temperature,
        LENGTHS: lengths,
    }
    return made | {name: figure for name, draw in whole.items() if (figure := draw(runs))}


def gates_title(run: FinishedRun) -> str:
    """The title of the figure of a run's gates."""
    return f"Gates: {run.name}"


def learning_curves(runs: Sequence[FinishedRun], labels: Mapping[str, str]) -> Figure | None:
    """Validation NDCG@10 by epoch, a panel for each dataset and backbone, a line for each run and method.

    Of several seeds and rates a line is of the best model of a trial.
    """
    places = list(
        dict.fromkeys(
            (dataset_of(run), record["backbone"]) for run in runs for record in run.epochs
        )
    )
    if not places:
        return None
    panel, several = Panel(len(places)), len(runs) > 1
    styles: dict[str, int] = {}
    for run in runs:
        for method, backbone in dict.fromkeys((r["method"], r["backbone"]) for r in run.epochs):
            curve = best_curve(run, method, backbone)
            label = f"{method} ({labels[run.name]})" if several else method
            panel.line(
                places.index((dataset_of(run), backbone)),
                [record["epoch"] for record in curve],
                [100 * record["valid_ndcg@10"] for record in curve],
                styles.setdefault(label, len(styles)),
                label,
                marker=False,
            )
    datasets = {dataset for dataset, _ in places}
    for axis, (dataset, backbone) in enumerate(places):
        title = f"{backbone}, {dataset}" if len(datasets) > 1 else backbone
        panel.name(axis, title, "epoch", "validation NDCG@10, %")
    return panel.figure()


def best_curve(run: FinishedRun, method: str, backbone: str) -> list[dict[str, Any]]:
    """The epochs of the best model of a trial."""
    records = [r for r in run.epochs if (r["method"], r["backbone"]) == (method, backbone)]
    best = max(records, key=lambda record: record["valid_ndcg@10"])
    keys = ("seed", "dropout", "learning_rate")
    return [record for record in records if all(record.get(key) == best.get(key) for key in keys)]


def gate_histograms(run: FinishedRun) -> Figure | None:
    """Gates between test users and their targets, clean and corrupted descriptions apart."""
    if not run.gates:
        return None
    panel = Panel(len(run.gates))
    for axis, ((method, backbone), stored) in enumerate(run.gates.items()):
        low, high = stored["gates"].min(), stored["gates"].max()
        edges = np.linspace(low - 1e-3, high + 1e-3, 50)
        for style, name in enumerate(NAMES):
            for corrupted in (False, True):
                values_of_gate = stored["gates"][stored["corrupted"] == corrupted, style]
                if len(values_of_gate):
                    heights, _ = np.histogram(values_of_gate, edges, density=True)
                    label = name + (", wrong description" if corrupted else "")
                    place = style + COLOURS * corrupted
                    panel.stairs(axis, heights.tolist(), edges.tolist(), place, label)
        panel.name(axis, trial_name(method, backbone), "gate", "density")
    return panel.figure()


def families(runs: Sequence[FinishedRun], *fields: str) -> list[list[FinishedRun]]:
    """Runs whose configs are equal but for `fields` ("section.name", or a whole section), two or more together, in the given order.

    Fields that no result depends on, and whether the full ranking was measured do not count.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        flat = {
            key: value
            for key, value in identity(run.config).items()
            if not key.startswith((*fields, "eval.full"))
        }
        groups.setdefault(json.dumps(flat, sort_keys=True), []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def curve_families(runs: Sequence[FinishedRun], letter: str) -> list[list[tuple[int, FinishedRun]]]:
    """For each family of runs that differ in K or D alone: their K or D and the run, ascending."""
    section, name = CURVES[letter]
    found = []
    for group in families(runs, f"{section}.{name}"):
        points = sorted(
            ((run.config[section][name], run) for run in group), key=lambda point: point[0]
        )
        if len({value for value, _ in points}) > 1:
            found.append(points)
    return found


def metric_against(runs: Sequence[FinishedRun], letter: str) -> Figure | None:
    """Figure 4: NDCG@10 against K or D, a line for each family of runs and each trial."""
    chosen = curve_families(runs, letter)
    if not chosen:
        return None
    measured = [[{row["protocol"] for row in run.rows} for _, run in points] for points in chosen]
    drawn = [
        protocol
        for protocol in PROTOCOLS
        if all(sum(protocol in protocols for protocols in family) > 1 for family in measured)
    ]
    panel = Panel(len(drawn))
    for axis, protocol in enumerate(drawn):
        style = 0
        for number, points in enumerate(chosen, start=1):
            for method, backbone in dict.fromkeys(
                trial for _, run in points for trial in trials(run)
            ):
                points_of_trial = [
                    (value, values(run, method, backbone, protocol, "all", "NDCG@10"))
                    for value, run in points
                ]
                points_of_trial = [
                    (value, numbers) for value, numbers in points_of_trial if len(numbers)
                ]
                label = trial_label(method, backbone) + (f" ({number})" if len(chosen) > 1 else "")
                panel.line(
                    axis,
                    [value for value, _ in points_of_trial],
                    [numbers.mean() for _, numbers in points_of_trial],
                    style,
                    label,
                )
                style += 1
        panel.name(axis, PROTOCOLS[protocol], letter, "NDCG@10, %")
    return panel.figure()


def robustness(runs: Sequence[FinishedRun]) -> Figure | None:
    """NDCG@10 against the share of wrong descriptions, overall and for tail users, panels for each kind; of the largest family."""
    chosen = families(runs, "knowledge.corruption")
    kinds = [
        list(dict.fromkeys(kind for kind, share in map(_corruption, group) if share > 0))
        for group in chosen
    ]
    if not any(kinds):
        return None
    group, found = max(
        zip(chosen, kinds, strict=True), key=lambda pair: len(pair[0]) if pair[1] else 0
    )
    panel = Panel(2 * len(found))
    for k, kind in enumerate(found):
        of_kind = [run for run in group if _corruption(run)[0] == kind or _corruption(run)[1] == 0]
        points = sorted(((_corruption(run)[1], run) for run in of_kind), key=lambda point: point[0])
        for style, (method, backbone) in enumerate(
            dict.fromkeys(trial for _, run in points for trial in trials(run))
        ):
            for axis, which in ((2 * k, "all"), (2 * k + 1, "tail_user")):
                line = [
                    (share, values(run, method, backbone, "sampled100", which, "NDCG@10"))
                    for share, run in points
                ]
                line = [(share, numbers) for share, numbers in line if len(numbers)]
                panel.line(
                    axis,
                    [100 * share for share, _ in line],
                    [numbers.mean() for _, numbers in line],
                    style,
                    trial_label(method, backbone),
                )
                title = f"{kind}, {'all users' if which == 'all' else 'tail users'}"
                panel.name(axis, title, "wrong descriptions, %", "NDCG@10, %")
    return panel.figure()


def gate_temperature(runs: Sequence[FinishedRun]) -> Figure | None:
    """Training loss of the last epoch and best validation NDCG@10 against the gate's temperature, a line for each query."""
    chosen = families([run for run in runs if run.epochs], "model.gate_query", "model.gate_scale")
    chosen = [
        group for group in chosen if len({run.config["model"]["gate_scale"] for run in group}) > 1
    ]
    if not chosen:
        return None
    panel = Panel(2)
    group = max(chosen, key=len)
    for style, query in enumerate(
        dict.fromkeys(run.config["model"]["gate_query"] for run in group)
    ):
        of_query = sorted(
            (
                (run.config["model"]["gate_scale"], run.epochs)
                for run in group
                if run.config["model"]["gate_query"] == query
            ),
            key=lambda point: point[0],
        )
        scales = [scale for scale, _ in of_query]
        panel.line(
            0,
            scales,
            [max(epochs, key=lambda record: record["epoch"])["loss"] for _, epochs in of_query],
            style,
            query,
        )
        panel.line(
            1,
            scales,
            [max(100 * record["valid_ndcg@10"] for record in epochs) for _, epochs in of_query],
            style,
            query,
        )
    for axis, label in enumerate(("training loss, last epoch", "validation NDCG@10, %")):
        panel.logarithmic(axis)
        panel.name(axis, "", "times the paper's scale", label)
    return panel.figure()


def lengths(runs: Sequence[FinishedRun]) -> Figure | None:
    """How long histories are, a line for each dataset."""
    found = {
        run.rows[0]["dataset"]: run.results["about"]["lengths"]
        for run in runs
        if run.rows and "lengths" in run.results["about"]
    }
    if not found:
        return None
    panel = Panel(1)
    for style, (dataset, counts) in enumerate(found.items()):
        xs = [int(length) for length in counts]
        panel.line(0, xs, list(counts.values()), style, dataset, marker=False)
    panel.logarithmic(0, x=True, y=True)
    panel.name(0, "", "interactions of a user", "users")
    return panel.figure()


def _corruption(run: FinishedRun) -> tuple[str, float]:
    """Kind and share of wrong descriptions; share 0 for descriptions as they are."""
    section = run.config["knowledge"].get("corruption", {"kind": "none", "share": 0.0})
    return section["kind"], 0.0 if section["kind"] == "none" else section["share"]
