"""Answers to requests, and recommendations for many users at once, compared with rivals."""

from typing import Any

from benchmarks.record import machine_line
from grasp_jax.report.tables import ReportTable

MIB = 2**20


def serving(record: dict[str, Any]) -> ReportTable:
    """Requests a second, times at half of the largest load, and memory."""
    body = [
        [
            f"{own['service']}, {own['items']:,} items",
            f"{own['largest_per_second']:,.0f}",
            *(_number(own["at_half"][name], "{:,.1f}") for name in ("p50_ms", "p99_ms")),
            _statuses(own["at_half"]),
            _statuses(own["overload"]),
            _statuses(own.get("ten_times")),
            _statuses(own.get("under_reload")),
            f"{own['ready_seconds']:,.0f}",
            f"{own['peak_bytes'] / MIB:,.0f}",
            _number(own.get("memory", {}).get("bytes_per_minute"), "{:+,.1f}", MIB),
        ]
        for own in record["services"]
    ]
    crowd = record["services"][0]["overload"]["connections"]
    note = (
        f"`python -m benchmarks.serving`: the service and the load generator share the cores; histories have 1 to {record['length']} "
        f"items, answers {record['k']} items. The largest rate was found with {_generators(record)}; all other loads come from "
        f"`benchmarks.serving_load`. p50 and p99 are measured for {record['seconds']:g} s at half of the largest rate.{_ten_times(record)}"
        f"\n\n{machine_line(record)}"
    )
    if older := sorted(
        {own["measured"]["date"] for own in record["services"] if "measured" in own}
    ):
        note += (
            f"; some services were measured on {', '.join(older)} (field `measured` of the record)"
        )
    header = [
        "service",
        "largest rate, requests/s",
        "p50 at half of that rate, ms",
        "p99, ms",
        "answers by status at half of that rate",
        f"answers by status with {crowd:,} connections",
        "answers by status at ten times the largest load",
        "answers by status during a reload",
        "start of the service, s",
        "peak memory, MiB",
        "growth of memory, MiB per minute",
    ]
    return ReportTable("serving", "Answers by HTTP", header, body, note)


def batch(record: dict[str, Any]) -> ReportTable:
    """Users per second of one call for many users."""
    body = [
        [
            f"{own['library']}, {own['items']:,} items",
            f"{own['users']:,}",
            f"{own['users_per_second']:,.0f}",
        ]
        for own in record["libraries"]
    ]
    note = (
        f"`python -m benchmarks.serving_batch`: SASRec, D={record['features']}, histories of up to {record['length']} items, which are "
        f"left out; {record['k']} items each; the second of two calls.\n\n{machine_line(record)}"
    )
    header = ["`recommend`", "users", "users/s"]
    return ReportTable(
        "serving-batch", "Recommendations for many users in one call", header, body, note
    )


def _generators(record: dict[str, Any]) -> str:
    """Which program searched the largest rate of which services; wrk alone counts broken connections."""
    by: dict[str, list[str]] = {}
    for own in record["services"]:
        name = "wrk" if "broken" in own["rising"][0]["statuses"] else "`benchmarks.serving_load`"
        by.setdefault(name, []).append(f"{own['service']}, {own['items']:,} items")
    if len(by) == 1:
        return next(iter(by))
    return " and ".join(f"{name} ({'; '.join(services)})" for name, services in by.items())


def _ten_times(record: dict[str, Any]) -> str:
    """What ten times the largest load means; empty for earlier records, which do not have it."""
    loads = [own["ten_times"] for own in record["services"] if "ten_times" in own]
    if not loads:
        return ""
    return (
        f" Ten times the largest load are requests with {loads[0]['histories']} histories each, at ten times the rate at which the service "
        "can answer such requests: of single requests the load generator cannot send as many."
    )


def _number(value: float | None, form: str, unit: float = 1.0) -> str:
    return "-" if value is None else form.format(value / unit)


def _statuses(load: dict[str, Any] | None) -> str:
    """Number of answers by status, such as "200: 11,391"."""
    if load is None:
        return "-"
    there = {name: count for name, count in load["statuses"].items() if count}
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(there.items()))
