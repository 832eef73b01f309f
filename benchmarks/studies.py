"""Stores the runs of a study in a form small enough to commit, and writes its tables and figures into the pages of docs/.

    python -m benchmarks.studies gates runs/gate-*     # stores these runs in benchmarks/results/study-gates.json, then writes the pages
    python -m benchmarks.studies                       # writes the pages from the stored runs

The runs of a study are variants of `configs/sweep.py`. This program writes only the parts of a page between markers; the rest is by hand.
"""

import json
import pathlib
from collections.abc import Callable

from benchmarks import cold_study, seven_study, study_match
from benchmarks.arguments import parser_of_pages
from benchmarks.facts import facts
from benchmarks.record import RESULTS
from benchmarks.record import run as run_main
from benchmarks.study_alone import alone
from benchmarks.study_by_loss import by_loss
from benchmarks.study_defaults import defaults
from benchmarks.study_late_fusion import ahead, domains, headline, shops, short, splits, wrong
from benchmarks.study_public import public
from benchmarks.study_records import METRICS, Page, keep, page, path_of, read
from configs import sweep
from grasp_jax.core.files import write_text
from grasp_jax.evaluation.results import spread
from grasp_jax.report import figures
from grasp_jax.report.plot import Figure
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values
from grasp_jax.report.tables import ReportTable, ablation

DOCS = pathlib.Path(__file__).parent.parent / "docs"
ORDER = ("plain", "grasp", "grasp_plus")  # of rows


def gates() -> Page:
    """For every query and temperature: the training loss, validation, and how far the gates move."""
    runs, moved = read("gates")
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
    return page(
        ReportTable("gates", "Queries and temperatures", header, body),
        gates=_svg(figures.gate_temperature(runs)),
    )


def _svg(figure: Figure | None) -> str | None:
    """A figure as a separate file."""
    return None if figure is None else figure.standalone()


def plus_attention() -> Page:
    """grasp_plus with the best gates of the study, and without gates, for each loss."""
    body = []
    for run in read("plus_attention")[0]:
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
    return page(
        ReportTable("plus_attention", "grasp_plus with and without gates, NDCG@10", header, body)
    )


def _last_and_best(run: FinishedRun) -> tuple[float, float]:
    """Training loss of the last epoch, and the best validation NDCG@10 in percent."""
    return max(run.epochs, key=lambda record: record["epoch"])["loss"], max(
        100 * record["valid_ndcg@10"] for record in run.epochs
    )


def parts() -> Page:
    """grasp_plus with one part changed, compared with grasp_plus; a part of early fusion is compared with early fusion, if that was run."""
    runs, _ = read("parts")
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
    return page(ReportTable("parts", "The parts of grasp_plus: NDCG@10, percent", header, body))


def table4() -> Page:
    """GRASP without each of its parts."""
    return page(ablation(read("table4")[0][0]))


def encoders() -> Page:
    """Encoders and prompts, compared with the backbone that reads no text, from the run `table2`."""
    body = []
    if (path := RESULTS / "table2.json").exists():
        ids_alone = FinishedRun("table2", {}, json.loads(path.read_text()), [], {}, {})
        body.append(["none", "", "plain", *_ndcg(ids_alone, "plain", "sasrec")])
    for run in read("encoders")[0]:
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
    return page(
        ReportTable(
            "encoders",
            "Text encoders: NDCG@10, percent",
            header,
            sorted(body, key=lambda line: ORDER.index(line[2])),
        )
    )


def _ndcg(run: FinishedRun, method: str, backbone: str) -> list[str]:
    """NDCG@10 in percent, sampled and full, of all users and of tail items."""
    columns = [
        (protocol, group) for protocol in ("sampled100", "full") for group in ("all", "tail_item")
    ]
    return [f"{values(run, method, backbone, *column, 'NDCG@10').mean():.2f}" for column in columns]


def curves() -> Page:
    """The paper's Figure 4: number of neighbours K and width D."""
    runs, _ = read("curves")
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
    table = ReportTable(
        "curves",
        "Neighbours and width: sampled, percent",
        ["field", "value", *METRICS, "NDCG@10, tail items"],
        body,
    )
    return page(
        table,
        neighbours=_svg(figures.metric_against(runs, "K")),
        width=_svg(figures.metric_against(runs, "D")),
    )


def robustness() -> Page:
    """Wrong descriptions: NDCG@10 overall and of tail users, and the gates of users with and without a wrong description."""
    runs, moved = read("robustness")
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
    return page(
        ReportTable("robustness", "Wrong descriptions: sampled NDCG@10, percent", header, body),
        ReportTable(
            "gates",
            "Gates between test users and their next items",
            gate_header,
            gate_rows,
            "Mean and standard deviation; 'as written' are users with their own text, 'wrong' those with a damaged text",
        ),
        robustness=_svg(figures.robustness(runs)),
    )


def cold() -> Page:
    """Items that came after training, among all items."""
    return page(*cold_study.tables(json.loads(path_of("cold").read_text())))


def cold_parts() -> Page:
    """Which parts of `grasp_plus` rank such items."""
    return page(*cold_study.parts_tables(json.loads(path_of("cold-parts").read_text())))


def match() -> Page:
    """Settings of the match that a recorded search chose."""
    records = (path_of(name) for name in ("match", "match-two-towers"))
    return page(study_match.table(*(json.loads(record.read_text()) for record in records)))


def seven() -> Page:
    """Daily training: continued, from nothing, and never again."""
    records = (path_of(name) for name in ("seven", "seven-tries"))
    return page(*seven_study.tables(*(json.loads(path.read_text()) for path in records)))


STUDIES: dict[str, tuple[str, Callable[[], Page]]] = {
    "gates": ("attention-and-leakage.md", gates),
    "plus_attention": ("attention-and-leakage.md", plus_attention),
    "parts": ("studies.md", parts),
    "table4": ("studies.md", table4),
    "curves": ("studies.md", curves),
    "robustness": ("studies.md", robustness),
    "ahead": ("studies.md", ahead),
    "alone": ("studies.md", alone),
    "by_loss": ("studies.md", by_loss),
    "match": ("studies.md", match),
    "public": ("studies.md", public),
    "headline": ("../README.md", headline),
    "facts": ("../README.md", facts),
    "wrong": ("studies.md", wrong),
    "shops": ("studies.md", shops),
    "domains": ("studies.md", domains),
    "short": ("studies.md", short),
    "defaults": ("studies.md", defaults),
    "splits": ("studies.md", splits),
    "encoders": ("studies.md", encoders),
    "cold": ("studies.md", cold),
    "cold-parts": ("studies.md", cold_parts),
    "seven": ("studies.md", seven),
}


# parts of a page made from another study's runs
RECORDS = dict.fromkeys(("headline", "facts", "by_loss"), "ahead")


def has_runs(name: str) -> bool:
    """Whether the runs from which a part of a page is made are stored."""
    return path_of(RECORDS.get(name, name)).exists()


def write_pages() -> None:
    """Rewrites the text between `<!-- NAME -->` and `<!-- /NAME -->` for every study that has stored runs."""
    for name, (document, make) in STUDIES.items():
        if has_runs(name):
            begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
            text, drawn = make()
            for figure, svg in drawn.items():
                write_text(DOCS / "figures" / f"{figure}.svg", svg)
            head, rest = (DOCS / document).read_text(encoding="utf-8").split(begin)
            write_text(DOCS / document, f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def main() -> None:
    """Stores the runs of a study that the command line names, and writes the pages."""
    others = *RECORDS, "cold", "cold-parts", "seven", "public"
    of_workdirs = [name for name in STUDIES if name not in others]
    parser = parser_of_pages("studies", __doc__)
    parser.add_argument("study", nargs="?", choices=of_workdirs, help="whose runs are stored")
    parser.add_argument("workdirs", nargs="*", metavar="WORKDIR", help="its finished runs")
    given = parser.parse_args()
    if given.study is not None:
        if not given.workdirs:
            parser.error(f"{given.study}: expected the workdirs of its runs after it")
        keep(given.study, given.workdirs)
    write_pages()


if __name__ == "__main__":
    run_main(main)
