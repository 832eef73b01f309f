"""The figures of a report as SVG, in colours that the colour-blind can tell apart (Okabe and Ito, 2008) and with markers for print."""

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from grasp_jax.config import identity
from grasp_jax.errors import UserError
from grasp_jax.evaluation.protocols import PROTOCOLS
from grasp_jax.report.runs import Run
from grasp_jax.report.tables import trials, values

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = "osD^vPX*"
LINES = ("-", "--", "-.", ":")
LETTERS_PER_INCH, HANDLE, LINE_INCHES = (
    15,
    7,
    0.16,
)  # of a legend: a line's sample and gap are as wide as so many letters
CURVES = {"K": ("knowledge", "num_neighbours"), "D": ("model", "features")}


class Panel:
    """Axes by the handful, as one SVG."""

    def __init__(self, count: int, height: float = 2.9) -> None:
        try:
            import matplotlib

            matplotlib.use("Agg")
            from matplotlib import pyplot
        except ImportError as error:
            raise UserError(
                "figures are drawn with matplotlib, which is not installed: pip install 'grasp-jax[report]'"
            ) from error
        style: Any = {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
        }
        pyplot.rcParams.update(
            {
                **style,
                "svg.fonttype": "none",
                "font.family": "sans-serif",
                "svg.hashsalt": "grasp_jax",
            }
        )
        self._pyplot = pyplot
        self.figure, axes = pyplot.subplots(
            1, count, figsize=(3.6 * count + 0.4, height), squeeze=False, layout="constrained"
        )
        self.axes = list(axes[0])

    def line(
        self,
        axis: int,
        xs: Sequence[Any],
        ys: Sequence[float],
        style: int,
        label: str,
        marker: bool = True,
    ) -> None:
        """One line; `style` picks colour and marker."""
        mark: dict[str, Any] = (
            {"marker": MARKERS[style % len(MARKERS)], "markersize": 4} if marker else {}
        )
        shape = (
            LINES[style // len(COLOURS) % len(LINES)]
            if marker
            else LINES[(style + style // len(COLOURS)) % len(LINES)]
        )
        self.axes[axis].plot(
            xs,
            ys,
            color=COLOURS[style % len(COLOURS)],
            linestyle=shape,
            linewidth=1.4,
            label=label,
            **mark,
        )

    def name(self, axis: int, title: str, x: str, y: str) -> None:
        """Title and labels."""
        self.axes[axis].set(title=title, xlabel=x, ylabel=y)

    def svg(self, legend: bool = True) -> str:
        """The figure, without the XML prologue, and closed."""
        handles, labels = self.axes[0].get_legend_handles_labels()
        if legend and len(labels) > 1:
            width, height = self.figure.get_size_inches()
            columns = max(
                1,
                min(len(labels), int(width * LETTERS_PER_INCH / (HANDLE + max(map(len, labels))))),
            )
            self.figure.set_size_inches(
                width, height + LINE_INCHES * (-(-len(labels) // columns) - 1)
            )
            self.figure.legend(
                handles,
                labels,
                loc="outside lower center",
                ncols=columns,
                frameon=False,
                fontsize=8,
            )
        out = io.StringIO()
        self.figure.savefig(out, format="svg", metadata={"Date": None})
        self._pyplot.close(self.figure)
        text = out.getvalue()
        return text[text.index("<svg") :]


def all_figures(runs: Sequence[Run]) -> dict[str, str]:
    """Title -> SVG of every figure that the runs have the numbers for."""
    made: dict[str, str] = {}
    for run in runs:
        for name, draw in (("Learning curves", learning_curves), ("Gates", gate_histograms)):
            if svg := draw(run):
                made[f"{name}: {run.name}"] = svg
    whole: dict[str, Callable[[Sequence[Run]], str | None]] = {
        "Number of neighbours K": lambda runs: metric_against(runs, "K"),
        "Width D": lambda runs: metric_against(runs, "D"),
        "Wrong descriptions": robustness,
        "Temperature of the gate": gate_temperature,
        "Lengths of histories": lengths,
    }
    return made | {name: svg for name, draw in whole.items() if (svg := draw(runs))}


def learning_curves(run: Run) -> str | None:
    """Validation NDCG@10 by epoch, a panel for each backbone; of several seeds and rates the best model of a trial."""
    backbones = list(dict.fromkeys(record["backbone"] for record in run.epochs))
    if not backbones:
        return None
    methods = list(dict.fromkeys(record["method"] for record in run.epochs))
    panel = Panel(len(backbones))
    for axis, backbone in enumerate(backbones):
        for style, method in enumerate(methods):
            own = [
                record
                for record in run.epochs
                if (record["method"], record["backbone"]) == (method, backbone)
            ]
            if not own:
                continue
            best = max(own, key=lambda record: record["valid_ndcg@10"])
            curve = [
                record
                for record in own
                if all(
                    record.get(key) == best.get(key) for key in ("seed", "dropout", "learning_rate")
                )
            ]
            xs, ys = (
                [record["epoch"] for record in curve],
                [100 * record["valid_ndcg@10"] for record in curve],
            )
            panel.line(axis, xs, ys, style, method, marker=False)
        panel.name(axis, backbone, "epoch", "validation NDCG@10, %")
    return panel.svg()


def gate_histograms(run: Run) -> str | None:
    """Gates between test users and their targets, clean and corrupted descriptions apart."""
    if not run.gates:
        return None
    panel = Panel(len(run.gates))
    for axis, ((method, backbone), stored) in enumerate(run.gates.items()):
        low, high = stored["gates"].min(), stored["gates"].max()
        edges = np.linspace(low - 1e-3, high + 1e-3, 50)
        for style, name in enumerate(("self", "similar", "global")):
            for corrupted, dash in ((False, "-"), (True, "--")):
                own = stored["gates"][stored["corrupted"] == corrupted, style]
                if len(own):
                    heights, _ = np.histogram(own, edges, density=True)
                    label = name + (", wrong description" if corrupted else "")
                    panel.axes[axis].stairs(
                        heights, edges, color=COLOURS[style], linestyle=dash, label=label
                    )
        panel.name(axis, f"{method}-{backbone}", "gate", "density")
    return panel.svg()


def families(runs: Sequence[Run], *fields: str) -> list[list[Run]]:
    """Runs whose configs are equal but for `fields` ("section.name", or a whole section), two or more together, in the given order.

    Fields that no result depends on, and whether the full ranking was measured do not count.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        flat = {
            key: value
            for key, value in identity(run.config).items()
            if not key.startswith((*fields, "eval.full"))
        }
        groups.setdefault(json.dumps(flat, sort_keys=True), []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def curve_families(runs: Sequence[Run], letter: str) -> list[list[tuple[int, Run]]]:
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


def metric_against(runs: Sequence[Run], letter: str) -> str | None:
    """Figure 4: NDCG@10 against K or D, a line for each family of runs and each trial."""
    chosen = curve_families(runs, letter)
    if not chosen:
        return None
    measured = [[{row["protocol"] for row in run.rows} for _, run in points] for points in chosen]
    drawn = [
        protocol
        for protocol in PROTOCOLS
        if all(sum(protocol in own for own in family) > 1 for family in measured)
    ]
    panel = Panel(len(drawn))
    for axis, protocol in enumerate(drawn):
        style = 0
        for number, points in enumerate(chosen, start=1):
            for method, backbone in dict.fromkeys(
                trial for _, run in points for trial in trials(run)
            ):
                own = [
                    (value, values(run, method, backbone, protocol, "all", "NDCG@10"))
                    for value, run in points
                ]
                own = [(value, numbers) for value, numbers in own if len(numbers)]
                label = f"{method}-{backbone}" + (f" ({number})" if len(chosen) > 1 else "")
                panel.line(
                    axis,
                    [value for value, _ in own],
                    [numbers.mean() for _, numbers in own],
                    style,
                    label,
                )
                style += 1
        panel.name(axis, PROTOCOLS[protocol], letter, "NDCG@10, %")
    return panel.svg()


def robustness(runs: Sequence[Run]) -> str | None:
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
        own = [run for run in group if _corruption(run)[0] == kind or _corruption(run)[1] == 0]
        points = sorted(((_corruption(run)[1], run) for run in own), key=lambda point: point[0])
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
                    f"{method}-{backbone}",
                )
                title = f"{kind}, {'all users' if which == 'all' else 'tail users'}"
                panel.name(axis, title, "wrong descriptions, %", "NDCG@10, %")
    return panel.svg()


def gate_temperature(runs: Sequence[Run]) -> str | None:
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
        own = sorted(
            (
                (run.config["model"]["gate_scale"], run.epochs)
                for run in group
                if run.config["model"]["gate_query"] == query
            ),
            key=lambda point: point[0],
        )
        scales = [scale for scale, _ in own]
        panel.line(
            0,
            scales,
            [max(epochs, key=lambda record: record["epoch"])["loss"] for _, epochs in own],
            style,
            query,
        )
        panel.line(
            1,
            scales,
            [max(100 * record["valid_ndcg@10"] for record in epochs) for _, epochs in own],
            style,
            query,
        )
    for axis, label in enumerate(("training loss, last epoch", "validation NDCG@10, %")):
        panel.axes[axis].set_xscale("log", base=2)
        panel.name(axis, "", "times the paper's scale", label)
    return panel.svg()


def lengths(runs: Sequence[Run]) -> str | None:
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
    panel.axes[0].set_xscale("log")
    panel.axes[0].set_yscale("log")
    panel.name(0, "", "interactions of a user", "users")
    return panel.svg()


def _corruption(run: Run) -> tuple[str, float]:
    """Kind and share of wrong descriptions; share 0 for descriptions as they are."""
    section = run.config["knowledge"].get("corruption", {"kind": "none", "share": 0.0})
    return section["kind"], 0.0 if section["kind"] == "none" else section["share"]
