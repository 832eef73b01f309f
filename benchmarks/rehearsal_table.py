"""The table of the rehearsal's record; without a run of 10 million users, their costs are extrapolated from the two largest runs."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.record import short_commit
from benchmarks.rehearsal_data import USERS

STAGES = {
    "write": "write log and tables",
    "read": "read and split the log",
    "encode": "write and encode texts",
    "neighbours": "search neighbours within groups, finish the bank",
    "train": "train two models for 200 steps, validate them",
    "answer": "answers (recommendations)",
    "fingerprint": "read everything again",
}
TIMES_ITEMS = "answer"  # the stage that grows with users x items


def show(runs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and body: each stage at each size, and extrapolated to 10 million users if no run had as many."""
    header, places = ["stage"], _machines(runs)
    for own in runs:
        on = f" (machine {places.index(_machine(own)) + 1})" if len(places) > 1 else ""
        header += [f"{own['users']:,} users{on}: processor s", "elapsed s", "peak, MiB"]
    carried = len(runs) > 1 and max(own["users"] for own in runs) < USERS
    header += ["extrapolated to 10 million: processor s", "peak, MiB"] if carried else []
    body = []
    for stage, what in STAGES.items():
        costs = [own["stages"][stage] for own in runs]
        line = [what]
        for cost in costs:
            line += _cells(cost["cpu_seconds"], cost["wall_seconds"], cost["peak_bytes"])
        if carried:
            seconds, peak = carried_over(stage, runs)
            line += [f"{seconds:,.0f}", f"{peak / 2**20:,.0f}"]
        body.append(line)
    sums = ["all stages"]
    for own in runs:
        costs = list(own["stages"].values())
        total, elapsed = (sum(c[name] for c in costs) for name in ("cpu_seconds", "wall_seconds"))
        sums += _cells(total, elapsed, max(c["peak_bytes"] for c in costs))
    if carried:
        found = [carried_over(stage, runs) for stage in STAGES]
        sums += [f"{sum(s for s, _ in found):,.0f}", f"{max(p for _, p in found) / 2**20:,.0f}"]
    return header, [*body, sums]


def _machine(own: Mapping[str, Any]) -> str:
    """The machine and the version of a run, in words; runs of records that an earlier version wrote do not say it."""
    if "machine" not in own:
        return "an unknown machine"
    about = own["machine"]
    return f"{about['cores']} cores of {about['cpu']}, {about['device']}, jax {about['versions']['jax']}"


def _machines(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The different machines of some runs."""
    return list(dict.fromkeys(map(_machine, runs)))


def measured_on(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each machine: which runs are of it, with the commit and the load of each."""
    places, said = _machines(runs), []
    for number, place in enumerate(places, 1):
        each = [
            f"{own['users']:,} users, commit {short_commit(own.get('commit'))}, {_load(own)} cores used by other programs"
            for own in runs
            if _machine(own) == place
        ]
        label = f"Machine {number}: measured" if len(places) > 1 else "Measured"
        said.append(f"{label} on {place}: {'; '.join(each)}.")
    return said


def _load(own: Mapping[str, Any]) -> str:
    cores = own.get("cores_used_by_others")
    return "unknown" if cores is None else f"{cores:.1f}"


def _cells(cpu_seconds: float, wall_seconds: float, peak_bytes: float) -> list[str]:
    return [f"{cpu_seconds:,.0f}", f"{wall_seconds:,.0f}", f"{peak_bytes / 2**20:,.0f}"]


def carried_over(stage: str, runs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Processor seconds and peak at 10 million users, by the straight line through the two largest sizes.

    For answers only the reading follows the line; the rest of their seconds grows with users x items.
    """
    small, large = sorted(runs, key=lambda own: own["users"])[-2:]
    users = small["users"], large["users"]

    def line(key: str, of: str) -> float:
        y0, y1 = small["stages"][of][key], large["stages"][of][key]
        return max(float(y1), y1 + (y1 - y0) / (users[1] - users[0]) * (USERS - users[1]))

    peak = line("peak_bytes", stage)
    if stage != TIMES_ITEMS:
        return line("cpu_seconds", stage), peak
    y0, y1 = (
        own["stages"][stage]["cpu_seconds"] - own["stages"]["read"]["cpu_seconds"]
        for own in (small, large)
    )
    slope = (y1 - y0) / (users[1] ** 2 - users[0] ** 2)
    return line("cpu_seconds", "read") + y1 + slope * (USERS**2 - users[1] ** 2), peak


def _kills(own: Mapping[str, Any]) -> str:
    """A sentence about the kills of a run, or of an earlier run of the same size; empty if none was killed."""
    size, how = f"with {own['users']:,} users", "times at random moments and had the same results"
    if own.get("killed"):
        as_ = (
            f" as an undisturbed run of {_took(own['undisturbed'])}" if "undisturbed" in own else ""
        )
        return f" The run {size} was killed {sum(own['killed'].values())} {how}{as_}."
    if "killed_run" in own:
        times, took = sum(own["killed_run"]["killed"].values()), _took(own["killed_run"])
        return f" A run {size} of {took}, was killed {times} {how}."
    return ""


def _took(run: Mapping[str, Any]) -> str:
    minutes = sum(cost["wall_seconds"] for cost in run["stages"].values()) / 60
    return f"commit {short_commit(run['commit'])}, which took {minutes:.0f} minutes"


def markdown(record: Mapping[str, Any]) -> str:
    """The table of docs/scaling.md, with the sizes of the runs and their machines."""
    runs = record["runs"]
    header, body = show(runs)
    lines = [f"| {' | '.join(row)} |" for row in (header, *body)]
    lines.insert(1, "|" + "---|" * len(header))
    sizes = ", ".join(
        f"{own['users']:,} users ({own['read']['items']:,} items, {own['read']['interactions']:,} interactions)"
        for own in runs
    )
    killed = "".join(map(_kills, runs))
    said = f"`python -m benchmarks.rehearsal`: shops of {sizes}; a tenth of the users get recommendations, "
    said += f"a hundredth are validated.{killed}"
    paragraphs = [said, *measured_on(runs)]
    text = "\n".join(textwrap.fill(own, 138, break_on_hyphens=False) for own in paragraphs)
    return f"{text}\n\n" + "\n".join(lines) + "\n"
