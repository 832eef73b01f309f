"""The tables on late fusion: every method under one protocol, wrong texts, other shops, and other ways to split and order the data."""

import json
import re

import numpy as np

from benchmarks import study_search
from benchmarks.study_labels import DEFAULT, VARIANTS, shown
from benchmarks.study_records import METRICS, PROTOCOLS, Page, page, path_of, read
from benchmarks.study_trials import (
    BASELINE,
    LOSSES,
    OURS,
    Part,
    all_parts,
    chosen,
    loss,
    main_metric,
    merged,
    starts_from_text,
    together,
    with_training,
)
from grasp_jax.evaluation.results import spread
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values
from grasp_jax.report.tables import ReportTable

BY_PROTOCOL = (
    "method",
    "loss",
    "seeds",
    *(f"{protocol} {metric}" for protocol in PROTOCOLS for metric in METRICS),
    "full_unseen NDCG@10, tail items",
)
BY_GROUP = {"tail_item": "tail items", "head_item": "head items", "tail_user": "tail users"}
SHOPS = {
    "shop-skin": "The department Skin Care, `lsa` vectors; percent",
    "shop-hair": "The department Hair Care, `lsa` vectors; percent",
}
DOMAINS = {
    "domain-industrial": "Amazon Industrial and Scientific, texts of sellers; percent",
    "domain-office": "Amazon Office Products, texts of sellers; percent",
    "domain-toys": "Amazon Toys and Games 5-core, texts of some six words; percent",
    "domain-movies": "MovieLens 100K, titles and genres; percent",
}
SHORT = {
    "short-industrial": "Amazon Industrial and Scientific, first four interactions of a user; percent",
    "short-office": "Amazon Office Products, first four interactions of a user; percent",
}
SPLITS = {
    "split-time": "Split by two days for everybody, `lsa` vectors; percent",
    "split-ties": "Interactions of a user on one day in random order, MiniLM vectors; percent",
}
HEADLINE = {
    ("semantic_neighbours", ""): "cosine of texts, not trained (`semantic_neighbours`)",
    ("llm_esr", "cross-entropy"): "LLM-ESR (`llm_esr`)",
    ("sasrec_ce", "cross-entropy"): "plain SASRec, IDs alone (`sasrec_ce`)",
    ("three_id_towers", "cross-entropy"): VARIANTS["three_id_towers"],
    ("id_text_sum", "cross-entropy"): "ID vector plus a linear map of the text (`id_text_sum`)",
    ("llminit", "cross-entropy"): "LLMInit: ID vectors that start from text (`llminit`)",
    ("id_and_validated_match", "cross-entropy"): VARIANTS["id_and_validated_match"],
    ("idtext_and_match", "cross-entropy"): VARIANTS["idtext_and_match"],
    (DEFAULT, "cross-entropy"): "**`grasp_plus`** (`configs/beauty5.py:best`)",
}
HEADLINE_COLUMNS = {
    "full catalogue, seen items left out: NDCG@10 / HR@10": ("full_unseen", "all", METRICS),
    "the same, tail items: NDCG@10": ("full_unseen", "tail_item", METRICS[:1]),
    "full catalogue: NDCG@10 / HR@10": ("full", "all", METRICS),
    "among 100 negatives: NDCG@10 / HR@10": ("sampled100", "all", METRICS),
}


def ahead() -> Page:
    """Methods under one protocol: untrained ones, IDs alone, methods with text, and late fusion; by groups; and what was tried for each."""
    return page(*ahead_tables())


def ahead_tables() -> tuple[ReportTable, ReportTable, ReportTable]:
    """The tables of `ahead`; docs/results.md has the first of them too."""
    runs, _ = read("ahead")
    found = merged(runs)
    path = path_of("ahead-against")
    against = json.loads(path.read_text())["differences"] if path.exists() else {}
    body, groups = [], []
    for (name, by), run in sorted(found.items(), key=lambda entry: main_metric(entry[1]).mean()):
        method, backbone = trials(run)[0]
        difference = against.get(f"{name} {by}".strip(), {}).get("full_unseen")
        over = (
            ""
            if difference is None
            else f"{difference[0]:+.2f} [{difference[1]:+.2f}, {difference[2]:+.2f}]"
        )
        line = _by_protocol(run, method, backbone, name, by)
        rate = f"{chosen(run, method)[0]:g}" if by else ""
        body.append([*line, over, rate, _minutes(run)])
        groups.append(
            [shown(name), by]
            + [
                spread(values(run, method, backbone, protocol, group, "NDCG@10"))
                for protocol in ("full_unseen", "sampled100")
                for group in BY_GROUP
            ]
        )
    header = [
        *BY_PROTOCOL,
        "full_unseen NDCG@10, difference from SASRec",
        "dropout",
        "minutes of training",
    ]
    title = "Amazon Beauty 5-core, MiniLM vectors, SASRec; percent"
    intervals = "In brackets: 95 % interval over users, and over seeds where there are several."
    note = " ".join([intervals] * bool(against) + [study_search.variation(found.values())])
    of_groups = ["method", "loss"] + [
        f"{protocol}, {name}"
        for protocol in ("full_unseen", "sampled100")
        for name in BY_GROUP.values()
    ]
    return (
        ReportTable("ahead", title, header, body, note),
        ReportTable("ahead-groups", "The same by groups: NDCG@10, percent", of_groups, groups),
        study_search.table(runs),
    )


def wrong() -> Page:
    """Late fusion with learned trust, and LLM-ESR, if a share of the texts belongs to other items, compared with a model that reads no
    text.
    """
    runs = sorted(read("wrong")[0], key=lambda run: (trials(run)[0][0] != OURS, _share(run)))
    body = []
    for run in runs:
        method, backbone = trials(run)[0]
        own = DEFAULT if method == OURS and starts_from_text(run) else method
        name = f"{own}{_against_wrong_texts(run) if method == OURS else ''}, {100 * _share(run):.0f} % wrong"
        body.append(_by_protocol(run, method, backbone, name, loss(run, method)))
    named = {
        BASELINE: "sasrec_ce, no text",
        OURS: "grasp_plus, full trust, all parts, 0 % wrong",
        DEFAULT: f"{DEFAULT}, full trust, 0 % wrong",
        "llm_esr": "llm_esr, 0 % wrong",
    }
    dropout = {trials(run)[0][0]: chosen(run, trials(run)[0][0])[0] for run in runs}
    right = read("ahead")[0]
    preferred = merged(right)
    for (name, by), parts in all_parts(right).items():
        if name in named and by == LOSSES["ce"]:
            run = preferred[name, by]
            # that of the rows with wrong texts, even if validation chose another for right ones
            if name in dropout:
                run = together([part for part in parts if chosen(*part)[0] == dropout[name]])
            body.append(_by_protocol(run, *trials(run)[0], named[name], by))
    title = "Texts of items swapped: Amazon Beauty 5-core, MiniLM vectors, SASRec; percent"
    return page(ReportTable("wrong", title, list(BY_PROTOCOL), body))


def _against_wrong_texts(run: FinishedRun) -> str:
    """The words for a row's name that say how its model deals with wrong texts."""
    plus = run.config["model"]["plus"]
    trust = ", learned trust" if plus["text_trust"] == "learned" else ", full trust"
    validated = plus.get("parts") == "validated"  # earlier runs do not have this field
    return f"{trust}, {'harmful parts left out' if validated else 'all parts'}"


def shops() -> Page:
    """The settings of `configs/beauty5.py:best` on shops and vectors on which they were not chosen."""
    return _one_table_each("shops", SHOPS)


def domains() -> Page:
    """The same settings on data of other domains."""
    return _one_table_each("domains", DOMAINS)


def short() -> Page:
    """The same settings where every user has only four interactions."""
    return _one_table_each("short", SHORT)


def splits() -> Page:
    """The same settings with the split by time, and with a random order within a day."""
    return _one_table_each("splits", SPLITS)


def _one_table_each(study: str, titles: dict[str, str]) -> Page:
    """A table for each name in `titles`, with a line for each row of `rows_of`."""
    tables = []
    for name, title in titles.items():
        rows = sorted(rows_of(study, name).items(), key=lambda entry: main_metric(entry[1]).mean())
        body = [
            _by_protocol(run, *trials(run)[0], row, loss(run, trials(run)[0][0]))
            for row, run in rows
        ]
        tables.append(ReportTable(name, title, list(BY_PROTOCOL), body))
    return page(*tables)


def rows_of(study: str, name: str) -> dict[str, FinishedRun]:
    """Of the runs called NAME or NAME-ANYTHING, those of each method, variant of `grasp_plus` and length of training together.

    The name of a run with a variant ends with the variant, or with the variant and -seedN.
    """
    parts: dict[str, list[Part]] = {}
    for run in read(study)[0]:
        if run.name == name or run.name.startswith(f"{name}-"):
            for method, _ in trials(run):
                row = with_training(run, method).replace(OURS, _variant(run))
                parts.setdefault(row, []).append((run, method))
    return {row: together(own) for row, own in parts.items()}


def _variant(run: FinishedRun) -> str:
    """The variant of `grasp_plus` that a run of `rows_of` trains, `DEFAULT` or the former defaults (`OURS`)."""
    name = re.sub(r"-seed\d+$", "", run.name)
    usual = DEFAULT if starts_from_text(run) else OURS
    named = (variant for variant in VARIANTS if variant != OURS and name.endswith(f"-{variant}"))
    return next(named, usual)


def _by_protocol(run: FinishedRun, method: str, backbone: str, name: str, by: str) -> list[str]:
    """A line of `BY_PROTOCOL`."""
    seeds = {row["seed"] for row in run.rows if row["method"] == method}
    line = [shown(name), by, str(len(seeds)) if by else ""]
    for protocol in PROTOCOLS:
        line += [
            _spread(values(run, method, backbone, protocol, "all", metric), by)
            for metric in METRICS
        ]
    return [
        *line,
        _spread(values(run, method, backbone, "full_unseen", "tail_item", "NDCG@10"), by),
    ]


def _spread(seeds: np.ndarray, by: str) -> str:
    """Mean and standard deviation over seeds; untrained methods have no seeds."""
    return spread(seeds if by else seeds[:1])


def _share(run: FinishedRun) -> float:
    share: float = run.config["knowledge"]["corruption"]["share"]
    return share


def _minutes(run: FinishedRun) -> str:
    """Minutes of training one model, without validation, in the run where that was fastest: other programs ran at the same time."""
    seconds: dict[str, dict[int, float]] = {}
    models: dict[str, set[tuple[int, float]]] = {}
    for record in run.epochs:  # each of several models that train together has the seconds of all
        seconds.setdefault(record["run"], {})[record["epoch"]] = record["train_seconds"]
        models.setdefault(record["run"], set()).add((record["seed"], record["dropout"]))
    each = [sum(own.values()) / 60 / len(models[name]) for name, own in seconds.items()]
    return f"{min(each, default=0.0):.0f}"


def headline() -> Page:
    """The most important rows of `ahead`, as means over seeds. In each column, the best NDCG@10 is bold."""
    found = merged(read("ahead")[0])
    rows = {trial: name for trial, name in HEADLINE.items() if trial in found}
    means = {
        trial: [
            [
                values(found[trial], *trials(found[trial])[0], protocol, group, metric).mean()
                for metric in metrics
            ]
            for protocol, group, metrics in HEADLINE_COLUMNS.values()
        ]
        for trial in rows
    }
    body = [
        [
            name,
            str(len({row["seed"] for row in found[trial].rows})) if trial[1] else "",
            *(" / ".join(f"{value:.2f}" for value in cell) for cell in means[trial]),
        ]
        for trial, name in rows.items()
    ]
    first = np.array([[cell[0] for cell in cells] for cells in means.values()])  # NDCG@10
    best = frozenset((int(row), column + 2) for column, row in enumerate(first.argmax(axis=0)))
    title = "Amazon Beauty 5-core, MiniLM vectors, SASRec: test, percent"
    header = ["method", "seeds", *HEADLINE_COLUMNS]
    return page(ReportTable("headline", title, header, body, best=best))
