"""The tables of docs/studies.md about new items, from the results of `benchmarks.cold_items`."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cold_case import AMONG_NEW, GROUPS, METRICS
from grasp_jax.report.tables import Table

SHOPS = {
    "beauty5": "Amazon Beauty 5-core",
    "skin": "the department Skin Care",
    "hair": "the department Hair Care",
    "makeup": "the department Makeup",
}
VECTORS = {"lsa": "`lsa` vectors", "minilm": "MiniLM vectors"}


def tables(kept: Mapping[str, Any]) -> list[Table]:
    """A table for each shop and kind of vectors; percent, with standard errors for new items."""
    return [_table(run) for run in kept["runs"]]


def _table(run: Mapping[str, Any]) -> Table:
    shop, _, vectors = run["name"].rpartition("-")
    first = run["measured"][0]
    title = (
        f"New items: {SHOPS.get(shop, shop)}, {VECTORS.get(vectors, vectors)}, {run['epochs']} epochs; {run['new_items']} of "
        f"{run['items']:,} items are new, {first['new']['purchases']:,} of {first['all']['purchases']:,} "
        "purchases go to them; percent"
    )
    header = ["model", *(f"{group} {metric}" for group in GROUPS for metric in METRICS)]
    rows = [_line(own) for own in run["measured"]]
    less = f"new {METRICS[1]}, difference from grasp plus"
    among = f"new {METRICS[1]} among new items alone"
    return Table("cold", title, [*header, less, "share of new items among the top 10", among], rows)


def _line(own: Mapping[str, Any]) -> list[str]:
    def number(group: str, metric: str) -> str:
        value = f"{100 * own[group][metric]:.2f}"
        return value if group != "new" else f"{value} ± {100 * own[group][f'{metric} error']:.2f}"

    cells: Sequence[str] = [number(group, metric) for group in GROUPS for metric in METRICS]
    less = ""
    if f"{METRICS[1]} less" in own["new"] and own["line"] != "grasp_plus":
        less = number("new", f"{METRICS[1]} less")
    alone = own.get(AMONG_NEW)
    among = (
        f"{100 * alone[METRICS[1]]:.2f} ± {100 * alone[f'{METRICS[1]} error']:.2f}" if alone else ""
    )
    return [own["line"].replace("_", " "), *cells, less, f"{100 * own['share_new']:.1f}", among]
