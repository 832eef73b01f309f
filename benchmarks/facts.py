"""The three headline facts of README.md: quality, speed and new items, each from a record in `benchmarks/results`.

`python -m benchmarks.studies` writes them between the markers of the README.
"""

import json
import textwrap
from typing import Any

from benchmarks import cold_study, study_public
from benchmarks.record import RESULTS
from benchmarks.sections.overview import machine
from benchmarks.sections.words import AS_FAST
from benchmarks.study_labels import DEFAULT
from benchmarks.study_records import WIDTH, Page, read
from benchmarks.study_trials import merged
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values

OURS, SASREC, LLMINIT = (
    (DEFAULT, "cross-entropy"),
    ("sasrec_ce", "cross-entropy"),
    ("llminit", "cross-entropy"),
)

MATCHED = ("idtext_and_match", "cross-entropy")  # LLMInit with the match
SEARCH = "the-match-by-a-recorded-search"  # heading of the table of `study_match`
PUBLIC = "public-logs-on-the-same-data"  # heading above the table of `study_public`
COLD = ("beauty5-minilm", "beauty5-lsa", "hair-lsa")  # the first of these that has results
MORE_WEIGHT = "match_new=1.5"  # a line of study-cold-parts


def facts() -> Page:
    """Three bullets of Markdown; without figures."""
    return "\n".join(map(_bullet, (quality(), speed(), new_items()))), {}


def quality() -> str:
    """NDCG@10 on the whole catalogue without seen items, against SASRec and the best other way to use texts."""
    found = merged(read("ahead")[0])
    ours, sasrec, llminit, matched = (
        _ndcg(found[trial]) for trial in (OURS, SASREC, LLMINIT, MATCHED)
    )
    public = study_public.ndcg_of_sasrec()
    return (
        "**Better rankings.** Test NDCG@10 on Amazon Beauty 5-core, over the whole catalogue without the items that a user already has: "
        f"`grasp_plus` {ours:.2f} %, LLMInit {llminit:.2f} % (the best published text method we ran), SASRec without text "
        f"{sasrec:.2f} %; same loss, means of {_runs([_seeds(found[trial]) for trial in (OURS, SASREC, LLMINIT)])}. So `grasp_plus` is "
        f"{_ahead(ours, sasrec)} % ahead of SASRec and {_ahead(ours, llminit)} % ahead of LLMInit, and {_ahead(ours, public)} % ahead of a "
        f"longer-trained [public SASRec](docs/studies.md#{PUBLIC}) ({public:.2f} %). Validation chose the match from "
        f"[160 settings](docs/studies.md#{SEARCH}) in other runs, and the rivals' dropout and learning rate from up to six. "
        f"LLMInit with a match has {matched:.2f} %. "
        "[All rows](docs/studies.md#late-fusion-compared-with-id-only-models)."
    )


def speed() -> str:
    """An epoch of SASRec, against RecTools and plain PyTorch."""
    record = _record("train-cpu")
    ours, *rivals = record["rows"]
    others = " and ".join(
        f"{row['epoch_seconds']:.0f} s with {_rival(row['implementation'])}" for row in rivals
    )
    ratios = sorted(row["epoch_seconds"] / ours["epoch_seconds"] for row in rivals)
    shared = min(row["epochs"] for row in record["rows"])
    scores = [100 * row["valid_ndcg"][shared - 1] for row in record["rows"]]
    return (
        f"**Faster training on a CPU.** An epoch of SASRec ({record['sizes']['users']:,} users, {machine(record).replace(',', ' of an')}) "
        f"takes {ours['epoch_seconds']:.1f} s with this package, {others}. So it is {ratios[0]:.0f} to {ratios[-1]:.0f} times as fast. "
        "The rivals pad every history to one length; this package does not. After "
        f"{shared} epochs, validation NDCG@10 among 100 negatives is within {max(scores) - min(scores):.1f} points. {_packed()}"
        "[Six comparisons](docs/performance.md)."
    )


def _packed() -> str:
    """The fairest rival: a program that packs histories as this package does."""
    steps = {row["name"]: row["seconds_per_step"] for row in _record("step-cpu-256")["steps"]}
    rivals = [seconds for name, seconds in steps.items() if name.startswith("packed PyTorch")]
    (ours,) = (seconds for name, seconds in steps.items() if name.startswith("grasp_jax"))
    ratio = min(rivals) / ours
    return (
        "A PyTorch program of ours that packs histories too takes "
        f"{ratio:.2f} times our time for a step of GRASP{': the gain is not due to JAX' if ratio < AS_FAST else ''}. "
    )


def new_items() -> str:
    """NDCG@10 on items that nobody had bought before training, and on all items, compared with the cosine of their texts."""
    runs = {own["name"]: own for own in _record("study-cold")["runs"]}
    run = next(runs[name] for name in COLD if name in runs)
    shop, _, _ = run["name"].rpartition("-")
    lines = {own["line"]: own for own in run["measured"]}

    def each(group: str) -> list[str]:
        """NDCG@10 in percent of `grasp_plus`, of the cosine and of IDs alone."""
        names = "grasp_plus", "semantic_neighbours", "sasrec_ce"
        return [f"{100 * lines[name][group]['NDCG@10']:.1f} %" for name in names]

    new, every = each("new"), each("all")
    return (
        f"**New items from their texts.** On {run['new_items']} items that nobody had bought before training, `grasp_plus` has an NDCG@10 "
        f"of {new[0]}, the untrained cosine of an item's text with the texts of the history {new[1]}, and IDs alone {new[2]} (no vector "
        f"for a new item). Over all purchases: {every[0]}, {every[1]} and {every[2]}. {_conclusion(lines)} "
        f"{_more_weight(run['name'])}"
        f"One run on {cold_study.SHOPS[shop]}. [Study](docs/studies.md#new-items)."
    )


def _more_weight(name: str) -> str:
    """What a larger weight of new items does; empty if it was not measured for this run."""
    runs = {own["name"]: own for own in _record("study-cold-parts")["runs"]}
    if name not in runs:
        return ""
    line = next(own for own in runs[name]["measured"] if own["line"] == MORE_WEIGHT)
    new, every = (f"{100 * line[group]['NDCG@10']:.1f} %" for group in ("new", "all"))
    return f"With more weight for new items (`{MORE_WEIGHT}`, chosen by these test results): {new} and {every}. "


def _conclusion(lines: dict[str, Any]) -> str:
    """Which of `grasp_plus` and the cosine to use for new items, and which for all."""
    better = {
        group: max(
            ("grasp_plus", "semantic_neighbours"), key=lambda name: lines[name][group]["NDCG@10"]
        )
        for group in ("new", "all")
    }
    named = {"grasp_plus": "`grasp_plus`", "semantic_neighbours": "the cosine"}
    if better["new"] == better["all"]:
        return f"So {named[better['all']]} is better on both."
    new, every = named[better["new"]], named[better["all"]]
    return f"So {new} is better on new items, and {every} over all purchases."


def _rival(implementation: str) -> str:
    """What the sentence on speed calls a program; we wrote the one in plain PyTorch."""
    name = implementation.replace(" SASRecModel", "")
    return name if name == "RecTools" else f"a program of ours in {name}"


def _runs(seeds: list[int]) -> str:
    """The number of training runs over which each row is a mean."""
    if len(set(seeds)) == 1:
        return f"{seeds[0]} training runs each"
    return f"{', '.join(map(str, seeds[:-1]))} and {seeds[-1]} training runs"


def _seeds(run: FinishedRun) -> int:
    return len({row["seed"] for row in run.rows})


def _ndcg(run: FinishedRun) -> float:
    return float(values(run, *trials(run)[0], "full_unseen", "all", "NDCG@10").mean())


def _ahead(ours: float, other: float) -> str:
    return f"{100 * (ours / other - 1):.0f}"


def _record(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return record


def _bullet(text: str) -> str:
    return textwrap.fill(
        f"* {text}", WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )
