"""Scoring and searching: the rankings of the test, neighbours of all rows, and a large bank."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.record import machine_line
from grasp_jax.report.tables import ReportTable

LARGEST = 10_000_000  # rows for which the search in clusters is extrapolated


def evaluation(record: dict[str, Any]) -> list[ReportTable]:
    """The sampled test compared with an epoch, and the full ranking compared with the equations as written."""
    body = [
        [
            row["model"],
            f"{row['epoch_seconds']:.2f}",
            f"{row['evaluation_seconds']:.2f}",
            f"{row['share_of_epoch']:.1%}",
            f"{row['prepared_once_seconds']:.1f}",
            f"{row['temporary_bytes'] / 2**20:,.0f}",
        ]
        for row in record["sampled"]
    ]
    first = record["sampled"][0]
    note = (
        f"`python -m benchmarks.evaluation`: {first['users']:,} users of {record['sizes']['data']}, {first['candidates']} candidates each, "
        f"E={record['sizes']['width']} for models with text. Stored negatives and their gate logits are computed once per run."
        f"\n\n{machine_line(record)}"
    )
    header = [
        "model",
        "one epoch, s",
        "test, s",
        "share of an epoch",
        "preparation, once per run, s",
        "temporary memory, MiB",
    ]
    tables = [
        ReportTable(
            "evaluation", "The test among 100 negatives, compared with training", header, body, note
        )
    ]
    if full := record["full"]:
        rows = [
            [
                name,
                f"{own['sampled_users']:,}",
                f"{1e3 * own['seconds_per_user']:,.2f}",
                f"{own['extrapolated_seconds']:,.0f}",
                f"{own['extra_bytes'] / 2**20:,.0f}",
            ]
            for name, own in (
                ("factorised", full["factorised"]),
                ("candidate by candidate", full["as_written"]),
            )
        ]
        note = (
            f"From the same run, for GRASP: {full['users']:,} users by {full['items']:,} items, extrapolated from the timed "
            f"users. The factorised form is {full['speed_up']:.1f} times as fast. The scores of both forms agree within "
            f"{full['largest_difference']:.0e} of the largest score."
        )
        header = [
            "scoring",
            "users timed",
            "ms a user",
            "all users, s (extrapolated)",
            "extra memory, MiB",
        ]
        tables.append(
            ReportTable(
                "evaluation_full",
                "The full catalogue, factorised and candidate by candidate (Eq. 3-5)",
                header,
                rows,
                note,
            )
        )
    return tables


def retrieval(record: dict[str, Any]) -> ReportTable:
    """Exact search, an index, and faiss."""
    sizes, body = record["sizes"], []
    for row in record["ways"]:
        part = row["queries"] < row["rows"]
        numbers = [
            f"{row['build_seconds']:,.1f}",
            f"{row['extrapolated_seconds']:,.1f}" + (" (extrapolated)" if part else ""),
        ]
        speed = [
            f"{row['queries_per_second']:,.0f}",
            f"{row['recall']:.3f}",
            f"{row['share_of_limit']:.0%}",
        ]
        memory = [f"{row['beside_vectors_bytes'] / 2**20:,.0f}"]
        body.append(
            [row["way"], f"{row['rows']:,}", f"{row['queries']:,}", *numbers, *speed, *memory]
        )
    flops = record["limits"]["flops"]["float32"]
    note = (
        f"`python -m benchmarks.retrieval`: the {sizes['neighbours']} neighbours of each row of a synthetic table, E={sizes['width']} in "
        "float32, the row itself left out; each way runs in a separate process on the same file and cores. Exact search builds no index: "
        "its building time is that of the compilation. Recall is that of a sample of rows. Extra memory is the peak minus the start and "
        f"the mapped vectors. The limit is that of a large matrix product, {flops / 1e9:,.0f} GFLOP/s in the same run, for 2VE operations "
        f"a query: exact search of all rows scores each pair once for both of its rows, so it may be above 100 %.\n\n{machine_line(record)}"
    )
    header = [
        "way",
        "rows",
        "queries",
        "build, s",
        "search of all rows, s",
        "queries/s",
        f"recall@{sizes['neighbours']}",
    ]
    header += ["share of the limit", "extra memory, MiB"]
    return ReportTable("retrieval", "Neighbours of all rows", header, body, note)


def neighbours(record: dict[str, Any]) -> ReportTable:
    """Neighbours in large tables of synthetic texts: by clusters, and exactly."""
    sizes, body = record["sizes"], []
    for row in record["ways"]:
        part = row["queries"] < row["rows"]
        of_all = row["rows"] / row["queries"]
        body.append(
            [
                row["way"],
                f"{row['rows']:,}",
                f"{row['build_seconds'] + row['extrapolated_seconds']:,.0f}"
                + (" (extrapolated)" if part else ""),
                f"{row['processor_seconds'] * of_all:,.0f}" + (" (extrapolated)" if part else ""),
                f"{row['recall']:.3f}",
                f"{row['beside_vectors_bytes'] / 2**20:,.0f}",
            ]
        )
    by_clusters = [row for row in record["ways"] if row["way"] == "clusters"]
    larger = ""
    if len(by_clusters) > 1:
        body.append(_extrapolated(*by_clusters[-2:]))
        larger = (
            "The last row is extrapolated: its seconds grow with the rows as between the two tables of clusters that were measured, "
            "and its memory is on the line through theirs. "
        )
    note = (
        f"`python -m benchmarks.neighbours`: the {sizes['neighbours']} neighbours of each row of synthetic texts, E={sizes['width']} in "
        "float16 in a memory-mapped file; the time includes finding the clusters, and how many of them to search. Processor seconds are "
        "those of all cores together. Exact search is timed for a sample of rows; among all rows it scores each pair once for both, which "
        "costs less than the extrapolation. Recall is that of a sample of rows. Extra memory is the peak minus the start and the mapped "
        f"vectors. {larger}{_kills(record['ways'])}\n\n{machine_line(record)}"
    )
    header = [
        "way",
        "rows",
        "all rows, s",
        "processor, s",
        f"recall@{sizes['neighbours']}",
        "extra memory, MiB",
    ]
    return ReportTable("neighbours", "Neighbours in large tables", header, body, note)


def _extrapolated(small: dict[str, Any], large: dict[str, Any]) -> list[str]:
    """The row of a table of `LARGEST` rows, from two that were measured."""
    times = LARGEST / large["rows"]
    each = math.log(times) / math.log(large["rows"] / small["rows"])

    def grown(figure: Callable[[dict[str, Any]], float]) -> str:
        return f"{figure(large) * (figure(large) / figure(small)) ** each:,.0f} (extrapolated)"

    of_row = (large["beside_vectors_bytes"] - small["beside_vectors_bytes"]) / (
        large["rows"] - small["rows"]
    )
    memory = large["beside_vectors_bytes"] + (LARGEST - large["rows"]) * of_row
    return [
        "clusters",
        f"{LARGEST:,}",
        grown(lambda row: float(row["build_seconds"] + row["extrapolated_seconds"])),
        grown(lambda row: float(row["processor_seconds"])),
        "",
        f"{memory / 2**20:,.0f} (extrapolated)",
    ]


def _kills(ways: Sequence[dict[str, Any]]) -> str:
    """A sentence for each search that was killed on the way; empty if none was."""
    return "".join(
        f"The search of {own['rows']:,} rows was killed after {own['killed']['seconds']:,.0f} s and started again; its cost includes both "
        "processes. "
        for own in ways
        if "killed" in own
    )


def bank(record: dict[str, Any]) -> ReportTable:
    """The table and the index of a large knowledge bank."""
    sizes, recall, body = record["sizes"], record["recall"], []
    for stage in record["stages"]:
        leaves = stage["name"].removeprefix("index searched, ").removesuffix(" leaves")
        numbers = [
            f"{stage['rows']:,}",
            f"{stage['seconds']:,.0f}",
            f"{stage['rows'] / stage['seconds']:,.0f}",
        ]
        found = f"{recall[leaves]:.3f}" if leaves in recall else ""
        body.append([stage["name"], *numbers, f"{stage['peak_memory_bytes'] / 2**30:.1f}", found])
    note = (
        f"`python -m benchmarks.bank`: E={sizes['width']} in float32, {sizes['rows'] * sizes['width'] * 4 / 2**30:.1f} GiB a table; "
        f"synthetic vectors in clusters, written through shards. Then the {sizes['neighbours']} neighbours of a sample of rows, by the "
        f"index and exactly; a bank's index looks into {max(recall, key=int)} leaves.\n\n{machine_line(record)}"
    )
    header = [
        "stage",
        "rows",
        "s",
        "rows/s",
        "peak memory so far, GiB",
        f"recall@{sizes['neighbours']}",
    ]
    return ReportTable("bank", f"A knowledge bank of {sizes['rows']:,} rows", header, body, note)
