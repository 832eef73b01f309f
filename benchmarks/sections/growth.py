"""How time and memory grow with the data."""

from typing import Any

from benchmarks.memory import GROWTH, show
from benchmarks.record import machine_line
from grasp_jax.report.plot import Panel
from grasp_jax.report.tables import ReportTable


def memory(record: dict[str, Any]) -> ReportTable:
    """Peaks and times over sizes of the data."""
    sizes = record["sizes"]
    note = (
        f"`python -m benchmarks.memory`: a synthetic shop; the smallest has {sizes['users']:,} users and {sizes['items']:,} items, "
        f"E={sizes['width']}; GRASP on {sizes['backbone']}. Each stage at each size is a separate process, whose peak includes the program "
        "and mapped tables. The time of exact neighbours grows with the square of the rows; "
        "everything else should follow a straight line; the last row says how far it deviates. "
        f"The extra memory of the full ranking is that of the program that XLA compiled.\n\n{machine_line(record)}"
    )
    header, body = show(record["rows"], record["lines"])
    return ReportTable("memory", "Growth with the data", header, body, note)


def memory_figure(record: dict[str, Any]) -> str:
    """Peaks and seconds against the size of the data, as SVG, each with its straight line."""
    times, panel = [row["times"] for row in record["rows"]], Panel(2)
    for name, (stage, key) in GROWTH.items():
        axis, style = int(key != "peak_bytes"), int(stage == "train")
        scale = 2.0**30 if axis == 0 else 1.0
        line = record["lines"][name]
        label = "training" if style else "preparation"
        panel.line(axis, times, [row[stage][key] / scale for row in record["rows"]], style, label)
        fitted = [(line["intercept"] + line["slope"] * x) / scale for x in times]
        panel.reference(axis, times, fitted)
    panel.name(0, "peak memory", "times the data", "GiB")
    panel.name(1, "an epoch; preparation without neighbours", "times the data", "s")
    return panel.figure().standalone()
