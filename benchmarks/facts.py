"""The three headline facts of README.md: quality, speed and new items, each from a record in `benchmarks/results`.

`python -m benchmarks.studies` writes them between the markers of the README.
"""

import json
import textwrap
from typing import Any

from benchmarks import cold_study, study_match, study_public
from benchmarks.record import RESULTS
from benchmarks.sections.overview import machine
from benchmarks.study_records import WIDTH, Page, path_of, read
from benchmarks.study_trials import merged
from grasp_jax.report.runs import Run
from grasp_jax.report.tables import trials, values

OURS, SASREC, LLMINIT = (
    ("grasp_plus", "cross-entropy"),
    ("sasrec_ce", "cross-entropy"),
    ("llminit", "cross-entropy"),
)

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
    ours, sasrec, llminit = (_ndcg(found[trial]) for trial in (OURS, SASREC, LLMINIT))
    searched, runs = study_match.searched_ndcg(json.loads(path_of("match").read_text()), OURS[0])
    public = study_public.ndcg_of_sasrec()
    return (
        f"**Better rankings.** On Amazon Beauty 5-core, `grasp_plus` has a test NDCG@10 of {ours:.2f} % over the whole catalogue, without "
        f"the items that a user already has. SASRec without text has {sasrec:.2f} % with the same loss, and LLMInit, the best published "
        f"text method that we ran, {llminit:.2f} %. So `grasp_plus` is {_ahead(ours, sasrec)} % and {_ahead(ours, llminit)} % ahead "
        f"(means of {_runs([_seeds(found[trial]) for trial in (OURS, SASREC, LLMINIT)])}). "
        "We chose its settings by hand and with test figures in view; the others got less tuning. With a match that a "
        f"[recorded search](docs/studies.md#{SEARCH}) chose on validation alone, it has {searched:.2f} % ({runs} runs) and is "
        f"{_ahead(searched, sasrec)} % and {_ahead(searched, llminit)} % ahead. The lead over a [public log](docs/studies.md#{PUBLIC}) of "
        f"SASRec that was trained longer ({public:.2f} %) is {_ahead(ours, public)} %. "
        "[All rows](docs/studies.md#late-fusion-compared-with-id-only-models)."
    )


def speed() -> str:
    """An epoch of SASRec, against RecTools and plain PyTorch."""
    record = _record("train-cpu")
    ours, *rivals = record["rows"]
    others = " and ".join(
        f"{row['epoch_seconds']:.0f} s with {row['implementation'].replace(' SASRecModel', '')}"
        for row in rivals
    )
    ratios = sorted(row["epoch_seconds"] / ours["epoch_seconds"] for row in rivals)
    shared = min(row["epochs"] for row in record["rows"])
    scores = [100 * row["valid_ndcg"][shared - 1] for row in record["rows"]]
    return (
        f"**Faster training.** On {machine(record).replace(',', ' of an')}, an epoch of SASRec on {record['sizes']['users']:,} users takes "
        f"{ours['epoch_seconds']:.1f} s with this package, {others}. So this package is {ratios[0]:.0f} to {ratios[-1]:.0f} times as fast. "
        "Both rivals pad every history to the same length; this package does not. After "
        f"{shared} epochs, their validation NDCG@10 lie within {max(scores) - min(scores):.1f} points of each other. "
        "[Six comparisons](docs/performance.md)."
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
        f"**New items from their texts alone.** On {run['new_items']} items that nobody had bought before training, `grasp_plus` has an "
        f"NDCG@10 of {new[0]}. The untrained cosine of an item's text with the texts of the history has {new[1]}, and IDs alone "
        f"{new[2]} (no vector for a new item). Over all purchases: {every[0]}, {every[1]} and {every[2]}. {_conclusion(lines)} "
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
    return f"With more weight for new items (`{MORE_WEIGHT}`, chosen by these results): {new} and {every}. "


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
        return f"So {named[better['all']]} ranks both better."
    new, every = named[better["new"]], named[better["all"]]
    return f"So {new} ranks new items better, and {every} all items."


def _runs(seeds: list[int]) -> str:
    """The number of training runs over which each row is a mean."""
    if len(set(seeds)) == 1:
        return f"{seeds[0]} training runs each"
    return f"{', '.join(map(str, seeds[:-1]))} and {seeds[-1]} training runs"


def _seeds(run: Run) -> int:
    return len({row["seed"] for row in run.rows})


def _ndcg(run: Run) -> float:
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
