"""The times of a column of values, on a day of 2024."""

import datetime
import pathlib
from typing import Any

import pyarrow as pa

from grasp_jax.data.tables import SourceTable
from grasp_jax.data.time_values import Times
from grasp_jax.data.times import time_column
from tests.refusal import assert_names, refusal

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
FIRST = 1700471600  # 2023-11-20 09:13:20 UTC
NOW = datetime.datetime(2024, 6, 1, tzinfo=datetime.UTC).timestamp()


def times_of(values: Any, kind: pa.DataType | None = None) -> Times:
    """Of a column `when` of a table, on the first of June 2024."""
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    return time_column(
        SourceTable(
            pathlib.Path("log.csv"), "CSV", {"when": pa.chunked_array([array])}, len(array)
        ),
        "when",
        NOW,
    )


def refused(values: Any, *parts: str) -> None:
    assert_names(refusal(times_of, values), ("log.csv: row ", "'when'", *parts))
