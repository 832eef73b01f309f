"""Kernels against XLA's own operations."""

from typing import Any

from benchmarks import longest_kernels
from benchmarks.record import machine_line
from grasp_jax.report.tables import ReportTable

TIMES = ("median_ms", "p10_ms", "p90_ms")
HEADER = ["median, ms", "p10, ms", "p90, ms", "speed-up", "temporary memory, MiB"]


def attention(record: dict[str, Any]) -> ReportTable:
    """Attention within the histories of packed rows."""
    body = [
        [
            case["pass"],
            case["normaliser"],
            str(case["heads"]),
            name,
            *_figures(own, case["forms"]["einsum"]),
        ]
        for case in record["cases"]
        for name, own in case["forms"].items()
    ]
    sizes = record["sizes"]
    note = (
        f"`python -m benchmarks.attention`: {sizes['rows']} rows of {sizes['row_length']} places of {sizes['data']}, "
        f"{record['filled']:.0%} filled, D={sizes['features']}; outputs and gradients within {record['parity_limit']:.0e} of the "
        f"reference's.\n\n{machine_line(record)}"
    )
    return ReportTable(
        "attention",
        "Attention over packed rows",
        ["pass", "weights", "heads", "form", *HEADER],
        body,
        note,
    )


def gru(record: dict[str, Any]) -> ReportTable:
    """The recurrence of a GRU."""
    body = [
        [part, name, *_figures(own, next(iter(figures.values())))]
        for part, figures in record["cases"].items()
        for name, own in figures.items()
    ]
    sizes = record["sizes"]
    note = (
        f"`python -m benchmarks.gru`: {sizes['rows']} rows of {sizes['row_length']} places of {sizes['data']}, D={sizes['features']}; "
        f'states and gradients within {max(record["parity"].values()):.0e} of the scan\'s. "4 to an iteration": 4 positions are computed '
        f"in each iteration.\n\n{machine_line(record)}"
    )
    return ReportTable("gru", "A GRU over packed rows", ["pass", "form", *HEADER], body, note)


def errors(record: dict[str, Any]) -> ReportTable:
    """Errors of kernels against float64."""
    body = [
        [
            row["kernel"],
            *(f"{row['errors'][form]:.1e}" for form in ("kernel", "xla", "xla_highest")),
        ]
        for row in record["rows"]
    ]
    note = (
        "`python -m benchmarks.kernel_errors`: the largest difference from the same function in float64, over the value and all gradients, "
        f"as a share of the largest value. {machine_line(record)}"
    )
    header = ["kernel", "its error", "error of XLA's form", "that at the highest precision"]
    return ReportTable("kernel_errors", "Errors of kernels", header, body, note)


def longest(record: dict[str, Any]) -> ReportTable:
    """What Nsight Compute says of a step's longest kernels."""
    note = (
        f"`python -m benchmarks.longest_kernels`: Nsight Compute of {record['steps']} steps of GRASP-SASRec with "
        f"kernels={record['kernels']}; how busy a kernel keeps the multiprocessors and the memory, in percent of what they can do. "
        f"{machine_line(record)}"
    )
    header, body = longest_kernels.show(record["rows"])
    return ReportTable("longest_kernels", "The longest kernels of a step", header, body, note)


def _figures(own: dict[str, Any], base: dict[str, Any]) -> list[str]:
    memory = own["temporary_bytes"]
    return [
        *(f"{own[key]:.3f}" for key in TIMES),
        f"{base['median_ms'] / own['median_ms']:.2f}",
        "unknown" if memory is None else f"{memory / 2**20:,.1f}",
    ]
