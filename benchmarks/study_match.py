"""The table of docs/studies.md about the recorded search of the match's settings, from the results of `benchmarks.match_search`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.study_labels import shown
from benchmarks.study_trials import RANDOM_START
from grasp_jax.evaluation.results import spread
from grasp_jax.report.tables import ReportTable

ROWS = {  # by number of ID, text and company towers
    (1, 1, 1): RANDOM_START,
    (1, 0, 1): "two_towers",
    (1, 0, 0): "id_and_match",
}
NEAR = 0.001  # of the best validation NDCG@10
FIELDS = ("weight", "rare", "decay")


def table(*records: Mapping[str, Any]) -> ReportTable:
    """The setting of the config and the one that the search chose, for each kind of towers; `records` in the order of the rows."""
    searches = [one for record in records for one in record["runs"]]
    header = ["model", "seeds", "match", *(f"`match_{name}`" for name in FIELDS)]
    header += ["validation NDCG@10", "test NDCG@10", "test HR@10", "test NDCG@10, tail items"]
    body = [line for one in searches for line in _lines(one)]
    note = "Percent, without seen items. " + " ".join(_meaning(one) for one in searches)
    title = "The match by a recorded search"
    return ReportTable("match", title, [*header, "test NDCG@10 by `full`"], body, note)


def _name(one: Mapping[str, Any]) -> str:
    return shown(ROWS[tuple(one["towers"])])


def _lines(one: Mapping[str, Any]) -> list[list[str]]:
    """Two lines of one kind of towers."""
    seeds = ", ".join(map(str, one["seeds"]))
    columns = [("full_unseen", "all", "NDCG@10"), ("full_unseen", "all", "HR@10")]
    columns += [("full_unseen", "tail_item", "NDCG@10"), ("full", "all", "NDCG@10")]
    lines = []
    for key, words in (("config", "set by hand"), ("chosen", "chosen by the search")):
        setting = one[key]
        numbers = [_test(one[f"test_{key}"], *column) for column in columns]
        line = [_name(one), seeds, words, *(f"{setting[name]:g}" for name in FIELDS)]
        valid = spread(100 * np.array(_valid(one, setting))) if _valid(one, setting) else ""
        lines.append([*line, valid, *map(spread, numbers)])
    return lines


def _valid(one: Mapping[str, Any], setting: Mapping[str, float]) -> list[float]:
    """Validation NDCG@10 of each seed; empty if the setting is not one of those that were searched."""
    for tried in one["searched"]:
        if all(tried[name] == setting[name] for name in FIELDS):
            scores: list[float] = tried["valid_ndcg@10"]
            return scores
    return []


def _test(rows: list[dict[str, Any]], protocol: str, group: str, metric: str) -> np.ndarray:
    """One value for each seed, in percent."""
    own = [row[metric] for row in rows if (row["protocol"], row["group"]) == (protocol, group)]
    return 100 * np.array(own)


def _meaning(one: Mapping[str, Any]) -> str:
    """How many settings are about as good as the best one, and what the towers have without the match."""
    means, without = {}, 0.0
    for tried in one["searched"]:
        mean = float(np.mean(tried["valid_ndcg@10"]))
        if tried["weight"]:
            means[tuple(tried[name] for name in FIELDS)] = mean
        else:  # whatever the other fields are
            without = mean
    best, name = max(means.values()), _name(one)
    near = sum(mean >= best - NEAR for mean in means.values())
    return (
        f"{name[0].upper() + name[1:]}: of {len(means)} settings, {near} are within {100 * NEAR:g} of the best in validation "
        f"({100 * best:.2f}); without the match it has {100 * without:.2f}."
    )
