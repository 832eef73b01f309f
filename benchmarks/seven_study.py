"""The table of docs/studies.md about daily training, from the results of `benchmarks.seven_days`."""

from collections.abc import Mapping
from typing import Any

from benchmarks.cold_case import METRICS
from benchmarks.cold_study import SHOPS
from benchmarks.seven_days import COSTS, WAYS
from grasp_jax.report.tables import Table

NDCG = METRICS[1]
METHODS = {"grasp_plus": "`grasp_plus`", "id_and_match": "one ID tower and the match"}


def tables(kept: Mapping[str, Any]) -> list[Table]:
    """One row for each shop and daily setting."""
    header = [
        "shop",
        "method",
        "epochs a day",
        "learning rate",
        *(f"{NDCG}, {way}" for way in WAYS),
        "continued, difference from nothing",
        "continued, share of the time",
        "of the processor time",
        "purchases",
        "cores used by other programs",
    ]
    title = "Seven days, NDCG@10 over all purchases after the first day; percent, ± half of a 95 % interval over users where it is known"
    return [Table("seven", title, header, [_row(run) for run in kept["runs"]])]


def _row(run: Mapping[str, Any]) -> list[str]:
    settings, means = run["settings"], run["means"]
    continued, nothing = (means[way] for way in WAYS[1:])
    purchases = sum(
        day["purchases"] for day in run["days"] if day["day"] > 0 and day["way"] == WAYS[0]
    )
    return [
        SHOPS.get(run["shop"], run["shop"]).removeprefix("the department "),
        METHODS[settings["method"]],
        str(settings["daily_epochs"]),
        f"{settings['daily_rate']:g}",
        *(f"{100 * means[way][NDCG]:.2f}" for way in WAYS),
        f"{100 * (continued[NDCG] / nothing[NDCG] - 1):+.1f} %{_interval(run)}",
        *(
            f"{100 * continued[name] / nothing[name]:.0f} %" if name in nothing else ""
            for name in COSTS
        ),
        f"{purchases:,}",
        "" if (busy := run["cores_used_by_others"]) is None else f"{busy:.1f}",
    ]


def _interval(run: Mapping[str, Any]) -> str:
    """The half of a 95 % interval of the difference, as a share of the NDCG@10 from nothing; early records do not have it."""
    if "differences" not in run:
        return ""
    error = run["differences"][WAYS[1]]["error"]
    return f" ± {100 * 1.96 * error / run['means'][WAYS[2]][NDCG]:.1f}"
