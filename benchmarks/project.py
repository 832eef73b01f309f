"""What the projection of a step's text rows needs at least: the part of a step that no implementation can leave out."""

from collections.abc import Mapping
from typing import Any

from benchmarks.limits import Limits
from benchmarks.workload import Sizes

FLOAT = 4  # bytes


def count_project(sizes: Sizes, rows: int) -> dict[str, int]:
    """Operations and bytes that a step's projection of a number of pairs of rows (i, ibar) needs, forward and backward.

    Each row is multiplied by a matrix [E, 2H]. The tables are frozen, so the backward pass computes only the weights' gradient. Rows are
    read twice, weights are read and their gradient is written, the [3, H] results are written and their gradient is read.
    """
    product = 2 * rows * sizes.width * 2 * sizes.hidden
    weights = 2 * sizes.width * 2 * sizes.hidden
    moved = 2 * rows * sizes.bytes_per_row + FLOAT * (2 * weights + 2 * rows * 3 * sizes.hidden)
    return {"flops": 2 * 2 * product, "bytes": moved}


def least_seconds(counted: dict[str, Any], most: Limits, dtype: str) -> float:
    """Seconds that so many operations and bytes take at the device's highest rates.

    Args:
      counted: of `count_project`.
      most: the measured rates.
      dtype: of the frozen tables. Rows of bfloat16 can be multiplied in bfloat16 without rounding them, so its rate is the limit for them;
        rows of float32 are multiplied in what the device takes for float32.
    """
    return max(counted["flops"] / most.flops[dtype], counted["bytes"] / most.bytes_per_second)


def shares_of_limit(record: Mapping[str, Any]) -> list[float | None]:
    """How near the stage project of each model of a profile is to the device's limit for the type of the tables; None without it."""
    most, dtype = Limits(**record["limits"]), record["sizes"].get("table_dtype", "float32")
    projects = (model.get("project") for model in record["models"])
    return [
        least_seconds(own, most, dtype) / own["seconds_per_step"] if own else None
        for own in projects
    ]
