"""The settings that `grasp-jax init` writes, on data of other domains, and what the choice of weights by validation does there.

A run is called defaults-DATA, or defaults-DATA-earlier if its version could only drop one part at a time, at the end of training. Runs with
the settings of `configs/beauty5.py:best` are called best-DATA.
"""

import json

from benchmarks.study_labels import shown
from benchmarks.study_records import METRICS, PROTOCOLS, Page, page, path_of, read
from grasp_jax.evaluation.results import spread
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values
from grasp_jax.report.tables import ReportTable

DATA = {
    "movies": "MovieLens 100K, titles and genres",
    "toys": "Amazon Toys and Games 5-core, texts of some six words",
    "industrial": "Amazon Industrial and Scientific, texts of sellers",
    "office": "Amazon Office Products, texts of sellers",
}
EARLIER = "-earlier"  # the end of a run's name
HEADER = (
    "data",
    "settings",
    "method",
    "weights by validation",
    *(f"{protocol} {metric}" for protocol in PROTOCOLS for metric in METRICS),
)


def defaults() -> Page:
    """A line for each model, by data."""
    stored = {run["name"]: run for run in json.loads(path_of("defaults").read_text())["runs"]}
    body = []
    for run in sorted(read("defaults")[0], key=_order):
        for method, backbone in trials(run):
            if run.name.endswith(EARLIER) and method != "grasp_plus":
                continue
            chosen = stored[run.name]["parts"] if method == "grasp_plus" else []
            settings, data = _words_of_name(run.name)
            scores = [
                spread(values(run, method, backbone, protocol, "all", metric))
                for protocol in PROTOCOLS
                for metric in METRICS
            ]
            body.append([data, settings, shown(method), _weights(run, method, chosen), *scores])
    return page(
        ReportTable("defaults", "Data of other domains; one seed, percent", list(HEADER), body)
    )


def _order(run: FinishedRun) -> tuple[int, str]:
    data = run.name.split("-")[1]
    return list(DATA).index(data), run.name.replace(EARLIER, "")


def _words_of_name(name: str) -> tuple[str, str]:
    settings, data = name.split("-")[:2]
    return "those of `init`" if settings == "defaults" else "`configs/beauty5.py:best`", DATA[data]


def _weights(run: FinishedRun, method: str, chosen: list[dict[str, object]]) -> str:
    """Which weights validation lowered, and by which rule."""
    if method != "grasp_plus":
        return ""
    rule = ", earlier rule" if run.name.endswith(EARLIER) else ""
    if not chosen:
        return f"all 1{rule}"
    weights = chosen[-1]["weights"]
    assert isinstance(weights, dict)
    lowered = [f"{kind} {weight:g}" for kind, weight in weights.items() if weight != 1.0]
    return ", ".join(lowered) + rule
