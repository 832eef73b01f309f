"""The tables of a report: overall, groups, ablations and significance, with the paper's figures next to ours."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from grasp_jax.data.groups import PAPER
from grasp_jax.evaluation.protocols import PROTOCOLS
from grasp_jax.evaluation.results import (
    COMPARISON_HEADER,
    HOLM_NOTE,
    comparison_rows,
    spread,
    unsure_note,
)
from grasp_jax.evaluation.untrained import shown_backbone, stand_together
from grasp_jax.models.gates import NAMES
from grasp_jax.report import paper
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import (
    MISSING,
    caption,
    chosen_rates,
    comparison_data,
    seeds_data,
    trials,
    values,
)
from grasp_jax.report.verdict import baseline_of, baseline_trial, unfinished_in_words

GROUPS = ("tail_item", "head_item", "tail_user", "head_user")


@dataclasses.dataclass(frozen=True)
class ReportTable:
    """A table of a report.

    Attributes:
      name, title: of its files, and above it.
      header, rows: cells as text.
      note: how to read them.
      best: (row, column) of the best value of a column.
      caption: what else a paper must say of the numbers; for LaTeX.
      data: header and rows for CSV, numbers with full precision; empty: `header` and `rows`.
    """

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""
    best: frozenset[tuple[int, int]] = frozenset()
    caption: str = ""
    data: Sequence[Sequence[str | float]] = ()


def all_tables(run: FinishedRun) -> list[ReportTable]:
    """Every table that a run has the numbers for."""
    tables = [overall(run, protocol) for protocol in _protocols(run)]
    tables += [groups(run, protocol) for protocol in _protocols(run)]
    if any(method.startswith("grasp_wo") for method, _ in trials(run)):
        tables.append(ablation(run))
    if run.gates:
        tables.append(mean_gates(run))
    if run.results["comparisons"]:
        tables.append(significance(run))
    return tables


def overall(run: FinishedRun, protocol: str) -> ReportTable:
    """Table 2: NDCG and HR, with what each method adds to its plain backbone, here and in the paper."""
    metrics = ("NDCG@5", "NDCG@10", "HR@5", "HR@10", "NDCG@20", "HR@20", "MRR")
    with_paper = protocol == "sampled100" and any(
        paper.overall(_dataset(run), m, b, "NDCG@10") is not None for m, b in trials(run)
    )
    base = baseline_of(method for method, _ in trials(run)) or "plain"
    header = ["backbone", "method", "dropout", "learning rate", *metrics, f"over {base}"] + (
        ["paper NDCG@10", "paper HR@10", "paper over plain"] if with_paper else []
    )
    if with_paper and _dataset(run) in paper.SAME_DATA:
        header += ["difference NDCG@10", "difference HR@10"]
    body, numbers = [], []
    for backbone, methods in _by_backbone(run):
        for method in methods:
            measured = [
                values(run, method, backbone, protocol, "all", metric) for metric in metrics
            ]
            line = [
                shown_backbone(method, backbone),
                method,
                *chosen_rates(run, method, backbone, protocol),
                *(spread(value, method) for value in measured),
                _over(run, base, method, backbone, protocol),
            ]
            if with_paper:
                theirs = [
                    paper.overall(_dataset(run), method, backbone, metric)
                    for metric in ("NDCG@10", "HR@10")
                ]
                plain = paper.overall(_dataset(run), "plain", backbone, "NDCG@10")
                gain = (
                    None
                    if theirs[0] is None or not plain or method == "plain"
                    else 100 * (theirs[0] / plain - 1)
                )
                line += [*map(_number, theirs), _percent(gain)]
                if _dataset(run) in paper.SAME_DATA:
                    line += [
                        MISSING if b is None or not len(a) else f"{a.mean() - b:+.2f}"
                        for a, b in zip((measured[1], measured[3]), theirs, strict=True)
                    ]
            body.append(line)
            numbers.append(
                [np.nan] * 4 + [value.mean() if len(value) else np.nan for value in measured]
            )
    best = _best(numbers, [line[0] for line in body])
    for failed in run.results["failed"]:
        body.append(
            [
                failed["backbone"],
                failed["method"],
                MISSING,
                MISSING,
                f"failed: {failed['reason']}",
                *[""] * (len(header) - 5),
            ]
        )
    note = "Percent, test"
    if with_paper and _dataset(run) not in paper.SAME_DATA:
        note += "; the paper used another version of the data, so compare the gains over plain"
    if run.unfinished:
        note += f". {unfinished_in_words(run.unfinished)}"
    return ReportTable(
        f"overall-{protocol}",
        f"Overall, {PROTOCOLS[protocol]}",
        header,
        body,
        note,
        best,
        caption(run, protocol),
        seeds_data(run, protocol, [("all", metric, metric) for metric in metrics]),
    )


def groups(run: FinishedRun, protocol: str) -> ReportTable:
    """Table 3: NDCG@10 by tail and head of items and users."""
    header = ["backbone", "method"]
    in_paper = [
        paper.group(_dataset(run), method, backbone, GROUPS[0], "NDCG@10")
        for method, backbone in trials(run)
    ]
    shown_paper = protocol == "sampled100" and any(value is not None for value in in_paper)
    for group in GROUPS:
        header += [group.replace("_", " ")] + (
            [f"paper, {group.replace('_', ' ')}"] if shown_paper else []
        )
    body, numbers = [], []
    for backbone, methods in _by_backbone(run):
        for method in methods:
            line, row = [shown_backbone(method, backbone), method], [np.nan, np.nan]
            for group in GROUPS:
                measured = values(run, method, backbone, protocol, group, "NDCG@10")
                line.append(spread(measured, method))
                row.append(measured.mean() if len(measured) else np.nan)
                if shown_paper:
                    line.append(
                        _number(paper.group(_dataset(run), method, backbone, group, "NDCG@10"))
                    )
                    row.append(np.nan)
            body.append(line)
            numbers.append(row)
    best = _best(numbers, [line[0] for line in body])
    note = "Percent, test" + (_other_groups(run) if shown_paper else "")
    title = f"NDCG@10 by group, {PROTOCOLS[protocol]}"
    data = seeds_data(run, protocol, [(group, "NDCG@10", group) for group in GROUPS])
    return ReportTable(
        f"groups-{protocol}", title, header, body, note, best, caption(run, protocol), data
    )


def _other_groups(run: FinishedRun) -> str:
    """Why the groups of a run are not those of the paper; "" if they are."""
    if _dataset(run) not in paper.SAME_DATA:
        return "; the paper's figures are of another cut of the data"
    if run.config.get("eval", {}).get("groups") == PAPER:
        return ""
    return "; the paper counts other interactions for its groups: config.eval.groups=paper makes groups as it does"


def ablation(run: FinishedRun) -> ReportTable:
    """Table 4: what GRASP loses without a part."""
    protocols = _protocols(run)
    header = ["backbone", "variant"]
    for protocol in protocols:
        header += [f"NDCG@10, {protocol}", "against GRASP"]
    header += ["paper NDCG@10", "paper against GRASP"]
    body = []
    for method, backbone in trials(run):
        if method not in paper.ABLATION:
            continue
        line = [backbone, method]
        for protocol in protocols:
            measured, whole = (
                values(run, m, backbone, protocol, "all", "NDCG@10") for m in (method, "grasp")
            )
            known = len(whole) and len(measured) and method != "grasp"
            line += [
                spread(measured),
                _percent(100 * (measured.mean() / whole.mean() - 1) if known else None),
            ]
        theirs, whole_theirs = (
            paper.ablation(_dataset(run), m, backbone, "NDCG@10") for m in (method, "grasp")
        )
        change = (
            None
            if theirs is None or not whole_theirs or method == "grasp"
            else 100 * (theirs / whole_theirs - 1)
        )
        body.append([*line, _number(theirs), _percent(change)])
    said = caption(run, protocols[0], bold=False)
    return ReportTable(
        "ablation", "Ablations of GRASP", header, body, "Percent, test", caption=said
    )


def mean_gates(run: FinishedRun) -> ReportTable:
    """Mean gates between test users and their next items; users with a wrong description have rows of their own (the paper's A.3)."""
    body = []
    for (method, backbone), stored in run.gates.items():
        for label, chosen in (("as written", ~stored["corrupted"]), ("wrong", stored["corrupted"])):
            if chosen.any():
                gates = stored["gates"][chosen]
                spread = [
                    f"{mean:.4f} ± {deviation:.4f}"
                    for mean, deviation in zip(gates.mean(axis=0), gates.std(axis=0), strict=True)
                ]
                body.append([backbone, method, label, *spread])
    header = ["backbone", "method", "description of the user", *NAMES]
    note = "Gates between test users and their next items; mean and standard deviation over users"
    return ReportTable("gates", "Gates", header, body, note)


def significance(run: FinishedRun) -> ReportTable:
    """Comparisons of every pair of methods of a backbone."""
    note = (
        f"In percentage points. * marks p below 0.05. {HOLM_NOTE}. A pair without a backbone is counted once, with the pairs of the first. "
        "The interval is a bootstrap over users and, if there are several, over seeds"
    )
    if unsure := unsure_note(run.results["comparisons"]):
        note += f". {unsure}"
    body = comparison_rows(run.results["comparisons"])
    return ReportTable(
        "significance",
        "Differences between methods",
        list(COMPARISON_HEADER),
        body,
        note,
        data=comparison_data(run.results["comparisons"]),
    )


def _protocols(run: FinishedRun) -> list[str]:
    return list(dict.fromkeys(row["protocol"] for row in run.rows))


def _dataset(run: FinishedRun) -> str:
    """Name of real data; "" if the paper has no counterpart: for synthetic data, and for data of another size than their name tells."""
    data = run.config["data"]
    synthetic = data["source"] == "synthetic" or (data["source"] == "auto" and not data["path"])
    name: str = run.rows[0]["dataset"]
    facts = run.results["about"].get("table1")
    other = bool(facts) and paper.is_other_data(name, facts["users"], facts["items"])
    return "" if synthetic or other else name


def _by_backbone(run: FinishedRun) -> Iterable[tuple[str, list[str]]]:
    for backbone in dict.fromkeys(backbone for _, backbone in trials(run)):
        yield backbone, [method for method, of in trials(run) if of == backbone]


def _over(run: FinishedRun, base: str, method: str, backbone: str, protocol: str) -> str:
    found = baseline_trial([trial for trial in trials(run) if trial[0] == base], method, backbone)
    if found is None or method == base:
        return MISSING
    measured = values(run, method, backbone, protocol, "all", "NDCG@10")
    of_base = values(run, *found, protocol, "all", "NDCG@10")
    return _percent(
        100 * (measured.mean() / of_base.mean() - 1) if len(of_base) and len(measured) else None
    )


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.1f} %"


def _best(
    numbers: Sequence[Sequence[float]], backbones: Sequence[str]
) -> frozenset[tuple[int, int]]:
    """The largest value of each column among the rows of each backbone, if there are several; a row without backbone is among all.

    Args:
      numbers: [rows, columns], nan where a cell has no number.
      backbones: [rows] as shown.
    """
    values = np.array(numbers, np.float64)
    found: set[tuple[int, int]] = set()
    for row, backbone in enumerate(backbones):
        rivals = [k for k, other in enumerate(backbones) if stand_together(backbone, other)]
        if len(rivals) > 1:
            leads = values[row] == np.fmax.reduce(values[rivals])
            found |= {(row, int(column)) for column in np.flatnonzero(leads)}
    return frozenset(found)
