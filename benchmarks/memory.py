"""Peak memory and time of preparation and training for 1, 2, 4 and 8 times the data: python -m benchmarks.memory [--quick] [--out=JSON]

Users, items and interactions of a synthetic shop grow together. Every stage at every size runs in a separate process. A straight line is
fitted to the values that should grow in proportion to the data: both memory peaks, the time of an epoch, and the time of preparation
without neighbours (the time of an exact search grows with the square of the rows). The table also has the bytes of the four tables and of a
ranking of the full catalogue.
"""

import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.apart import run_apart
from benchmarks.arguments import parser_of
from benchmarks.record import Contention, keep, run, table
from grasp_jax.core.errors import UserError

TIMES, QUICK_TIMES = (1, 2, 4, 8), (1, 2, 4)
USERS, ITEMS, WIDTH = 6250, 3125, 256
QUICK_USERS, QUICK_ITEMS, QUICK_WIDTH = 150, 120, 8
# figures that should lie on a straight line
GROWTH = {
    "preparation, peak": ("prepare", "peak_bytes"),
    "training, peak": ("train", "peak_bytes"),
    "preparation": ("prepare", "seconds"),
    "epoch": ("train", "epoch_seconds"),
}


class Line(NamedTuple):
    """y = intercept + slope x; `largest_deviation` of a point from the line, as a share of the line's value there."""

    slope: float
    intercept: float
    largest_deviation: float


def straight_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line of least squares; deviations are shares of the point's y, so that small sizes weigh as much as large ones.

    Raises:
      ValueError: there are fewer than three points, or one is not above 0.
    """
    if len(x) < 3 or min(y) <= 0:
        raise ValueError(
            f"{len(x)} points, the lowest {min(y, default=0)}; a fit needs three above 0"
        )
    at, values = np.asarray(x, float), np.asarray(y, float)
    slope, intercept = np.polyfit(at, values, 1, w=1.0 / values)
    fitted = intercept + slope * at
    return Line(float(slope), float(intercept), float(np.abs(values / fitted - 1.0).max()))


def table_bytes(users: int, items: int, width: int) -> int:
    """Bytes of the four float32 tables: own and similar rows of users and of items."""
    return 2 * (users + items) * width * 4


def measure(
    folder: pathlib.Path, users: int, items: int, width: int, backbone: str
) -> dict[str, Any]:
    """The figures of both stages at one size."""
    sizes = [f"--users={users}", f"--items={items}", f"--width={width}", f"--backbone={backbone}"]
    command = [sys.executable, "-m", "benchmarks.memory_stages"]
    stages = {
        name: run_apart([*command, name, str(folder), *sizes]) for name in ("prepare", "train")
    }
    pairs = users**2 + items**2
    return {
        "users": users,
        "items": items,
        "interactions": stages["train"]["interactions"],
        "table_bytes": table_bytes(users, items, stages["prepare"]["width"]),
        "neighbours_ns_a_pair": 1e9 * stages["prepare"]["neighbours_seconds"] / pairs,
        **stages,
    }


def lines_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The straight line through each figure of `GROWTH`, as a function of the multiple of the data."""
    times = [row["times"] for row in rows]
    return {
        name: straight_line(times, [row[stage][key] for row in rows])._asdict()
        for name, (stage, key) in GROWTH.items()
    }


def show(
    rows: Sequence[Mapping[str, Any]], lines: Mapping[str, Mapping[str, float]]
) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table; the last line has the largest deviations from a straight line."""
    header = [
        "times the data",
        "interactions",
        "tables, MiB",
        "preparation's peak, MiB",
        "training's peak, MiB",
        "full ranking, extra memory, MiB",
        "preparation without neighbours, s",
        "neighbours, s",
        "ns per pair of rows",
        "epoch, s",
    ]
    body = []
    for row in rows:
        made, model = row["prepare"], row["train"]
        sizes = (
            row["table_bytes"],
            made["peak_bytes"],
            model["peak_bytes"],
            model["full_ranking_bytes"],
        )
        body.append(
            [
                str(row["times"]),
                f"{row['interactions']:,}",
                *(f"{size / 2**20:,.0f}" for size in sizes),
                f"{made['seconds']:,.1f}",
                f"{made['neighbours_seconds']:,.1f}",
                f"{row['neighbours_ns_a_pair']:,.1f}",
                f"{model['epoch_seconds']:,.2f}",
            ]
        )
    apart = [row["train"]["device_peak_bytes"] for row in rows]
    if all(apart):
        header.append("training's peak on the device, MiB")
        body = [[*own, f"{peak / 2**20:,.0f}"] for own, peak in zip(body, apart, strict=True)]
    off = {name: f"{line['largest_deviation']:.0%}" for name, line in lines.items()}
    last = [
        "",
        "",
        off["preparation, peak"],
        off["training, peak"],
        "",
        off["preparation"],
        "",
        "",
        off["epoch"],
        *[""] * all(apart),
    ]
    return header, [*body, ["largest deviation from a line", *last]]


def found_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The benchmark's last line: the largest size over the smallest."""
    first, last = rows[0], rows[-1]
    memory, epoch = (
        last["train"][key] / first["train"][key] for key in ("peak_bytes", "epoch_seconds")
    )
    return f"{last['times']} times the data: training takes {memory:.1f}x the memory and {epoch:.1f}x the seconds an epoch"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures each size, prints, and writes JSON."""
    parser = parser_of("memory", __doc__)
    parser.add_argument("--users", type=int, default=USERS, help="users of the smallest size")
    parser.add_argument("--items", type=int, default=ITEMS, help="items of the smallest size")
    parser.add_argument("--width", type=int, default=WIDTH, help="width of a text vector, E")
    given = parser.parse_args(arguments)
    backbone = "gru4rec" if given.quick else "sasrec"  # gru4rec compiles fast
    users, items, width = (
        (QUICK_USERS, QUICK_ITEMS, QUICK_WIDTH)
        if given.quick
        else (given.users, given.items, given.width)
    )
    if users < 20 or items < 100 or width < 1:
        raise UserError(
            f"--users={users} --items={items} --width={width}: expected at least 20 users, 100 items and a width of 1"
        )
    contention, rows = Contention(), []
    for times in QUICK_TIMES if given.quick else TIMES:
        with tempfile.TemporaryDirectory(prefix="memory-") as folder:
            rows.append(
                {
                    "times": times,
                    **measure(pathlib.Path(folder), times * users, times * items, width, backbone),
                }
            )
        print(f"{times} times the data measured", flush=True)
    lines = lines_of(rows)
    print(table(*show(rows, lines)))
    sizes = {"users": users, "items": items, "width": width, "backbone": backbone}
    keep(
        "memory", {"sizes": sizes, "rows": rows, "lines": lines}, contention, given, found_of(rows)
    )


if __name__ == "__main__":
    run(main)
