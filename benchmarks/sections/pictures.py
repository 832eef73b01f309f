"""The three figures of docs/performance.md, each with a sentence that says what to conclude from it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.sections.words import OURS, PACKED
from grasp_jax.report.plot import Panel

Record = dict[str, Any]
STAGES = ("gather", "gate", "project", "backbone", "loss", "update")


class Picture(NamedTuple):
    """A figure as SVG, and the sentence that stands above it."""

    svg: str
    conclusion: str


def steps(records: Mapping[str, Record]) -> Picture:
    """Milliseconds of a step of each implementation, on each device that was measured."""
    measured = {name: records[name] for name in ("step-cpu-256", "step-gpu-256") if name in records}
    names = dict.fromkeys(row["name"] for own in measured.values() for row in own["steps"])
    panel, said = Panel(len(measured)), []
    packed: list[str] = []  # places where the figure can tell the library from packing
    unpacked: list[str] = []
    for axis, record in enumerate(measured.values()):
        place = "a GPU" if record["machine"]["backend"] == "gpu" else "a CPU"
        for k, row in enumerate(record["steps"]):
            style = list(names).index(row["name"])
            panel.line(axis, [k], [1e3 * row["seconds_per_step"]], style, row["name"])
            panel.intervals(axis, [k], [1e3 * row["p10"]], [1e3 * row["p90"]], style)
        panel.groups(axis, [""] * len(record["steps"]))
        panel.logarithmic(axis, x=False, y=True)
        panel.name(axis, f"a step on {place}", "implementation", "ms")
        ours, *others = record["steps"]
        for kind, packs in (("that packs", True), ("that pads", False)):
            ratios = [
                row["seconds_per_step"] / ours["seconds_per_step"]
                for row in others
                if row["name"].startswith(PACKED) == packs and not row["name"].startswith(OURS)
            ]
            if ratios:
                said.append(
                    f"the fastest program {kind} takes {min(ratios):.2g} times our time on {place}"
                )
            if packs and others:
                (packed if ratios else unpacked).append(place)
    return Picture(
        panel.figure().standalone(),
        f"{_decides(packed)}{'; '.join(said)}.{_only_padded(unpacked)} The programs that pad also "
        "project the text vector of every position, so the figure does not say which of the two gains more. Lines go from the 10th to the "
        "90th percentile.",
    )


def _decides(packed: list[str]) -> str:
    """What decides the time of a step, where a program that packs was measured; the beginning of the sentence with the ratios."""
    if not packed:
        return "Times of a step: "
    return f"On {' and '.join(packed)}, packing and factorising decide the time of a step more than the library does: "


def _only_padded(unpacked: list[str]) -> str:
    if not unpacked:
        return ""
    return f" On {' and '.join(unpacked)} only programs that pad were measured, so there this is not known."


def stages(records: Mapping[str, Record]) -> Picture:
    """Shares of the stages of a step of GRASP on SASRec."""
    panel, said = Panel(1), []
    titles = {
        "profile-cpu": "on a CPU",
        "profile-gpu": "on a GPU",
        "profile-industry-gpu": "on a GPU",
    }
    for style, (name, place) in enumerate(titles.items()):
        if name not in records:
            continue
        record = records[name]
        own = next(model for model in record["models"] if model["model"] == "grasp-sasrec")
        shares = [
            sum(row["share"] for row in own["stages"] if row["stage"] == stage) for stage in STAGES
        ]
        label = f"{place}, E={record['sizes']['width']}"
        panel.line(0, range(len(STAGES)), shares, style, label)
        longest = max(range(len(STAGES)), key=shares.__getitem__)
        said.append(f"{label}: {STAGES[longest]} {shares[longest]:.0%}")
    panel.groups(0, STAGES)
    panel.include(0, y=[0.0])
    panel.name(0, "GRASP on SASRec", "stage of a step", "share of the busy time")
    return Picture(
        panel.figure().standalone(),
        f"The longest stage of a step differs between devices ({'; '.join(said)}). E is the width of the text vectors, project is the "
        "products with them, and backbone is SASRec. On a CPU, project leaves little to gain. On a GPU with narrow vectors, many short "
        "operations share the time, so fewer operations would help.",
    )


def growth(records: Mapping[str, Record]) -> Picture:
    """Seconds of an epoch by the number of users."""
    rows = records["step-cpu-256"]["growth"]
    users, seconds = [row["users"] for row in rows], [row["seconds"] for row in rows]
    panel = Panel(1)
    panel.line(0, users, seconds, 0, "measured")
    panel.reference(0, [0, users[-1]], [0, seconds[-1]])
    panel.include(0, x=[0.0], y=[0.0])
    panel.name(0, "an epoch of GRASP on a CPU", "users", "s")
    per_token = [row["seconds_per_million_tokens"] for row in rows]
    return Picture(
        panel.figure().standalone(),
        f"The time of an epoch grows in proportion to the users (dotted line), and not faster: {min(per_token):.0f} to "
        f"{max(per_token):.0f} s for a million purchases at each size.",
    )


PICTURES: Mapping[str, tuple[Callable[[Mapping[str, Record]], Picture], str]] = {
    "performance-step": (steps, "step-cpu-256"),
    "performance-stages": (stages, "profile-cpu"),
    "performance-growth": (growth, "step-cpu-256"),
}
NEEDED = ("step-cpu-256", "step-gpu-256", "profile-cpu", "profile-gpu", "profile-industry-gpu")


def pictures(records: Mapping[str, Record]) -> dict[str, Picture]:
    """Name of a file -> its figure; one without its first record is left out."""
    return {name: draw(records) for name, (draw, first) in PICTURES.items() if first in records}
