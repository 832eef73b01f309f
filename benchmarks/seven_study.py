"""The table of docs/studies.md about daily training, from the results of `benchmarks.seven_days`."""

from collections.abc import Mapping
from typing import Any

from benchmarks.cold_case import METRICS
from benchmarks.cold_study import SHOPS
from benchmarks.seven_days import COSTS, WAYS
from grasp_jax.report.tables import ReportTable

NDCG = METRICS[1]
READ = "users in an epoch"
METHODS = {"grasp_plus": "`grasp_plus`", "id_and_match": "one ID tower and the match"}


def tables(kept: Mapping[str, Any], tried: Mapping[str, Any]) -> list[ReportTable]:
    """One row for each shop and daily setting; and one for each setting that was tried on a day before the choice.

    Args:
      kept: the record of `benchmarks.seven_days`.
      tried: benchmarks/results/study-seven-tries.json.
    """
    header = [
        "shop",
        "method",
        "epochs a day",
        "learning rate",
        READ,
        *(f"{NDCG}, {way}" for way in WAYS),
        "continued, difference from nothing",
        "continued, share of the time",
        "continued, share of the processor time",
        "purchases",
        "cores used by other programs",
    ]
    title = "Seven days, NDCG@10 over all purchases after the first day; percent, ± half of a 95 % interval over users where it is known"
    days = ReportTable("seven", title, header, [_row(run) for run in kept["runs"]])
    return [days, _tries(tried)]


def _tries(tried: Mapping[str, Any]) -> ReportTable:
    """The settings that were tried, in their order, between the starting model and training from nothing."""
    header = [
        "training",
        "epochs",
        "learning rate",
        READ,
        "validation NDCG@10",
        "processor seconds",
    ]
    nothing = tried["from_nothing"]
    rows = [
        ["none: the model of the day before", "0", "", "", f"{100 * tried['start']:.2f}", ""],
        *(_try(one) for one in tried["tries"]),
        [
            WAYS[2],
            str(nothing["epochs"]),
            f"{nothing['learning_rate']:g}",
            _read(None),
            f"{100 * nothing['valid_ndcg@10']:.2f}",
            f"{nothing['processor_seconds']:.0f}",
        ],
    ]
    title = "Settings tried on the second day, Amazon Beauty 5-core: best validation NDCG@10 of all epochs, percent"
    return ReportTable("seven", title, header, rows)


def _try(one: Mapping[str, Any]) -> list[str]:
    done, seconds = len(one["valid_ndcg@10"]), one["processor_seconds"]
    return [
        WAYS[1],
        str(one["epochs"]) if done == one["epochs"] else f"{done} of {one['epochs']}",
        f"{one['learning_rate']:g}",
        _read(one["replay"]),
        f"{100 * max(one['valid_ndcg@10']):.2f}",
        "" if seconds is None else f"{seconds:.0f}",
    ]


def _read(replay: float | None) -> str:
    """The users that an epoch reads."""
    others = "other" if replay == 1 else "others"
    return "all" if replay is None else f"with new purchases, and {replay:g} {others} for each"


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
        _read(settings.get("daily_replay")),
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
