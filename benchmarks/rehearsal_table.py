"""What the rehearsal's record says: its table, and what two sizes make of 10 million users."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.record import machine_line
from benchmarks.rehearsal_data import USERS

STAGES = {
    "write": "log and tables written",
    "read": "read and split",
    "encode": "texts written and encoded",
    "neighbours": "neighbours by groups, bank finished",
    "train": "200 steps of two models, validated",
    "answer": "answers",
    "fingerprint": "everything read again",
}
TIMES_ITEMS = "answer"  # the stage that grows with users x items


def show(runs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and body: each stage at each size, and what a straight line or a product makes of 10 million users."""
    header = ["stage"]
    for own in runs:
        header += [f"{own['users']:,} users: processor s", "peak, MiB"]
    carried = len(runs) > 1
    header += ["carried over to 10 million: processor s", "peak, MiB"] if carried else []
    body = []
    for stage, what in STAGES.items():
        costs = [own["stages"][stage] for own in runs]
        line = [what]
        for cost in costs:
            line += [f"{cost['cpu_seconds']:,.1f}", f"{cost['peak_bytes'] / 2**20:,.0f}"]
        if carried:
            seconds, peak = carried_over(stage, runs)
            line += [f"{seconds:,.0f}", f"{peak / 2**20:,.0f}"]
        body.append(line)
    sums = ["all of it"]
    for own in runs:
        costs = list(own["stages"].values())
        total, most = sum(c["cpu_seconds"] for c in costs), max(c["peak_bytes"] for c in costs)
        sums += [f"{total:,.1f}", f"{most / 2**20:,.0f}"]
    if carried:
        found = [carried_over(stage, runs) for stage in STAGES]
        sums += [f"{sum(s for s, _ in found):,.0f}", f"{max(p for _, p in found) / 2**20:,.0f}"]
    return header, [*body, sums]


def carried_over(stage: str, runs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Processor seconds and peak at 10 million users, by the line through the two largest sizes.

    Every stage grows with the users but for two: answers, with users x items; and training, whose steps are of one size.
    """
    small, large = sorted(runs, key=lambda own: own["users"])[-2:]
    power = 2 if stage == TIMES_ITEMS else 1
    x0, x1, x = (own**power for own in (small["users"], large["users"], USERS))
    found = []
    for key in ("cpu_seconds", "peak_bytes"):
        y0, y1 = small["stages"][stage][key], large["stages"][stage][key]
        if key == "peak_bytes":
            x0, x1, x = small["users"], large["users"], USERS
        found.append(max(y1, y1 + (y1 - y0) / (x1 - x0) * (x - x1)))
    return found[0], found[1]


def markdown(record: Mapping[str, Any]) -> str:
    """The table of docs/scaling.md, with what was done and on what."""
    runs = record["runs"]
    header, body = show(runs)
    lines = [f"| {' | '.join(row)} |" for row in (header, *body)]
    lines.insert(1, "|" + "---|" * len(header))
    sizes = " and of ".join(
        f"{own['users']:,} users, {own['read']['items']:,} items and {own['read']['interactions']:,} interactions"
        for own in runs
    )
    killed = "".join(
        f" With {own['users']:,} users it was killed {sum(own['killed'].values())} times at random and ended with the same fingerprint."
        for own in runs
        if own.get("killed")
    )
    said = f"`python -m benchmarks.rehearsal`: shops of {sizes}; a tenth of the users are answered, a hundredth validated.{killed}"
    paragraphs = [said, machine_line(dict(record))]
    text = "\n".join(textwrap.fill(own, 138, break_on_hyphens=False) for own in paragraphs)
    return f"{text}\n\n" + "\n".join(lines) + "\n"
