"""The comparison page of a report: a verdict, means with intervals, all results in one table, curves, recommendations, details."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from grasp_jax.evaluation.protocols import PROTOCOLS
from grasp_jax.evaluation.untrained import NONE
from grasp_jax.report.cards import cards
from grasp_jax.report.figures import LEARNING, LENGTHS, gates_title
from grasp_jax.report.joined import JoinedTable, Row, joined
from grasp_jax.report.names import dataset_of, method_labels, run_labels, within
from grasp_jax.report.plot import COLOURS, Figure
from grasp_jax.report.render import anchor, drawn, render
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.tables import ReportTable
from grasp_jax.report.verdict import main_protocol, standings, unfinished_in_words, verdict

TITLE = "Which method recommends better?"
SHOWN_ON_PAGE = (
    "significance"  # name of the table that stands on the page itself, not among a run's details
)


@dataclasses.dataclass(frozen=True)
class TableView:
    """A `ReportTable` as the templates show it.

    Attributes:
      name: its id on the page.
      left: so many columns are aligned to the left.
      grouped: whether a line separates groups of rows with the same first cell.
      wraps: whether its texts may wrap to a second line.
    """

    name: str
    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]]
    left: int = 2
    grouped: bool = False
    wraps: bool = False


def table_view(table: ReportTable, prefix: str = "", wraps: bool = False) -> TableView:
    """How a table is shown; `prefix` keeps the ids of several runs' tables apart."""
    grouped = len({row[0] for row in table.rows}) < len(table.rows)
    left = 3 if table.name == SHOWN_ON_PAGE else 2
    name = anchor(f"{prefix}-{table.name}" if prefix else table.name)
    return TableView(
        name, table.title, table.note, table.header, table.rows, table.best, left, grouped, wraps
    )


def differences_view(table: ReportTable, prefix: str) -> TableView:
    """The table of differences, with protocols in words, and the backbone only where there are several."""
    view = table_view(table, prefix)
    place = view.header.index("backbone")
    several = len({row[place] for row in view.rows} - {NONE}) > 1
    wanted = [k for k in range(len(view.header)) if several or k != place]
    rows = [[PROTOCOLS.get(row[k], row[k]) for k in wanted] for row in view.rows]
    header = [view.header[k] for k in wanted]
    return dataclasses.replace(view, header=header, rows=rows, left=view.left - (not several))


def page(
    runs: Sequence[tuple[FinishedRun, list[ReportTable]]], figures: Mapping[str, Figure]
) -> str:
    """The whole page.

    Args:
      runs: each run with its tables.
      figures: of `figures.all_figures`.
    """
    labels = run_labels([run for run, _ in runs])
    table = joined([run for run, _ in runs], labels)
    several = len(runs) > 1
    examples = [shown for run, _ in runs if (shown := _examples(run, labels[run.name]))]
    pairs = [
        dataclasses.replace(
            differences_view(differences, run.name),
            title=labels[run.name] if several else differences.title,
        )
        for run, tables in runs
        for differences in tables
        if differences.name == SHOWN_ON_PAGE
    ]
    placed = {LEARNING, LENGTHS, *(gates_title(run) for run, _ in runs)}
    across = [
        (title, drawn(figure.inline())) for title, figure in figures.items() if title not in placed
    ]
    sections = [("means", "Means"), ("results", "All results")]
    sections += [("pairs", "Differences")] if pairs else []
    sections += [("learning", "Learning curves")] if LEARNING in figures else []
    sections += [("across", "Across runs")] if across else []
    sections += [(examples[0]["anchor"], "Recommendations")] if examples else []
    return render(
        "report.html",
        TITLE,
        script="page.js",
        sections=[*sections, ("runs", "Runs in detail")],
        verdicts=verdicts([run for run, _ in runs]),
        plots=_plots([run for run, _ in runs], table),
        joined=table,
        several=several,
        backbones=len(_backbones(table.rows)) > 1,
        filters=_filters([run for run, _ in runs], table),
        pairs=pairs,
        learning=drawn(figures[LEARNING].inline()) if LEARNING in figures else "",
        across=across,
        examples=examples,
        runs=[_details(run, tables, labels[run.name], figures) for run, tables in runs],
        lengths=drawn(figures[LENGTHS].inline()) if LENGTHS in figures else "",
    )


def verdicts(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """For each dataset the sentences on all its runs together."""
    found = []
    for dataset in dict.fromkeys(map(dataset_of, runs)):
        of_dataset = [run for run in runs if dataset_of(run) == dataset]
        names, taken = method_labels(of_dataset), set[str]()
        rows: list[dict[str, Any]] = []
        comparisons: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        unfinished: list[dict[str, Any]] = []
        for run in of_dataset:
            own = {method: name for (folder, method), name in names.items() if folder == run.name}
            # the same results under the same name count once
            rows += [
                row | {"method": own[row["method"]]}
                for row in run.rows
                if own[row["method"]] not in taken
            ]
            taken |= set(own.values())
            comparisons += [
                pair | {side: own.get(pair[side], pair[side]) for side in ("first", "second")}
                for pair in run.results["comparisons"]
            ]
            for trials, of_run in ((failed, run.results["failed"]), (unfinished, run.unfinished)):
                trials += [
                    trial | {"method": own.get(trial["method"], trial["method"])}
                    for trial in of_run
                ]
        sentences = verdict(rows, comparisons, protocol_of(of_dataset), failed, unfinished)
        found.append({"dataset": dataset, "sentences": sentences})
    return found


def protocol_of(runs: Sequence[FinishedRun]) -> str:
    """The main protocol of the runs of one dataset: the one by which the first run chose its models."""
    rows = [row for run in runs for row in run.rows]
    selected_by = str(runs[0].config.get("eval", {}).get("select", ""))
    return main_protocol(rows, selected_by)


def _plots(runs: Sequence[FinishedRun], table: JoinedTable) -> list[dict[str, Any]]:
    """A plot of means for each dataset and protocol, the main protocol first; a method has the same colour in all plots."""
    colours = {
        name: k % COLOURS for k, name in enumerate(dict.fromkeys(row.method for row in table.rows))
    }
    labels = run_labels(runs)
    found = []
    for dataset in dict.fromkeys(map(dataset_of, runs)):
        of_dataset = [run for run in runs if dataset_of(run) == dataset]
        named = {labels[run.name] for run in of_dataset}
        main = PROTOCOLS[protocol_of(of_dataset)]
        order = [main, *(words for words in PROTOCOLS.values() if words != main)]
        for protocol in order:
            rows = [row for row in table.rows if row.run in named and row.protocol == protocol]
            if rows:
                title = f"{dataset}: {protocol}" if len(runs) > len(of_dataset) else protocol
                found.append(_plot(title[0].upper() + title[1:], rows, dataset, colours))
    return found


def _plot(
    title: str, rows: Sequence[Row], dataset: str, colours: Mapping[str, int]
) -> dict[str, Any]:
    rows = sorted(rows, key=lambda row: -row.interval.mean)
    lows = [row.interval.mean if row.interval.low is None else row.interval.low for row in rows]
    highs = [row.interval.mean if row.interval.high is None else row.interval.high for row in rows]
    margin = 0.06 * (max(highs) - min(lows)) or 1.0
    least, most = max(0.0, min(lows) - margin), max(highs) + margin
    several = len(_backbones(rows)) > 1
    runs = {row.run for row in rows}

    def place(value: float) -> str:
        return f"{100 * (value - least) / (most - least):.2f}"

    shown = []
    for row, low, high in zip(rows, lows, highs, strict=True):
        name = f"{row.method}, {row.backbone}" if several and row.backbone != NONE else row.method
        if len(runs) > 1:
            name += f" ({within(dataset, row.run)})"
        interval = "" if row.interval.low is None else f" [{low:.2f}, {high:.2f}]"
        shown.append(
            {
                "name": name,
                "colour": colours[row.method],
                "mid": place(row.interval.mean),
                "low": place(low),
                "high": place(high),
                "value_text": f"{row.interval.mean:.2f}{interval}",
            }
        )
    return {"title": title, "rows": shown, "least": f"{least:.1f} %", "most": f"{most:.1f} %"}


def _backbones(rows: Sequence[Row]) -> set[str]:
    """The backbones of rows, without methods that have none."""
    return {row.backbone for row in rows} - {NONE}


def _filters(runs: Sequence[FinishedRun], table: JoinedTable) -> list[dict[str, Any]]:
    """The filters of the table; initially the main protocol is selected if all datasets have the same one."""
    main = {PROTOCOLS[protocol_of([run])] for run in runs}
    found = []
    for name, column in (("Run", "run"), ("Backbone", "backbone"), ("Protocol", "protocol")):
        options = [
            name
            for name in dict.fromkeys(getattr(row, column) for row in table.rows)
            if name != NONE
        ]
        if len(options) > 1 or column == "protocol":
            chosen = next(iter(main)) if column == "protocol" and len(main) == 1 else ""
            found.append({"name": name, "column": column, "options": options, "chosen": chosen})
    return found


def _examples(run: FinishedRun, label: str) -> dict[str, Any] | None:
    ranked = [
        (standing.method, standing.backbone) for standing in standings(run.rows, protocol_of([run]))
    ]
    shown = cards(run, ranked)
    return (
        {"anchor": anchor(f"examples-{run.name}"), "label": label, "cards": shown}
        if shown
        else None
    )


def _details(
    run: FinishedRun, tables: Sequence[ReportTable], label: str, figures: Mapping[str, Figure]
) -> dict[str, Any]:
    about = run.results["about"]
    facts, lines = about.get("table1", {}), []
    if facts and "versions" in about:
        cores = "1 core" if about["cores"] == 1 else f"{about['cores']} cores"
        lines.append(
            f"{facts['dataset']}: {facts['users']:,} users, {facts['items']:,} items, {facts['interactions']:,} interactions. "
            f"{cores} of {about['cpu']}, {about['device']}, jax {about['versions']['jax']}, commit {str(about['commit'])[:10]}. "
            f"Folder: {run.name}."
        )
    if run.unfinished:
        lines.append(f"{unfinished_in_words(run.unfinished)}.")
    shown = []
    for table in tables:
        histogram = figures.get(gates_title(run)) if table.name == "gates" else None
        if table.name != SHOWN_ON_PAGE:
            shown.append(
                (table_view(table, run.name), drawn(histogram.inline()) if histogram else "")
            )
    return {
        "anchor": anchor(f"run-{run.name}"),
        "label": label,
        "facts": lines,
        "command": about.get("command", ""),
        "read": run.read,
        "tables": shown,
    }
