"""Writes docs/results.md, and tables of docs/knowledge.md and docs/scaling.md between their markers, from the JSON in `benchmarks/results`.

python -m benchmarks.readme_tables
"""

import json
import pathlib
import textwrap
from typing import Any

from benchmarks import paper_data, reading, rehearsal_table, results_words
from benchmarks.arguments import parser_of_pages
from benchmarks.record import machine_line
from benchmarks.study_late_fusion import ahead_tables
from benchmarks.study_records import page
from configs import sweep
from grasp_jax.config import names
from grasp_jax.core.files import write_text
from grasp_jax.data.groups import PAPER
from grasp_jax.evaluation.results import table

RESULTS = pathlib.Path(__file__).parent / "results"
ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"
KNOWLEDGE, SCALING = ROOT / "docs" / "knowledge.md", ROOT / "docs" / "scaling.md"
RUNS = {
    "table2": "The paper's methods and grasp_plus: Amazon Beauty 5-core, given MiniLM vectors (E=384)",
    "table2-sasrec-seeds": "The SASRec rows of that table, with three seeds",
    "beauty5-minilm": "Selected methods: Amazon Beauty 5-core, given MiniLM vectors (E=384)",
    "beauty5-lsa": "Amazon Beauty 5-core, our own `lsa` vectors (E=256) of title, brand and categories",
    "quickstart": "The quickstart on its synthetic shop",
    "fashion-sasrec": "The paper's Fashion, IDs only, three seeds (the paper's SASRec: NDCG@10 44.13, HR@10 49.95)",
    "fashion-gru4rec-bert4rec": "The paper's Fashion with GRU4Rec (the paper: NDCG@10 36.66, HR@10 48.58) and BERT4Rec (35.58, 44.68)",
    "fashion-gru4rec-llm-esr": "The paper's Fashion with GRU4Rec and LLM-ESR's protocol (the paper: NDCG@10 36.66, HR@10 48.58)",
    "fashion-bert4rec-llm-esr": "The paper's Fashion with BERT4Rec and LLM-ESR's protocol (the paper: NDCG@10 35.58, HR@10 44.68)",
    "beauty-sasrec": "The paper's Beauty, SASRec, in the paper's groups (the paper: 30.58, 44.88)",
    "beauty": "The paper's Beauty, IDs only, three seeds (the paper's NDCG@10 and HR@10: "
    "SASRec 30.58, 44.88; GRU4Rec 22.42, 36.45; BERT4Rec 23.33, 39.72)",
    "beauty-gru4rec-llm-esr": "The paper's Beauty with GRU4Rec and LLM-ESR's protocol (the paper: NDCG@10 22.42, HR@10 36.45)",
    "beauty-bert4rec-llm-esr": "The paper's Beauty with BERT4Rec and LLM-ESR's protocol (the paper: NDCG@10 23.33, HR@10 39.72)",
    "industry": "Synthetic data with the shape of Industry-100K, scaled to two cores (shows that it runs, and says nothing about quality)",
}
COMPACT_COLUMNS = (("all", "NDCG@10"), ("all", "HR@10"), ("tail_item", "NDCG@10"))
PROTOCOLS, GROUPS = (
    {"sampled100": "sampled", "full": "full", "full_unseen": "full, seen left out"},
    {"all": "", "tail_item": " on tail items"},
)
OURS = "grasp_plus"
LEVEL, MARK = 0.05, r" \*"
MARKED = (
    "\\*: differs significantly from every other method with this backbone (paired t-test over users, p < 0.05 after Holm's correction). "
    "A method that was run separately was not tested and has no mark."
)
COMPACT = "table2"  # the run that is shown first, with one line for each method


def main() -> None:
    """Rewrites the pages in place; runs without a JSON file are left out."""
    parser_of_pages("readme_tables", __doc__).parse_args()
    if (path := RESULTS / "describe-cpu.json").exists() and "well_behaved" in (
        record := json.loads(path.read_text())
    )["runs"]:
        _between_markers(KNOWLEDGE, "describe", _describing(record))
    if (path := RESULTS / "reading-cpu.json").exists():
        _between_markers(SCALING, "reading", _reading(json.loads(path.read_text())))
    if (path := RESULTS / "rehearsal-cpu.json").exists():
        _between_markers(
            SCALING, "rehearsal", rehearsal_table.markdown(json.loads(path.read_text()))
        )
    write_text(PAGE, results_page())


def results_page() -> str:
    """docs/results.md: an introduction, every method in one table, the paper's methods in another, then all numbers of every run."""
    runs = {
        name: _run(title, json.loads(path.read_text()))
        for name, title in RUNS.items()
        if (path := RESULTS / f"{name}.json").exists()
    }
    steps = [_step(json.loads(path.read_text())) for path in sorted(RESULTS.glob("step-*.json"))]
    compact = RESULTS / f"{COMPACT}.json"
    first = _compact(RUNS[COMPACT], json.loads(compact.read_text())) if compact.exists() else ""
    words = results_words
    every_method = page(ahead_tables()[0])[0]
    before = [words.BEGINNING, every_method, "\n\n", words.PAPER, paper_data.section(), first]
    parts = [*before, words.ALL_RUNS, *runs.values(), *steps]
    return "".join(parts).rstrip() + "\n"


def _between_markers(path: pathlib.Path, name: str, text: str) -> None:
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, rest = path.read_text(encoding="utf-8").split(begin)
    write_text(path, f"{head}{begin}\n{text}{end}{rest.split(end)[1]}")


def _compact(title: str, results: dict[str, Any]) -> str:
    """A table with one line for each method and backbone and columns for each protocol; the best value of each backbone is bold."""
    about, rows = results["about"], results["rows"]
    wanted = [
        (protocol, group, metric)
        for protocol in PROTOCOLS
        if any(row["protocol"] == protocol for row in rows)
        for group, metric in COMPACT_COLUMNS
    ]
    header = [
        "backbone",
        "method",
        *(f"{PROTOCOLS[protocol]} {metric}{GROUPS[group]}" for protocol, group, metric in wanted),
    ]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    ahead = []
    for backbone in dict.fromkeys(row["backbone"] for row in rows):
        methods = list(dict.fromkeys(row["method"] for row in rows if row["backbone"] == backbone))
        means = {
            method: [_mean(rows, method, backbone, *column) for column in wanted]
            for method in methods
        }
        best = [max(column) for column in zip(*means.values(), strict=True)]
        for method, values in means.items():
            ahead_in = [
                _is_ahead(results["comparisons"], method, methods, backbone, *column)
                for column in wanted
            ]
            cells = [
                f"**{value:.2f}**{MARK * mark}" if value == top else f"{value:.2f}"
                for value, top, mark in zip(values, best, ahead_in, strict=True)
            ]
            lines.append("| " + " | ".join([backbone, method, *cells]) + " |")
        ahead.append(_ahead(backbone, wanted, means))
    seeds = len({row["seed"] for row in rows})
    return (
        f"### {title}\n\n`{_command(about)}`  \n{about['cores']} cores of {about['cpu']}, {about['device']}, "
        f"jax {about['versions']['jax']}; {sum(about['seconds'].values()) / 60:.0f} minutes; {seeds} seed{'s' if seeds > 1 else ''}; "
        "percent, test.\n\n"
        + "\n".join(lines)
        + f"\n\n{MARKED} Difference of `{OURS}` from the best other method in each column: {'; '.join(filter(None, ahead))}."
        + _missing(rows)
        + "\n\n"
    )


def _is_ahead(
    comparisons: list[dict[str, Any]],
    method: str,
    methods: list[str],
    backbone: str,
    protocol: str,
    group: str,
    metric: str,
) -> bool:
    """Whether a method was tested against every other one with its backbone and differs from each; only for NDCG@10 over all users."""
    if (group, metric) != ("all", "NDCG@10"):
        return False
    p_values = {
        other: own["p_value"]
        for own in comparisons
        if (own["protocol"], own["backbone"]) == (protocol, backbone)
        and method in (own["first"], own["second"])
        for other in (own["first"], own["second"])
        if other != method
    }
    return all(p_values.get(other, 1.0) < LEVEL for other in methods if other != method)


def _missing(rows: list[dict[str, Any]]) -> str:
    """A sentence that names the trials of the sweep that have not been run."""
    done = {(row["method"], row["backbone"]) for row in rows}
    config = sweep.get_config(COMPACT)
    trials = [
        (method, backbone)
        for backbone in names(config.model.backbone)
        for method in names(config.model.method)
    ]
    left = [f"{method}-{backbone}" for method, backbone in trials if (method, backbone) not in done]
    return f" Not run yet: {', '.join(left)}." if left else ""


def _ahead(
    backbone: str, columns: list[tuple[str, str, str]], means: dict[str, list[float]]
) -> str:
    """How far our method is ahead of the best other one: in percent of NDCG@10, over all items and over tail items."""
    others = [values for method, values in means.items() if method != OURS]
    if OURS not in means or not others:
        return ""
    gains = [
        f"{PROTOCOLS[protocol]}{GROUPS[group]} {100 * (own / max(of) - 1):+.0f} %"
        for (protocol, group, metric), own, of in zip(
            columns, means[OURS], zip(*others, strict=True), strict=True
        )
        if metric == "NDCG@10"
    ]
    return f"{backbone}: {', '.join(gains)}"


def _mean(
    rows: list[dict[str, Any]], method: str, backbone: str, protocol: str, group: str, metric: str
) -> float:
    wanted = (method, backbone, protocol, group)
    values = [
        100 * row[metric]
        for row in rows
        if (row["method"], row["backbone"], row["protocol"], row["group"]) == wanted
    ]
    return sum(values) / len(values) if values else float("nan")


def _command(about: dict[str, Any]) -> str:
    """The command without its workdir, and without methods and backbones if the trials were run in several calls."""
    parts = about["command"].split()
    dropped = ["--workdir"]
    if any(
        part.startswith(("--config=configs/sweep.py", "--config=configs/beauty.py"))
        for part in parts
    ):
        dropped += ["--config.model.method", "--config.model.backbone"]
    return " ".join(part for part in parts if not part.startswith(tuple(dropped)))


def _run(title: str, results: dict[str, Any]) -> str:
    about = results["about"]
    seconds = sum(about["seconds"].values())
    return (
        f"### {title}\n\n`{_command(about)}`  \n{about['cores']} cores of {about['cpu']}, {about['device']}, "
        f"jax {about['versions']['jax']}; {seconds / 60:.0f} minutes of training, validation and compilation{_groups(about)}.\n\n"
        f"{table(results['rows'], results.get('failed', ()))}\n\n"
    )


def _groups(about: dict[str, Any]) -> str:
    """Says if tail and head are counted as in the paper."""
    return "; tail and head as the paper counts them" if about.get("groups") == PAPER else ""


def _packed(ratios: dict[str, Any]) -> str:
    over = ratios.get("over_packed_pytorch")
    return (
        f", which pad their rows, and {over:.2f} times as fast as our PyTorch program that packs them"
        if over
        else ""
    )


def _step(record: dict[str, Any]) -> str:
    machine, sizes = record["machine"], record["sizes"]
    lines = [
        "| one training step | median ms | p10-p90 ms | real tokens/s | peak memory MB |",
        "|---|---|---|---|---|",
    ]
    for row in record["steps"]:
        median, *spread = (
            f"{1e3 * row[key]:,.{0 if row[key] > 0.02 else 2}f}"
            for key in ("seconds_per_step", "p10", "p90")
        )
        memory = (
            "unknown"
            if row["peak_memory_bytes"] is None
            else f"{row['peak_memory_bytes'] / 1e6:,.0f}"
        )
        lines.append(
            f"| {row['name']} | {median} | {'-'.join(spread)} | {row['tokens_per_second']:,.0f} | {memory} |"
        )
    growth = ", ".join(
        f"{row['tokens']:,} tokens {row['seconds']:.1f} s" for row in record["growth"]
    )
    ratios = record["speed_up"]
    return (
        f"### One training step of GRASP-SASRec: E={sizes['width']}, L={sizes['max_length']}, B={sizes['batch_size']}, "
        f"MLP {sizes['mlp']}, on a {machine['backend'].upper()}\n\n"
        f"`make bench` on {machine['cores']} cores of {machine['cpu']}, {machine['device']}; {sizes['tokens_per_step']:.0f} real tokens "
        f"per step. This package is {ratios['over_pytorch']:.1f} times as fast as PyTorch and "
        f"{ratios['over_plain_jax']:.1f} times as fast as plain JAX"
        f"{_packed(ratios)}; "
        f"other processes used {record['cores_used_by_others']:.1f} cores meanwhile.\n\n"
        + "\n".join(lines)
        + (f"\n\nOne epoch with this package: {growth}.\n\n" if growth else "\n\n")
    )


def _reading(record: dict[str, Any]) -> str:
    header, body = reading.show(record)
    sizes = record["sizes"]
    lines = [f"| {' | '.join(row)} |" for row in (header, *body)]
    lines.insert(1, "|" + "---|" * len(header))
    source, stored = record["reading"][reading.LETTERS], record["stored"][reading.STORED[-1]]
    seconds = [own["steps"]["read and build"]["cpu_seconds"] for own in (stored, source)]
    return (
        f"**What it means.** Reading the stored log takes {seconds[0]:.2f} processor seconds, and reading its source {seconds[1]:.2f}.\n\n"
        f"`python -m benchmarks.reading`: {sizes['interactions']:,} interactions of {sizes['users']:,} users, {sizes['items']:,} items;\n"
        "the table has processor seconds and the peak memory of the process; there are 100 stored negatives for each of 100,000 users.\n"
        + textwrap.fill(machine_line(record), 138)
        + "\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _describing(record: dict[str, Any]) -> str:
    machine, sizes, runs = record["machine"], record["sizes"], record["runs"]
    header = (
        "| run | answers | requests | most in flight | kills | requested again | of these, already stored | answers/s | "
        "share of the limit |"
    )
    lines = [header, "|" + "---|" * (header.count("|") - 1)]
    for name, run in runs.items():
        keys = (
            "answers",
            "requests",
            "most_in_flight",
            "kills",
            "asked_again",
            "asked_again_though_kept",
        )
        speed = (
            [f"{run['answers_per_second']:.0f}", f"{100 * run['share_of_allowed']:.0f} %"]
            if not run["kills"]
            else ["", ""]
        )
        lines.append(
            "| "
            + " | ".join([name.replace("_", "-"), *(f"{run[key]:,}" for key in keys), *speed])
            + " |"
        )
    rates = {
        "this client": runs["well_behaved"]["rounds"],
        "a bare asyncio client, which checks no answer,": record["bare_client_rounds"],
    }
    spread = "; ".join(
        f"{who} {', '.join(f'{rate:.0f}' for rate in own)}" for who, own in rates.items()
    )
    text = (
        f"{sizes['items']:,} items and {sizes['users']} users, {sizes['concurrency']} requests in flight, {sizes['think']:g} s for each "
        f"answer: the server allows {record['allowed_per_second']:.0f} requests a second. {machine['cores']} cores of {machine['cpu']}; "
        f"other processes used {record['cores_used_by_others'] or 0:.1f} cores meanwhile, and client and server shared the rest. Answers "
        f"per second from the well-behaved server, in three alternating rounds: {spread}. The table has the median."
    )
    return textwrap.fill(text, 140, break_on_hyphens=False) + "\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
