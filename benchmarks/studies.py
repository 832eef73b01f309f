"""Keeps the runs of a study in a form small enough to commit, and writes its tables and figures into the pages of docs/.

    python -m benchmarks.studies gates runs/gate-*     # keeps these runs as benchmarks/results/study-gates.json, then writes the pages
    python -m benchmarks.studies                       # writes the pages from what is kept

A study's runs are points of `configs/sweep.py`; the pages and their words are written by hand, what stands between markers is not.
"""

import json
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import cold_study
from benchmarks.record import RESULTS, save
from configs import sweep
from grasp_jax.evaluation.results import spread
from grasp_jax.files import write_text
from grasp_jax.report import figures
from grasp_jax.report.formats import markdown
from grasp_jax.report.runs import Run, read_run
from grasp_jax.report.tables import Table, ablation, trials, values

Page = tuple[str, dict[str, str]]  # Markdown, and the figures that it shows: name -> SVG
DOCS = pathlib.Path(__file__).parent.parent / "docs"
METRICS = ("NDCG@10", "HR@10")
PROTOCOLS = ("full_unseen", "full", "sampled100")
ORDER = ("plain", "grasp", "grasp_plus")  # of rows
GROUPS = ("all", "tail_item", "head_item", "tail_user")
EPOCH = (
    "method",
    "backbone",
    "seed",
    "dropout",
    "learning_rate",
    "epoch",
    "loss",
    "valid_ndcg@10",
    "train_seconds",
)
FOLDERS = re.compile(
    r"(?<![\w.])/(?:[^/\s\"]+/)*(?=[^/\s\"]+/[^/\s\"]+)"
)  # of an absolute path, all but the last two parts
ROW = (
    "dataset",
    "method",
    "backbone",
    "seed",
    "dropout",
    "learning_rate",
    "best_epoch",
    "commit",
    "protocol",
    "group",
    "n",
    *METRICS,
)


def keep(name: str, folders: Sequence[str]) -> None:
    """Adds finished workdirs to the study, in place of kept runs of the same names."""
    path = _path(name)
    kept = {
        run["name"]: run for run in (json.loads(path.read_text())["runs"] if path.exists() else [])
    }
    for folder in folders:
        run = _kept(read_run(pathlib.Path(folder)))
        kept[run["name"]] = json.loads(
            FOLDERS.sub("", json.dumps(run))
        )  # where files lie on this machine tells a reader nothing
    save(path, {"runs": list(kept.values())})


def _kept(run: Run) -> dict[str, Any]:
    rows = [{key: row.get(key) for key in ROW} for row in run.rows if row["group"] in GROUPS]
    about = {
        key: value
        for key, value in run.results["about"].items()
        if key not in ("lengths", "table1")
    }
    return {
        "name": run.name,
        "config": run.config | {"data": run.config["data"] | {"path": ""}},
        "results": {"rows": rows, "comparisons": run.results["comparisons"], "about": about},
        "epochs": [{key: record.get(key) for key in EPOCH} for record in run.epochs],
        "gates": [
            {
                "method": method,
                "backbone": backbone,
                "wrong": wrong,
                "n": len(own),
                "mean": own.mean(0).tolist(),
                "std": own.std(0).tolist(),
            }
            for (method, backbone), stored in run.gates.items()
            for wrong in (False, True)
            if len(own := stored["gates"][stored["corrupted"] == wrong].astype(np.float64))
        ],
    }


def _read(name: str) -> tuple[list[Run], dict[str, list[dict[str, Any]]]]:
    """The kept runs, and the mean gates of each by its name."""
    stored = json.loads(_path(name).read_text())["runs"]
    runs = [
        Run(run["name"], run["config"], {"failed": [], **run["results"]}, run["epochs"], {}, {})
        for run in stored
    ]
    return runs, {run["name"]: run["gates"] for run in stored}


def _path(name: str) -> pathlib.Path:
    return RESULTS / f"study-{name}.json"


def gates() -> Page:
    """Every query and temperature: what training reaches, what validation says, how far the gates move."""
    runs, moved = _read("gates")
    order = sorted(
        runs, key=lambda run: (run.config["model"]["gate_query"], run.config["model"]["gate_scale"])
    )
    body = []
    for run in order:
        own, (last, best) = moved[run.name][0], _last_and_best(run)
        movement = "/".join(f"{value:.3f}" for value in own["std"])
        body.append(
            [
                run.config["model"]["gate_query"],
                f"{run.config['model']['gate_scale']:g}",
                f"{last:.3f}",
                f"{best:.2f}",
            ]
            + [
                spread(values(run, "grasp", "sasrec", "sampled100", group, "NDCG@10"))
                for group in ("all", "tail_item")
            ]
            + [movement]
        )
    header = [
        "query",
        "scale",
        "training loss",
        "validation NDCG@10",
        "test NDCG@10",
        "test, tail items",
        "spread of the gates",
    ]
    return _page(
        Table("gates", "Queries and temperatures", header, body),
        gates=figures.gate_temperature(runs),
    )


def plus_attention() -> Page:
    """grasp_plus with the gates that the study found worth having, beside grasp_plus without them, by each loss that was tried."""
    body = []
    for run in _read("plus_attention")[0]:
        model, train = run.config["model"], run.config["train"]
        loss = (
            "bce"
            if train["loss"] == "bce"
            else f"softmax, {train['shared_negatives']} shared negatives"
        )
        gate = (
            "none"
            if model["plus"]["gate"] == "none"
            else f"{model['gate_query']}, {model['gate_scale']:g} times"
        )
        body.append(
            [loss, gate, f"{_last_and_best(run)[1]:.2f}", *_ndcg(run, "grasp_plus", "sasrec")]
        )
    header = [
        "loss",
        "gates",
        "validation",
        "sampled",
        "sampled, tail items",
        "full",
        "full, tail items",
    ]
    return _page(
        Table("plus_attention", "grasp_plus with and without gates, NDCG@10", header, body)
    )


def _last_and_best(run: Run) -> tuple[float, float]:
    """Training loss of the last epoch, and the best validation NDCG@10 in percent."""
    return max(run.epochs, key=lambda record: record["epoch"])["loss"], max(
        100 * record["valid_ndcg@10"] for record in run.epochs
    )


def parts() -> Page:
    """grasp_plus with one part changed, beside grasp_plus; a part of early fusion beside early fusion, where that was run."""
    runs, _ = _read("parts")
    by_name = {run.name: run for run in runs}
    columns = [
        ("sampled100", "all"),
        ("sampled100", "tail_item"),
        ("full", "all"),
        ("full", "tail_item"),
    ]
    body = []
    for part in ("as_it_is", *(name for name in sweep.PLUS if name != "as_it_is")):
        for run in runs:
            if run.name == f"plus-{part}":
                line = [
                    values(run, "grasp_plus", "sasrec", *column, "NDCG@10").mean()
                    for column in columns
                ]
                early = sweep.EARLY.items() <= sweep.PLUS[part].items() and part != "early_fusion"
                whole = by_name["plus-as_it_is"]
                whole = by_name.get("plus-early_fusion", whole) if early else whole
                own = values(whole, "grasp_plus", "sasrec", *columns[0], "NDCG@10").mean()
                change = "" if part == "as_it_is" else f"{100 * (line[0] / own - 1):+.1f} %"
                body.append(
                    [
                        part.replace("_", " "),
                        f"{_last_and_best(run)[1]:.2f}",
                        *(f"{value:.2f}" for value in line),
                        change,
                    ]
                )
    header = [
        "grasp_plus",
        "validation",
        "sampled",
        "sampled, tail items",
        "full",
        "full, tail items",
        "sampled, change",
    ]
    return _page(Table("parts", "NDCG@10, percent", header, body))


def table4() -> Page:
    """GRASP less its parts."""
    return _page(ablation(_read("table4")[0][0]))


def encoders() -> Page:
    """What the text is encoded with, and what of an item it says; beside them the backbone that reads none, from Table 2."""
    body = []
    if (path := RESULTS / "table2.json").exists():
        ids_alone = Run("table2", {}, json.loads(path.read_text()), [], {}, {})
        body.append(["none", "", "plain", *_ndcg(ids_alone, "plain", "sasrec")])
    for run in _read("encoders")[0]:
        knowledge = run.config["knowledge"]
        prompt = next(
            name
            for name, template in sweep.PROMPTS.items()
            if template == knowledge["item_template"]
        )
        for method, backbone in trials(run):
            body.append([knowledge["encoder"], prompt, method, *_ndcg(run, method, backbone)])
    header = [
        "encoder",
        "prompt",
        "method",
        "sampled",
        "sampled, tail items",
        "full",
        "full, tail items",
    ]
    return _page(
        Table(
            "encoders",
            "NDCG@10, percent",
            header,
            sorted(body, key=lambda line: ORDER.index(line[2])),
        )
    )


def _ndcg(run: Run, method: str, backbone: str) -> list[str]:
    """NDCG@10 in percent, sampled and full, of all users and of tail items."""
    columns = [
        (protocol, group) for protocol in ("sampled100", "full") for group in ("all", "tail_item")
    ]
    return [f"{values(run, method, backbone, *column, 'NDCG@10').mean():.2f}" for column in columns]


def curves() -> Page:
    """Figure 4: K and D."""
    runs, _ = _read("curves")
    body = []
    for letter in figures.CURVES:
        for value, run in (
            point for family in figures.curve_families(runs, letter) for point in family
        ):
            numbers = [
                spread(values(run, *trials(run)[0], "sampled100", "all", metric))
                for metric in METRICS
            ]
            tail = spread(values(run, *trials(run)[0], "sampled100", "tail_item", "NDCG@10"))
            body.append([letter, str(value), *numbers, tail])
    table = Table(
        "curves", "Sampled, percent", ["", "value", *METRICS, "NDCG@10, tail items"], body
    )
    return _page(
        table, neighbours=figures.metric_against(runs, "K"), width=figures.metric_against(runs, "D")
    )


def ahead() -> Page:
    """Methods by one protocol, what is trained by one loss: without training, by IDs alone, and late fusion."""
    body = []
    for name, runs in _by_name(_read("ahead")[0]).items():
        for method, backbone in trials(runs[0]):
            named = name.removeprefix("ahead-") if method == "grasp_plus" else method
            minutes = np.mean([_minutes(run, method) for run in runs])
            line = _by_protocol(_together(runs), method, backbone, named)
            body.append([*line, f"{minutes:.0f}"])
    header = [*BY_PROTOCOL, "minutes of training"]
    title = "Amazon Beauty 5-core, MiniLM vectors, SASRec, cross-entropy; percent"
    return _page(Table("ahead", title, header, body))


def wrong() -> Page:
    """Late fusion with learned trust where a share of the texts is another's, beside what reads no text."""
    runs, _ = _read("wrong")
    runs = sorted(runs, key=lambda run: run.config["knowledge"]["corruption"]["share"])
    body = [
        _by_protocol(
            run,
            "grasp_plus",
            "sasrec",
            f"learned trust, {100 * run.config['knowledge']['corruption']['share']:.0f} % wrong",
        )
        for run in runs
    ]
    without = {"sasrec_ce": "no text (sasrec ce)", "grasp_plus": "full trust, 0 % wrong"}
    for runs in _by_name(_read("ahead")[0]).values():
        for method, backbone in trials(runs[0]):
            if method in without and runs[0].name.startswith(f"ahead-{method}"):
                body.append(_by_protocol(_together(runs), method, backbone, without[method]))
    title = "Texts of items swapped: Amazon Beauty 5-core, MiniLM vectors, SASRec; percent"
    return _page(Table("wrong", title, list(BY_PROTOCOL), body))


def shops() -> Page:
    """The settings of `configs/beauty5.py:best` on shops and vectors that they were not chosen on."""
    tables = []
    for run in _read("shops")[0]:
        body = [
            _by_protocol(run, method, backbone, method.replace("_", " "))
            for method, backbone in trials(run)
        ]
        title = TITLES[run.name]
        tables.append(Table(run.name, title, list(BY_PROTOCOL), body))
    return _page(*tables)


BY_PROTOCOL = (
    "method",
    "seeds",
    *(f"{protocol} {metric}" for protocol in PROTOCOLS for metric in METRICS),
    "full_unseen NDCG@10, tail items",
)
TITLES = {
    "shop-skin": "The department Skin Care, `lsa` vectors; percent",
    "shop-hair": "The department Hair Care, `lsa` vectors; percent",
}


def _by_protocol(run: Run, method: str, backbone: str, name: str) -> list[str]:
    """A line of `BY_PROTOCOL`."""
    line = [name.replace("_", " "), str(len(_seeds(run, method)))]
    for protocol in PROTOCOLS:
        line += [
            spread(values(run, method, backbone, protocol, "all", metric)) for metric in METRICS
        ]
    line.append(spread(values(run, method, backbone, "full_unseen", "tail_item", "NDCG@10")))
    return line


def _by_name(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ in nothing but the seed, NAME-seedN, by their name without it."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(re.sub(r"-seed\d+$", "", run.name), []).append(run)
    return found


def _together(runs: Sequence[Run]) -> Run:
    """One run with the results of all."""
    first = runs[0]
    rows = [row for run in runs for row in run.rows]
    return Run(first.name, first.config, first.results | {"rows": rows}, first.epochs, {}, {})


def _minutes(run: Run, method: str) -> float:
    """Of training one model, validation left out."""
    seconds: dict[int, float] = {}
    own = [record for record in run.epochs if record["method"] == method]
    for record in own:  # of models that train together, each has the seconds of all
        seconds[record["epoch"]] = record["train_seconds"]
    return sum(seconds.values()) / 60 / max(len({record["seed"] for record in own}), 1)


def _seeds(run: Run, method: str) -> set[int]:
    return {row["seed"] for row in run.rows if row["method"] == method}


def robustness() -> Page:
    """Wrong descriptions: NDCG@10 overall and of tail users, and the gates of users with and without a wrong description."""
    runs, moved = _read("robustness")
    order = sorted(
        runs,
        key=lambda run: (
            run.config["knowledge"]["corruption"]["kind"],
            run.config["knowledge"]["corruption"]["share"],
        ),
    )
    methods = list(dict.fromkeys(method for run in order for method, _ in trials(run)))
    body, gate_rows = [], []
    for run in order:
        corruption = run.config["knowledge"]["corruption"]
        line = [corruption["kind"], f"{100 * corruption['share']:.0f} %"]
        for group in ("all", "tail_user"):
            line += [
                spread(values(run, method, "sasrec", "sampled100", group, "NDCG@10"))
                for method in methods
            ]
        body.append(line)
        for own in moved[run.name]:
            numbers = [
                f"{mean:.4f} ± {std:.4f}" for mean, std in zip(own["mean"], own["std"], strict=True)
            ]
            gate_rows.append(
                [*line[:2], own["method"], "wrong" if own["wrong"] else "as written", *numbers]
            )
    header = ["kind", "share", *methods, *(f"{method}, tail users" for method in methods)]
    gate_header = [
        "kind",
        "share",
        "method",
        "description of the user",
        "self",
        "similar",
        "global",
    ]
    return _page(
        Table("robustness", "Sampled NDCG@10, percent", header, body),
        Table(
            "gates",
            "Gates to what test users took next",
            gate_header,
            gate_rows,
            "Mean and standard deviation",
        ),
        robustness=figures.robustness(runs),
    )


def _page(*tables: Table, **drawn: str | None) -> Page:
    there = {name: svg for name, svg in drawn.items() if svg is not None}
    links = [f"![{name}](figures/{name}.svg)\n" for name in there]
    return "\n".join([*links, *map(markdown, tables)]).strip(), there


STUDIES: dict[str, tuple[str, Callable[[], Page]]] = {
    "gates": ("attention-and-leakage.md", gates),
    "plus_attention": ("attention-and-leakage.md", plus_attention),
    "parts": ("studies.md", parts),
    "table4": ("studies.md", table4),
    "curves": ("studies.md", curves),
    "robustness": ("studies.md", robustness),
    "ahead": ("studies.md", ahead),
    "wrong": ("studies.md", wrong),
    "shops": ("studies.md", shops),
    "encoders": ("studies.md", encoders),
    "cold": (
        "studies.md",
        lambda: _page(*cold_study.tables(json.loads(_path("cold").read_text()))),
    ),
}


def write_pages() -> None:
    """Rewrites what stands between `<!-- NAME -->` and `<!-- /NAME -->` for every study that has kept runs."""
    for name, (page, make) in STUDIES.items():
        if _path(name).exists():
            begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
            text, drawn = make()
            for figure, svg in drawn.items():
                write_text(DOCS / "figures" / f"{figure}.svg", svg)
            head, rest = (DOCS / page).read_text(encoding="utf-8").split(begin)
            write_text(DOCS / page, f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        of_workdirs = [
            name for name in STUDIES if name != "cold"
        ]  # which `cold_items` keeps itself
        if sys.argv[1] not in of_workdirs or len(sys.argv) < 3:
            sys.exit(f"usage: python -m benchmarks.studies [{'|'.join(of_workdirs)} WORKDIR ...]")
        keep(sys.argv[1], sys.argv[2:])
    write_pages()
