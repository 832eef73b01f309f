"""Runs on the paper's own data (IDs only) next to the paper's Tables 2 and 3, in groups as the paper counts them.

    python -m grasp_jax.main --config=configs/fashion.py:sasrec --config.data.path=FOLDER --workdir=runs/fashion
    python -m benchmarks.paper_data fashion-sasrec=runs/fashion
    python -m benchmarks.readme_tables

The second command stores the results of finished runs as benchmarks/results/NAME.json, with what their groups count (`eval.groups`); the
third writes docs/results.md. `--mode=report --runs=DIR` makes the same table of any run on this data.
"""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.arguments import parser_of_pages
from benchmarks.record import RESULTS, run, save
from benchmarks.study_records import FOLDERS
from grasp_jax.core.errors import UserError
from grasp_jax.data.groups import PAPER
from grasp_jax.evaluation.results import spread
from grasp_jax.report import paper
from grasp_jax.report.formats import markdown
from grasp_jax.report.runs import FinishedRun, read_run
from grasp_jax.report.table_data import trials, values
from grasp_jax.report.tables import GROUPS, ReportTable

NAMES = (
    "fashion-sasrec",
    "fashion-gru4rec-llm-esr",
    "fashion-bert4rec-llm-esr",
    "beauty-sasrec",
    "beauty-gru4rec-llm-esr",
    "beauty-bert4rec-llm-esr",
)
LLM_ESR = "-llm-esr"  # the end of the names of runs by the protocol of LLM-ESR's code
METRICS = ("NDCG@10", "HR@10")


def keep(name: str, folder: str) -> None:
    """Stores a finished run.

    Raises:
      UserError: an unknown name, or a workdir that is not finished.
    """
    if name not in NAMES:
        raise UserError(
            f"{name}={folder}: expected NAME=WORKDIR, where NAME is one of {', '.join(NAMES)}"
        )
    found = read_run(pathlib.Path(folder))
    about = found.results["about"] | {"groups": found.config["eval"]["groups"]}
    results = {key: found.results[key] for key in ("rows", "comparisons", "failed")}
    text = json.dumps({**results, "about": about})
    save(RESULTS / f"{name}.json", json.loads(FOLDERS.sub("", text)))


def section() -> str:
    """The tables in Markdown, a heading above each; "" if no stored run has the paper's groups."""
    runs = list(_stored())
    return "".join(f"{markdown(_table(runs, metric))}\n" for metric in METRICS) if runs else ""


def _stored() -> Iterator[FinishedRun]:
    """The stored runs with the paper's groups."""
    for name in NAMES:
        path = RESULTS / f"{name}.json"
        record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"about": {}}
        if record["about"].get("groups") == PAPER:
            yield FinishedRun(name, {}, record, [], {}, {})


def _table(runs: Sequence[FinishedRun], metric: str) -> ReportTable:
    words = [group.replace("_", " ") + "s" for group in GROUPS]
    header = [
        "data",
        "backbone",
        "protocol",
        "seeds",
        "all",
        *words,
        *(f"{w}, share" for w in words[::2]),
    ]
    body = []
    for own in runs:
        method, backbone = trials(own)[0]
        data = own.rows[0]["dataset"]
        protocol = "LLM-ESR's code" if own.name.endswith(LLM_ESR) else "ours"
        seeds = len({row["seed"] for row in own.rows})
        line = [data, backbone, protocol, str(seeds)]
        for group in ("all", *GROUPS):
            theirs = (
                paper.overall(data, method, backbone, metric)
                if group == "all"
                else paper.group(data, method, backbone, group, metric)
            )
            ours = values(own, method, backbone, "sampled100", group, metric)
            line.append(f"{spread(ours)} ({theirs:.2f})")
        body.append([*line, *(f"{_share(own, group):.3f}" for group in GROUPS[::2])])
    title = (
        f"The paper's data, IDs only, in the paper's groups: {metric} among 100 negatives, percent"
    )
    return ReportTable(
        f"paper-{metric}", title, header, body, "In brackets: the paper, Tables 2 and 3"
    )


def _share(own: FinishedRun, group: str) -> float:
    """Share of the test users that are in a group."""
    counts = {row["group"]: row["n"] for row in own.rows if row["protocol"] == "sampled100"}
    return float(counts[group] / counts["all"])


def main() -> None:
    """Stores the runs that the command line names."""
    parser = parser_of_pages("paper_data", __doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=WORKDIR", help="names and finished runs")
    for given in parser.parse_args().runs:
        name, _, folder = given.partition("=")
        keep(name, folder)


if __name__ == "__main__":
    run(main)
