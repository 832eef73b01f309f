"""The tables on late fusion: every method under one protocol, wrong texts, other shops, and other ways to split and order the data.

A run's name is STUDY-VARIANT, or STUDY-VARIANT-seedN if its seeds were trained in several runs. Rows of `grasp_plus`, of which there are
many variants, are named by the variant; other rows are named by their method.
"""

import json
import re
from collections.abc import Sequence

import numpy as np

from benchmarks.study_records import METRICS, PROTOCOLS, Page, page, path_of, read
from grasp_jax.evaluation.results import spread
from grasp_jax.models.methods import METHODS
from grasp_jax.report.runs import Run
from grasp_jax.report.tables import Table, trials, values

OURS, BASELINE = "grasp_plus", "sasrec_ce"
BY_PROTOCOL = (
    "method",
    "loss",
    "seeds",
    *(f"{protocol} {metric}" for protocol in PROTOCOLS for metric in METRICS),
    "full_unseen NDCG@10, tail items",
)
LOSSES = {"bce": "BCE", "gbce": "gBCE", "softmax": "sampled softmax", "ce": "cross-entropy"}
BY_GROUP = {"tail_item": "tail items", "head_item": "head items", "tail_user": "tail users"}
SHOPS = {
    "shop-skin": "The department Skin Care, `lsa` vectors; percent",
    "shop-hair": "The department Hair Care, `lsa` vectors; percent",
}
SPLITS = {
    "split-time": "Split by two days for everybody, `lsa` vectors; percent",
    "split-ties": "Interactions of a user on one day in random order, MiniLM vectors; percent",
}
HEADLINE = {
    ("semantic_neighbours", ""): "cosine of texts, not trained (`semantic_neighbours`)",
    ("llm_esr", "cross-entropy"): "LLM-ESR (`llm_esr`)",
    ("sasrec_ce", "cross-entropy"): "plain SASRec, IDs alone (`sasrec_ce`)",
    ("three_id_towers", "cross-entropy"): "control: three ID towers, no text",
    ("id_text_sum", "cross-entropy"): "ID vector plus a linear map of the text (`id_text_sum`)",
    ("llminit", "cross-entropy"): "LLMInit: ID vectors that start from text (`llminit`)",
    ("no_match", "cross-entropy"): "`grasp_plus` without the match",
    ("id_and_match", "cross-entropy"): "one ID tower and the match",
    ("two_towers", "cross-entropy"): "two towers and the match, IDs start from text",
    ("grasp_plus", "cross-entropy"): "**`grasp_plus`** (`configs/beauty5.py:best`)",
}
HEADLINE_COLUMNS = {
    "full catalogue, seen items left out: NDCG@10 / HR@10": ("full_unseen", "all", METRICS),
    "the same, tail items: NDCG@10": ("full_unseen", "tail_item", METRICS[:1]),
    "full catalogue: NDCG@10 / HR@10": ("full", "all", METRICS),
    "among 100 negatives: NDCG@10 / HR@10": ("sampled100", "all", METRICS),
}
Trial = tuple[str, str]  # label and loss of a row


def label(run: str, method: str) -> str:
    """The name of a row: the method, or for `grasp_plus` the variant in the run's name."""
    variant = re.sub(r"^[a-z]+-|-seed\d+$", "", run)
    return variant if method == OURS else method


def loss(run: Run, method: str) -> str:
    """The loss with which a method was trained; "" if it is not trained."""
    if not METHODS[method].trained:
        return ""
    named = run.config["train"]["loss"]
    own = "ce" if method == OURS else METHODS[method].loss
    return LOSSES[own if named == "auto" else named]


def by_trial(runs: Sequence[Run]) -> dict[Trial, list[tuple[Run, str]]]:
    """The runs of each label and loss, with the name of the method in them.

    If runs differ in dropout, only those with the best validation score remain. A run with several rates only has rows of its best one,
    so the best rate of all is among those of the rows.
    """
    found: dict[Trial, list[tuple[Run, str]]] = {}
    for run in runs:
        for method, _ in trials(run):
            found.setdefault((label(run.name, method), loss(run, method)), []).append((run, method))
    return {trial: _of_best_dropout(parts) for trial, parts in found.items()}


def _of_best_dropout(parts: Sequence[tuple[Run, str]]) -> list[tuple[Run, str]]:
    rates = [dropout(run, method) for run, method in parts]
    if len(set(rates)) == 1:
        return list(parts)
    scores: dict[float, list[float]] = {}
    for part, rate in zip(parts, rates, strict=True):
        scores.setdefault(rate, []).extend(_validation(*part, rate))
    best = max(scores, key=lambda rate: np.mean(scores[rate]))
    return [part for part, rate in zip(parts, rates, strict=True) if rate == best]


def dropout(run: Run, method: str) -> float:
    """Dropout of the model that was tested."""
    rate: float = next(row["dropout"] for row in run.rows if row["method"] == method)
    return rate


def _validation(run: Run, method: str, rate: float) -> list[float]:
    """Best validation NDCG@10 of each seed."""
    best: dict[int, float] = {}
    for record in run.epochs:
        if (record["method"], record["dropout"]) == (method, rate):
            seed = record["seed"]
            best[seed] = max(best.get(seed, 0.0), record["valid_ndcg@10"])
    return list(best.values())


def merged(runs: Sequence[Run]) -> dict[Trial, Run]:
    """The results of each label and loss, in the order of the runs; seeds of several runs are together."""
    return {trial: _together(parts) for trial, parts in by_trial(runs).items()}


def _together(parts: Sequence[tuple[Run, str]]) -> Run:
    """One run with the rows and epochs of a method in several."""
    first = parts[0][0]
    rows = [row for run, method in parts for row in run.rows if row["method"] == method]
    epochs = [
        record | {"run": run.name}
        for run, method in parts
        for record in run.epochs
        if record["method"] == method
    ]
    return Run(first.name, first.config, first.results | {"rows": rows}, epochs, {}, {})


def ahead() -> Page:
    """Methods under one protocol: untrained ones, IDs alone, methods with text, and late fusion; then the same by groups."""
    found = merged(read("ahead")[0])
    path = path_of("ahead-against")
    against = json.loads(path.read_text())["differences"] if path.exists() else {}
    body, groups = [], []
    for (name, by), run in sorted(found.items(), key=lambda entry: _main_metric(entry[1])):
        method, backbone = trials(run)[0]
        difference = against.get(f"{name} {by}".strip(), {}).get("full_unseen")
        over = (
            ""
            if difference is None
            else f"{difference[0]:+.2f} [{difference[1]:+.2f}, {difference[2]:+.2f}]"
        )
        line = _by_protocol(run, method, backbone, name, by)
        rate = f"{dropout(run, method):g}" if by else ""
        body.append([*line, over, rate, f"{_minutes(run):.0f}"])
        groups.append(
            [_words(name), by]
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
    note = "In brackets: 95 % interval over users, and over seeds where there are several"
    of_groups = ["method", "loss"] + [
        f"{protocol}, {name}"
        for protocol in ("full_unseen", "sampled100")
        for name in BY_GROUP.values()
    ]
    return page(
        Table("ahead", title, header, body, note if against else ""),
        Table("ahead-groups", "The same by groups: NDCG@10, percent", of_groups, groups),
    )


def _main_metric(run: Run) -> float:
    """NDCG@10 without seen items, percent."""
    return float(values(run, *trials(run)[0], "full_unseen", "all", "NDCG@10").mean())


def wrong() -> Page:
    """Late fusion with learned trust, and LLM-ESR, if a share of the texts belongs to other items, compared with a model that reads no
    text.
    """
    runs = sorted(read("wrong")[0], key=lambda run: (trials(run)[0][0] != OURS, _share(run)))
    body = []
    for run in runs:
        method, backbone = trials(run)[0]
        name = f"{method}{_against_wrong_texts(run) if method == OURS else ''}, {100 * _share(run):.0f} % wrong"
        body.append(_by_protocol(run, method, backbone, name, loss(run, method)))
    named = {
        BASELINE: "sasrec_ce, no text",
        OURS: "grasp_plus, full trust, all parts, 0 % wrong",
        "llm_esr": "llm_esr, 0 % wrong",
    }
    for (name, by), run in merged(read("ahead")[0]).items():
        if name in named and by == LOSSES["ce"]:
            body.append(_by_protocol(run, *trials(run)[0], named[name], by))
    title = "Texts of items swapped: Amazon Beauty 5-core, MiniLM vectors, SASRec; percent"
    return page(Table("wrong", title, list(BY_PROTOCOL), body))


def _against_wrong_texts(run: Run) -> str:
    """The words for a row's name that say how its model deals with wrong texts."""
    plus = run.config["model"]["plus"]
    trust = ", learned trust" if plus["text_trust"] == "learned" else ""
    validated = plus.get("parts") == "validated"  # earlier runs do not have this field
    return f"{trust}, {'harmful parts left out' if validated else 'all parts'}"


def shops() -> Page:
    """The settings of `configs/beauty5.py:best` on shops and vectors on which they were not chosen."""
    return _one_table_a_run("shops", SHOPS)


def splits() -> Page:
    """The same settings with the split by time, and with a random order within a day."""
    return _one_table_a_run("splits", SPLITS)


def _one_table_a_run(study: str, titles: dict[str, str]) -> Page:
    tables = []
    for run in read(study)[0]:
        body = [
            _by_protocol(run, method, backbone, method, loss(run, method))
            for method, backbone in trials(run)
        ]
        tables.append(Table(run.name, titles[run.name], list(BY_PROTOCOL), body))
    return page(*tables)


def _by_protocol(run: Run, method: str, backbone: str, name: str, by: str) -> list[str]:
    """A line of `BY_PROTOCOL`."""
    seeds = {row["seed"] for row in run.rows if row["method"] == method}
    line = [_words(name), by, str(len(seeds)) if by else ""]
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


def _words(name: str) -> str:
    return name.replace("_", " ")


def _share(run: Run) -> float:
    share: float = run.config["knowledge"]["corruption"]["share"]
    return share


def _minutes(run: Run) -> float:
    """Minutes of training one model, without validation."""
    seconds: dict[tuple[str, int], float] = {}
    for record in run.epochs:  # each of several models that train together has the seconds of all
        seconds[record["run"], record["epoch"]] = record["train_seconds"]
    return sum(seconds.values()) / 60 / max(len({record["seed"] for record in run.epochs}), 1)


def headline() -> Page:
    """The most important rows of `ahead`, as means over seeds; the best NDCG@10 of each column is bold."""
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
    return page(Table("headline", title, header, body, best=best))
