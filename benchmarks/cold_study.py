"""The tables of docs/studies.md about new items, from the results of `benchmarks.cold_items` and `benchmarks.cold_parts`."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cold_case import AMONG_NEW, GROUPS, METRICS
from benchmarks.study_labels import shown
from grasp_jax.report.tables import ReportTable

SHOPS = {
    "beauty5": "Amazon Beauty 5-core",
    "skin": "the department Skin Care",
    "hair": "the department Hair Care",
    "makeup": "the department Makeup",
}
WEIGHT = "match_new="  # how lines with another weight of the match begin
SHARE = "share of new items among the top 10"
AMONG = f"new {METRICS[1]} among new items alone"
VECTORS = {"lsa": "`lsa` vectors", "minilm": "MiniLM vectors"}


def tables(kept: Mapping[str, Any]) -> list[ReportTable]:
    """A table for each shop and kind of vectors; percent, with standard errors for new items."""
    return [_table(run) for run in kept["runs"]]


def parts_tables(kept: Mapping[str, Any]) -> list[ReportTable]:
    """A table for each shop and kind of vectors: parts of the score alone and left out, and other weights of the match; percent."""
    header = ["model", *(f"{group} {METRICS[1]}" for group in GROUPS), SHARE, AMONG]
    return [
        ReportTable(
            "cold-parts",
            f"Parts of grasp_plus: {_shop(run)}; percent",
            header,
            [_parts_line(own) for own in run["measured"]],
            _meaning(run),
        )
        for run in kept["runs"]
    ]


def _meaning(run: Mapping[str, Any]) -> str:
    """What `grasp_plus` and the cosine make of new items, and the largest weight with which known items rank as high as with the cosine."""
    lines = {own["line"]: own for own in run["measured"]}
    own, cosine, match = (
        lines[name] for name in ("grasp_plus", "semantic_neighbours", "match alone")
    )

    def of(line: Mapping[str, Any], group: str) -> str:
        return f"{100 * line[group][METRICS[1]]:.1f}"

    told = (
        f"**What it means.** Among new items alone, `grasp_plus` has an {METRICS[1]} of {of(own, AMONG_NEW)} and the cosine "
        f"{of(cosine, AMONG_NEW)}. Among all items, purchases of new items have {of(own, 'new')} with `grasp_plus`, "
        f"{of(cosine, 'new')} with the cosine, and {of(match, 'new')} with the match alone."
    )
    weighted = [name for name in lines if name == "grasp_plus" or name.startswith(WEIGHT)]
    ahead = [
        name for name in weighted if lines[name]["known"][METRICS[1]] >= cosine["known"][METRICS[1]]
    ]
    if not ahead or ahead[-1] == "grasp_plus":
        return told
    best = lines[ahead[-1]]
    return (
        f"{told} With `{ahead[-1]}`, new items have {of(best, 'new')} and known items {of(best, 'known')}; with the cosine they have "
        f"{of(cosine, 'new')} and {of(cosine, 'known')}."
    )


def _parts_line(own: Mapping[str, Any]) -> list[str]:
    values = [f"{100 * own[group][METRICS[1]]:.2f}" for group in GROUPS]
    name = own["line"]
    label = f"`{name}`" if name.startswith(WEIGHT) else shown(name)
    return [label, *values, f"{100 * own['share_new']:.1f}", _among(own)]


def _shop(run: Mapping[str, Any]) -> str:
    """The shop, its vectors and the training."""
    shop, _, vectors = run["name"].rpartition("-")
    return f"{SHOPS.get(shop, shop)}, {VECTORS.get(vectors, vectors)}, {run['epochs']} epochs"


def _table(run: Mapping[str, Any]) -> ReportTable:
    first = run["measured"][0]
    title = (
        f"New items: {_shop(run)}; {run['new_items']} of {run['items']:,} items are new, {first['new']['purchases']:,} of "
        f"{first['all']['purchases']:,} purchases go to them; percent"
    )
    header = ["model", *(f"{group} {metric}" for group in GROUPS for metric in METRICS)]
    rows = [_line(own) for own in run["measured"]]
    less = f"new {METRICS[1]}, difference from `grasp_plus`"
    columns = [*header, less, SHARE, AMONG]
    if not any(row[-1] for row in rows):  # the run did not measure it
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return ReportTable("cold", title, columns, rows)


def _line(own: Mapping[str, Any]) -> list[str]:
    def number(group: str, metric: str) -> str:
        value = f"{100 * own[group][metric]:.2f}"
        return value if group != "new" else f"{value} ± {100 * own[group][f'{metric} error']:.2f}"

    cells: Sequence[str] = [number(group, metric) for group in GROUPS for metric in METRICS]
    less = ""
    if f"{METRICS[1]} less" in own["new"] and own["line"] != "grasp_plus":
        less = number("new", f"{METRICS[1]} less")
    share = f"{100 * own['share_new']:.1f}"
    return [shown(own["line"]), *cells, less, share, _among(own)]


def _among(own: Mapping[str, Any]) -> str:
    """Of new items among new items alone; empty for a model that does not know them, and for earlier records."""
    alone = own.get(AMONG_NEW)
    if not alone:
        return ""
    return f"{100 * alone[METRICS[1]]:.2f} ± {100 * alone[f'{METRICS[1]} error']:.2f}"
