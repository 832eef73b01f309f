"""The figures of a report as SVG, in colours that the colour-blind can tell apart (Okabe and Ito, 2008) and with markers for print."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.report.runs import Run
from grasp_jax.report.tables import PROTOCOLS, cells, values

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = "osD^vPX*"
LINES = ("-", "--", "-.", ":")
CURVES = {"K": ("knowledge", "num_neighbours"), "D": ("model", "features")}


class Panel:
    """Axes by the handful, as one SVG."""

    def __init__(self, count: int, height: float = 2.9) -> None:
        try:
            import matplotlib

            matplotlib.use("Agg")
            from matplotlib import pyplot
        except ImportError as error:
            raise UserError("--mode=report draws with matplotlib, which is not installed: pip install 'grasp-jax[report]'") from error
        style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
        pyplot.rcParams.update({**style, "svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "grasp_jax"})
        self._pyplot = pyplot
        self.figure, axes = pyplot.subplots(1, count, figsize=(3.6 * count + 0.4, height), squeeze=False, layout="constrained")
        self.axes = list(axes[0])

    def line(self, axis: int, xs: Sequence[Any], ys: Sequence[float], style: int, label: str, marker: bool = True) -> None:
        """One line; `style` picks colour and marker."""
        mark: dict[str, Any] = {"marker": MARKERS[style % len(MARKERS)], "markersize": 4} if marker else {}
        shape = LINES[style // len(COLOURS) % len(LINES)] if marker else LINES[style % len(LINES)]
        self.axes[axis].plot(xs, ys, color=COLOURS[style % len(COLOURS)], linestyle=shape, linewidth=1.4, label=label, **mark)

    def name(self, axis: int, title: str, x: str, y: str) -> None:
        """Title and labels."""
        self.axes[axis].set(title=title, xlabel=x, ylabel=y)

    def svg(self, legend: bool = True) -> str:
        """The figure, without the XML prologue, and closed."""
        handles, labels = self.axes[0].get_legend_handles_labels()
        if legend and len(labels) > 1:
            self.figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False, fontsize=8)
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
    """Validation NDCG@10 by epoch, a panel for each backbone; of several dropouts and seeds the best model of a cell."""
    backbones = list(dict.fromkeys(record["backbone"] for record in run.epochs))
    if not backbones:
        return None
    methods = list(dict.fromkeys(record["method"] for record in run.epochs))
    panel = Panel(len(backbones))
    for axis, backbone in enumerate(backbones):
        for style, method in enumerate(methods):
            own = [record for record in run.epochs if (record["method"], record["backbone"]) == (method, backbone)]
            if not own:
                continue
            best = max(own, key=lambda record: record["valid_ndcg@10"])
            curve = [record for record in own if (record["seed"], record["dropout"]) == (best["seed"], best["dropout"])]
            xs, ys = [record["epoch"] for record in curve], [100 * record["valid_ndcg@10"] for record in curve]
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
                    panel.axes[axis].stairs(heights, edges, color=COLOURS[style], linestyle=dash, label=label)
        panel.name(axis, f"{method}-{backbone}", "gate", "density")
    return panel.svg()


def curve_points(runs: Sequence[Run], letter: str) -> list[tuple[int, Run]]:
    """The runs that differ from another in K or D alone, with their K or D, ascending."""
    section, field = CURVES[letter]
    plain = [run for run in runs if run.rows and not _corruption(run) and not _gate_study(run)]
    chosen = [run for run in plain if _only_differs(run, plain, section, field)]
    return sorted(((run.config[section][field], run) for run in chosen), key=lambda point: point[0])


def metric_against(runs: Sequence[Run], letter: str) -> str | None:
    """Figure 4: NDCG@10 against K or D, where runs differ in it."""
    points = curve_points(runs, letter)
    if not points:
        return None
    panel = Panel(2)
    shared = [cell for cell in cells(points[0][1]) if all(cell in cells(run) for _, run in points)]
    for axis, protocol in enumerate(PROTOCOLS):
        for style, (method, backbone) in enumerate(shared):
            ys = [values(run, method, backbone, protocol, "all", "NDCG@10") for _, run in points]
            if all(len(y) for y in ys):
                panel.line(axis, [value for value, _ in points], [y.mean() for y in ys], style, f"{method}-{backbone}")
        panel.name(axis, PROTOCOLS[protocol], letter, "NDCG@10, %")
    return panel.svg()


def robustness(runs: Sequence[Run]) -> str | None:
    """NDCG@10 against the share of wrong descriptions: overall and for tail users, a line style for each kind."""
    clean = [run for run in runs if _corruption(run) and _corruption(run)[1] == 0]
    kinds = list(dict.fromkeys(_corruption(run)[0] for run in runs if _corruption(run) and _corruption(run)[1] > 0))
    if not kinds:
        return None
    panel = Panel(2 * len(kinds))
    for k, kind in enumerate(kinds):
        wrong = [run for run in runs if _corruption(run)[:1] == (kind,)]
        points = sorted(((_corruption(run)[1], run) for run in [*clean, *wrong]), key=lambda point: point[0])
        for style, (method, backbone) in enumerate(dict.fromkeys(cell for _, run in points for cell in cells(run))):
            for axis, group in ((2 * k, "all"), (2 * k + 1, "tail_user")):
                own = [(share, values(run, method, backbone, "sampled100", group, "NDCG@10")) for share, run in points]
                own = [(share, value) for share, value in own if len(value)]
                panel.line(axis, [100 * share for share, _ in own], [value.mean() for _, value in own], style, f"{method}-{backbone}")
                title = f"{kind}, {'all users' if group == 'all' else 'tail users'}"
                panel.name(axis, title, "wrong descriptions, %", "NDCG@10, %")
    return panel.svg()


def gate_temperature(runs: Sequence[Run]) -> str | None:
    """Training loss and validation NDCG@10 against the temperature of the gate, a line for each query."""
    points = [(run.config["model"]["gate_query"], run.config["model"]["gate_scale"], run) for run in runs if _gate_study(run)]
    if not points:
        return None
    panel = Panel(2)
    for style, query in enumerate(dict.fromkeys(query for query, _, _ in points)):
        own = sorted(((scale, run.epochs) for of, scale, run in points if of == query and run.epochs), key=lambda point: point[0])
        last = [min(epochs, key=lambda record: record["loss"]) for _, epochs in own]
        best = [max(100 * record["valid_ndcg@10"] for record in epochs) for _, epochs in own]
        panel.line(0, [scale for scale, _ in own], [record["loss"] for record in last], style, query)
        panel.line(1, [scale for scale, _ in own], best, style, query)
    for axis, label in enumerate(("training loss, last epoch", "validation NDCG@10, %")):
        panel.axes[axis].set_xscale("log", base=2)
        panel.name(axis, "", "times the paper's scale", label)
    return panel.svg()


def lengths(runs: Sequence[Run]) -> str | None:
    """How long histories are, a line for each dataset."""
    found = {run.rows[0]["dataset"]: run.results["about"]["lengths"] for run in runs if run.rows and "lengths" in run.results["about"]}
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


def _corruption(run: Run) -> tuple[Any, ...]:
    """(kind, share) of a run on descriptions that are encoded, () of others."""
    section = run.config.get("knowledge", {}).get("corruption")
    if section is None or (run.config["knowledge"]["encoder"] == "file" and section["kind"] == "none"):
        return ()
    return (section["kind"], section["share"] if section["kind"] != "none" else 0.0)


def _gate_study(run: Run) -> bool:
    model = run.config["model"]
    return model.get("gate_query", "user") != "user" or model.get("gate_scale", 1.0) != 1.0


def _only_differs(run: Run, others: Sequence[Run], section: str, field: str) -> bool:
    """Whether some other run has the same config but for one field (and names of methods and backbones)."""

    def rest(of: Run) -> dict[str, Any]:
        trimmed = {name: dict(part) if isinstance(part, dict) else part for name, part in of.config.items()}
        trimmed[section].pop(field)
        for name in ("method", "backbone"):
            trimmed["model"].pop(name, None)
        trimmed["knowledge"].pop("path", None)
        return trimmed

    return any(
        other is not run and rest(other) == rest(run) and other.config[section][field] != run.config[section][field] for other in others
    )
