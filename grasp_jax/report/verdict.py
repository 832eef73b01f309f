"""The verdict: which method leads, by how much, whether this is significant and by which protocol; a few sentences."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from grasp_jax.core.words import all_of
from grasp_jax.evaluation.protocols import PROTOCOLS, UNSEEN
from grasp_jax.evaluation.untrained import (
    is_trained,
    shown_backbone,
    stand_together,
    without_repeats,
)

METRIC = "NDCG@10"
LEVEL = 0.05
# a backbone of IDs alone, by the loss of the paper or by cross-entropy
BASELINES = ("plain", "sasrec_ce")
AMONG = {
    "sampled100": "among stored negatives",
    "full": "among the whole catalogue",
    "full_unseen": "among the items that the user has not had",
}
STAYS = " (it stays among them if the user has had it)"  # of full_unseen alone


@dataclasses.dataclass(frozen=True)
class Standing:
    """A method on a backbone by one protocol.

    Attributes:
      method, backbone: names.
      mean: NDCG@10 in percent, over its seeds.
      seeds: how many.
      users: that it was tested on.
    """

    method: str
    backbone: str
    mean: float
    seeds: int
    users: int

    @property
    def shown(self) -> str:
        """The backbone, as `shown_backbone` has it."""
        return shown_backbone(self.method, self.backbone)

    @property
    def name(self) -> str:
        """Method and backbone in words."""
        return f"{self.method} with {self.backbone}" if is_trained(self.method) else self.method


def baseline_of(methods: Iterable[str]) -> str | None:
    """The method of IDs alone with which the others are compared; None if there is none among them."""
    names = set(methods)
    return next((name for name in BASELINES if name in names), None)


def baseline_trial(
    trials: Sequence[tuple[str, str]], method: str, backbone: str
) -> tuple[str, str] | None:
    """The trial of IDs alone with which a trial is compared, which may be itself; None if there is none.

    A method that is not trained has no backbone of its own, so among the baselines of several backbones none is its baseline.

    Args:
      trials: (method, backbone) of all that may be its baseline.
      method, backbone: the trial.
    """
    among = [backbone] if is_trained(method) else dict.fromkeys(of for _, of in trials)
    found = [
        (base, base_backbone)
        for base_backbone in among
        if (base := baseline_of(name for name, of in trials if of == base_backbone))
    ]
    return found[0] if len(found) == 1 else None


def standings(rows: Sequence[Mapping[str, Any]], protocol: str) -> list[Standing]:
    """All methods and backbones that a protocol measured, the best first; a method that is not trained once, with its first backbone.

    Args:
      rows: of results.json.
      protocol: one of `evaluation.protocols.PROTOCOLS`.
    """
    of_protocol = [row for row in rows if row["protocol"] == protocol and row["group"] == "all"]
    found = []
    for method, backbone in without_repeats(
        (row["method"], row["backbone"]) for row in of_protocol
    ):
        values = [
            row for row in of_protocol if (row["method"], row["backbone"]) == (method, backbone)
        ]
        mean = 100 * float(np.mean([row[METRIC] for row in values]))
        found.append(Standing(method, backbone, mean, len(values), int(values[0].get("n", 0))))
    return sorted(found, key=lambda standing: -standing.mean)


def main_protocol(rows: Sequence[Mapping[str, Any]], selected_by: str) -> str:
    """The protocol that validation chose by, or the first one of the rows where that was not measured."""
    measured = list(dict.fromkeys(row["protocol"] for row in rows))
    return selected_by if selected_by in measured else str(measured[0])


def verdict(
    rows: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    protocol: str,
    failed: Sequence[Mapping[str, Any]] = (),
    unfinished: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """The leader and its lead, how that was measured, and whether the other protocols agree; then what failed or has not ended.

    Args:
      rows: of results.json.
      comparisons: of results.json, pairs of methods of one backbone.
      protocol: the main one, `main_protocol`.
      failed: trials whose training diverged.
      unfinished: of results.json, trials that were tested although their training has not ended.
    """
    table = standings(rows, protocol)
    return [
        _lead(table, comparisons, protocol),
        _measured(table, protocol),
        *_others(rows, comparisons, protocol, table[0]),
        *([f"Training failed for {all_of([_of(trial) for trial in failed])}."] if failed else []),
        *([f"{unfinished_in_words(unfinished)}."] if unfinished else []),
    ]


def unfinished_in_words(unfinished: Sequence[Mapping[str, Any]]) -> str:
    """Which trainings have not ended, after how many epochs they were tested, and what that means; without a full stop.

    Args:
      unfinished: of results.json, at least one.
    """
    stops = [
        f"{_of(trial)} (stopped after {trial['epoch']:,} of at most {trial['max_epochs']:,} epochs)"
        for trial in unfinished
    ]
    return f"Training was interrupted, or a callback stopped it, for {all_of(stops)}: these numbers are of the best model so far"


def significance(
    first: Standing, second: Standing, comparisons: Sequence[Mapping[str, Any]], protocol: str
) -> tuple[str, str]:
    """("significant" | "not significant" | that the two disagree | "not tested", the interval and p-value in words, or the reason why there
    is none) for first minus second.
    """
    if not stand_together(first.shown, second.shown):
        return "not tested", "only methods on one backbone are compared"
    backbone = first.backbone if is_trained(first.method) else second.backbone
    for row in comparisons:
        if (row["protocol"], row["backbone"]) != (protocol, backbone):
            continue
        if {row["first"], row["second"]} == {first.method, second.method}:
            low, high = 100 * row["low"], 100 * row["high"]
            if row["second"] != first.method:
                low, high = -high, -low
            p = "p < 0.0001" if row["p_value"] < 1e-4 else f"p = {row['p_value']:.4f}"
            found = _agreement(row["p_value"] < LEVEL, low <= 0 <= high)
            return found, f"95 % interval {low:+.2f} to {high:+.2f}, {p}"
    return "not tested", "they were measured in different runs"


def _agreement(significant: bool, contains_0: bool) -> str:
    """What the paired test and the interval say together."""
    if significant and contains_0:
        return "not sure, because the test is significant but the interval contains 0"
    if not significant and not contains_0:
        return "not sure, because the test is not significant but the interval does not contain 0"
    return "significant" if significant else "not significant"


def _lead(
    table: Sequence[Standing], comparisons: Sequence[Mapping[str, Any]], protocol: str
) -> str:
    first = table[0]
    if len(table) == 1:
        return f"{first.name} has {METRIC} {first.mean:.2f} %; no other model was measured."
    rival = _rival(table)
    found, numbers = significance(first, rival, comparisons, protocol)
    sentence = (
        f"{first.name} is ahead of {rival.method if rival.shown == first.shown else rival.name} by "
        f"{first.mean - rival.mean:.2f} points of {METRIC} ({first.mean:.2f} against {rival.mean:.2f} %; {found}: {numbers})"
    )
    by_trial = {(standing.method, standing.backbone): standing for standing in table}
    base = by_trial.get(baseline_trial(list(by_trial), first.method, first.backbone) or ("", ""))
    if base and base not in (first, rival):
        found, _ = significance(first, base, comparisons, protocol)
        sentence += f", and of {base.method} by {first.mean - base.mean:.2f} ({found})"
    return f"{sentence}."


def _rival(table: Sequence[Standing]) -> Standing:
    """The best method that is compared with the first; the second of all if none is."""
    return next(
        (standing for standing in table[1:] if stand_together(table[0].shown, standing.shown)),
        table[1],
    )


def _measured(table: Sequence[Standing], protocol: str) -> str:
    """How the numbers were measured, and the limits of a single seed."""
    users, seeds = table[0].users, min(standing.seeds for standing in table)
    sentence = f"Each test user's next item was ranked {AMONG.get(protocol, protocol)}"
    if protocol == UNSEEN:
        sentence += STAYS
    if users:
        sentence += f", for {users:,} users"
    if seeds == 1:
        return f"{sentence}. There was one seed, so the variation between seeds is not known."
    more = " or more" if any(standing.seeds > seeds for standing in table) else ""
    return f"{sentence}, with {seeds} seeds{more}."


def _others(
    rows: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    protocol: str,
    leader: Standing,
) -> list[str]:
    """One sentence on the other protocols: who leads there."""
    agree, differ = [], []
    for other in PROTOCOLS:
        table = standings(rows, other)
        if other == protocol or len(table) < 2:
            continue
        first = table[0]
        if (first.method, first.backbone) == (leader.method, leader.backbone):
            rival = _rival(table)
            found, _ = significance(first, rival, comparisons, other)
            agree.append(
                f"{AMONG[other]} (by {first.mean - rival.mean:.2f} over {rival.method}, {found})"
            )
        else:
            of_leader = next(
                (s for s in table if (s.method, s.backbone) == (leader.method, leader.backbone)),
                None,
            )
            if of_leader is None:
                continue
            found, _ = significance(first, of_leader, comparisons, other)
            differ.append(
                f"{AMONG[other]} {first.name} leads (by {first.mean - of_leader.mean:.2f}, {found})"
            )
    parts = []
    if agree:
        parts.append(f"it also leads {all_of(agree)}")
    if differ:
        parts.append(("but " if agree else "the other protocols disagree: ") + all_of(differ))
    if not parts:
        return []
    sentence = ", ".join(parts)
    return [f"{sentence[0].upper()}{sentence[1:]}."]


def _of(trial: Mapping[str, Any]) -> str:
    return f"{trial['method']} with {trial['backbone']}"
