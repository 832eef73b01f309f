"""What the tables of kernels mean, in sentences that are computed from the record."""

import math
from typing import Any

from benchmarks.sections.words import AS_FAST, between, percent

Record = dict[str, Any]
KERNEL = "kernel"  # the form of a GRU that is not XLA's
FULL = 60.0  # percent of what the device can do, from which a kernel counts as limited by it


def attention(record: Record) -> str:
    """Whether the kernel is faster than XLA."""
    ratios = [
        own["forms"]["einsum"]["median_ms"] / own["forms"]["kernels"]["median_ms"]
        for own in record["cases"]
        if "kernels" in own["forms"]
    ]
    if not ratios:
        return "The kernels are for GPUs, so this table has the default form alone. It is what the kernels are compared with."
    return (
        f"The kernels are {between(ratios, '.2f')} times as fast as XLA's own operations, so they are not the default."
        if max(ratios) < AS_FAST
        else f"The kernels are {between(ratios, '.2f')} times as fast as XLA's own operations."
    )


def gru(record: Record) -> str:
    """The fastest form of each pass, against the plain scan and against the fastest of XLA's forms."""
    told = []
    for name, forms in record["cases"].items():
        times = {form: own["median_ms"] for form, own in forms.items()}
        plain, best = next(iter(times)), min(times, key=lambda form: times[form])
        if best == plain:
            told.append(f"In {name} no form is faster than the plain scan.")
            continue
        said = f"In {name} the fastest form is `{best}`, {times[plain] / times[best]:.1f} times as fast as the plain scan"
        rival, ratio = fastest_of_xla(forms)
        if best == KERNEL and rival != plain:
            said += f" and {ratio:.1f} times as fast as XLA's best form (`{rival}`)"
        told.append(f"{said}.")
    return " ".join(told)


def fastest_of_xla(forms: Record) -> tuple[str, float]:
    """The fastest form that is not the kernel, and how many times as long it takes as the kernel (nan without one)."""
    times = {form: own["median_ms"] for form, own in forms.items()}
    kernel = times.pop(KERNEL, math.nan)
    rival = min(times, key=lambda form: times[form])
    return rival, times[rival] / kernel


def errors(record: Record) -> str:
    """Whether kernels are as exact as XLA's forms."""
    rows = [row["errors"] for row in record["rows"]]
    ours, theirs = (max(row[form] for row in rows) for form in ("kernel", "xla"))
    said = f"The largest error of a kernel is {ours:.0e} of the largest value, that of XLA's forms {theirs:.0e}."
    if ours > 2 * theirs:
        return said
    return f"{said} So a kernel changes results no more than rounding does."


def longest(record: Record) -> str:
    """What the longest kernel is limited by."""
    first = record["rows"][0]
    busy = max(("multiprocessors", "memory"), key=lambda part: first[part])
    said = (
        f"The longest kernel takes {percent(first['share'])} of the time of all kernels, and uses at most {first[busy]:.0f} % of what a "
        f"part of the device ({busy}) can do."
    )
    if first[busy] >= FULL:
        return said
    return f"{said} So it is too small to fill this device."
