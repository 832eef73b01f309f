"""Stores the results of a study's runs in a form small enough to commit, and reads them."""

import dataclasses
import json
import pathlib
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, save
from grasp_jax.report.formats import markdown
from grasp_jax.report.runs import FinishedRun, read_run
from grasp_jax.report.tables import ReportTable

Page = tuple[str, dict[str, str]]  # Markdown, and the figures that it shows: name -> SVG
WIDTH = 140  # of a line of Markdown
METRICS = ("NDCG@10", "HR@10")
PROTOCOLS = ("full_unseen", "full", "sampled100")
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
# an absolute path without its last two parts
FOLDERS = re.compile(r"(?<![\w.])/(?:[^/\s\"]+/)*(?=[^/\s\"]+/[^/\s\"]+)")
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
    """Adds finished workdirs to the study; they replace stored runs of the same names."""
    path = path_of(name)
    kept = {
        run["name"]: run for run in (json.loads(path.read_text())["runs"] if path.exists() else [])
    }
    for folder in folders:
        run = _kept(read_run(pathlib.Path(folder))) | {"parts": _left_out(pathlib.Path(folder))}
        # the paths of files on this machine do not help a reader
        kept[run["name"]] = json.loads(FOLDERS.sub("", json.dumps(run)))
    save(path, {"runs": list(kept.values())})


def _left_out(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Which weights of the parts of `grasp_plus` validation lowered, and its NDCG@10 with all parts and with these weights."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        {key: line.get(key) for key in ("method", "seed", "left_out", "weights", "valid_ndcg@10")}
        for line in lines
        if line["event"] == "parts"
    ]


def _kept(run: FinishedRun) -> dict[str, Any]:
    rows = [{key: row.get(key) for key in ROW} for row in run.rows if row["group"] in GROUPS]
    about = {
        key: value
        for key, value in run.results["about"].items()
        if key not in ("lengths", "table1", "trials")
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


def read(name: str) -> tuple[list[FinishedRun], dict[str, list[dict[str, Any]]]]:
    """The stored runs, and the gates of each run by its name."""
    stored = json.loads(path_of(name).read_text())["runs"]
    runs = [
        FinishedRun(
            run["name"], run["config"], {"failed": [], **run["results"]}, run["epochs"], {}, {}
        )
        for run in stored
    ]
    return runs, {run["name"]: run["gates"] for run in stored}


def path_of(name: str) -> pathlib.Path:
    return RESULTS / f"study-{name}.json"


def page(*tables: ReportTable, **drawn: str | None) -> Page:
    """The tables one below the other, with notes in lines that a reader of the Markdown can read, below the figures."""
    tables = tuple(dataclasses.replace(own, note=textwrap.fill(own.note, WIDTH)) for own in tables)
    there = {name: svg for name, svg in drawn.items() if svg is not None}
    links = [f"![{name}](figures/{name}.svg)\n" for name in there]
    return "\n".join([*links, *map(markdown, tables)]).strip(), there
