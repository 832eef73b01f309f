"""Tables in every format that the package reads."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
TABLES = ("tsv", "csv", "jsonl", "parquet")


def write_table(path: pathlib.Path, columns: dict[str, Sequence[Any]]) -> pathlib.Path:
    """Writes columns in the format that the ending of `path` says."""
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix == ".parquet":
        parquet.write_table(
            pa.table({name: list(values) for name, values in columns.items()}), path
        )
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        )
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(mark.join(map(str, row)) + "\n" for row in [tuple(columns), *rows]))
    return path
