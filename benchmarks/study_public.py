"""Logs that others published of runs on the same data by the same protocol, compared with ours.

`benchmarks/results/study-public.json` holds the figures as the logs print them, with their addresses; nobody here ran these programs.
"""

import json
from typing import Any

import numpy as np

from benchmarks.study_labels import DEFAULT, VARIANTS
from benchmarks.study_records import Page, page, path_of, read
from benchmarks.study_trials import BASELINE, LOSSES, OURS, merged, tried
from grasp_jax.evaluation.results import spread
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values
from grasp_jax.report.tables import ReportTable

HERE = {
    (BASELINE, LOSSES["ce"]): "SASRec, cross-entropy, IDs alone",
    (f"{BASELINE}, 40 epochs", LOSSES["ce"]): "SASRec, cross-entropy, IDs alone, 40 epochs",
    (f"{BASELINE}, 100 epochs", LOSSES["ce"]): "SASRec, cross-entropy, IDs alone, 100 epochs",
    (f"{BASELINE}, 200 epochs", LOSSES["ce"]): (
        "SASRec, cross-entropy, IDs alone, with the settings of the first log"
    ),
    ("llminit", LOSSES["ce"]): "LLMInit, cross-entropy",
    ("llminit, 40 epochs", LOSSES["ce"]): "LLMInit, cross-entropy, 40 epochs",
    (DEFAULT, LOSSES["ce"]): VARIANTS[DEFAULT],
    (OURS, LOSSES["ce"]): VARIANTS[OURS],
}


def ndcg_of_sasrec() -> float:
    """Test NDCG@10 without seen items of the public SASRec, percent, the mean over its seeds."""
    run = json.loads(path_of("public").read_text())["runs"][0]
    return 100 * sum(run["ndcg@10"]) / len(run["ndcg@10"])


def public() -> Page:
    """Public logs and our rows, ordered by NDCG@10."""
    record = json.loads(path_of("public").read_text())
    found = merged(read("ahead")[0])
    ours = _test(found[DEFAULT, LOSSES["ce"]], "NDCG@10").mean()
    lines = [_public(run) for run in record["runs"]]
    lines += [_here(found[trial], name) for trial, name in HERE.items() if trial in found]
    body = []
    for mean, line in sorted(lines, key=lambda entry: entry[0]):
        lead = "" if mean == ours else f"{100 * (ours / mean - 1):+.0f} %"
        body.append([*line, lead])
    data = record["data"]
    title = (
        f"Public logs and this package on {data['users']:,} users, {data['items']:,} items and {data['interactions']:,} interactions; "
        "full_unseen, percent"
    )
    header = ["model", "run by", "seeds", "validation NDCG@10", "NDCG@10", "HR@10"]
    return page(ReportTable("public", title, [*header, "lead of `grasp_plus`"], body))


def _public(run: dict[str, Any]) -> tuple[float, list[str]]:
    """Mean NDCG@10 in percent, and the cells of a public log."""
    columns = [100 * np.array(run[name]) for name in ("valid_ndcg@10", "ndcg@10", "hr@10")]
    repository = "/".join(run["source"].split("/")[3:5])
    by = f"[{repository}]({run['source']}): {run['settings']}"
    cells = [run["model"], by, str(len(columns[0])), *map(spread, columns)]
    return float(columns[1].mean()), cells


def _here(run: FinishedRun, name: str) -> tuple[float, list[str]]:
    """Mean NDCG@10 in percent, and the cells of one of our rows."""
    method, _ = trials(run)[0]
    ndcg = _test(run, "NDCG@10")
    valid = 100 * np.concatenate(list(tried([(run, method)]).values()))
    cells = [name, "this package", str(len(ndcg)), spread(valid), spread(ndcg)]
    return float(ndcg.mean()), [*cells, spread(_test(run, "HR@10"))]


def _test(run: FinishedRun, metric: str) -> np.ndarray:
    """[seeds] percent."""
    return values(run, *trials(run)[0], "full_unseen", "all", metric)
