"""Recommendations as a file: the suffix of its name says in which format."""

import contextlib
import csv
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet

COLUMNS = ("user", "rank", "item", "score")
# key of a Parquet file's metadata: what the recommendations were made from, as JSON
KEY = b"grasp_jax"
SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")
ROW_GROUP = (
    131_072  # rows; a Parquet file with a row group for each block is read four times as slowly
)

Write = Callable[[list[np.ndarray]], None]  # columns of one block of rows


@contextlib.contextmanager
def open_writer(
    path: pathlib.Path, suffix: str, numbers: tuple[bool, bool], made_from: Mapping[str, Any]
) -> Iterator[Write]:
    """Writes `COLUMNS` block by block.

    Args:
      path: the new file, with any name.
      suffix: one of `SUFFIXES`.
      numbers: whether the ids of users and of items are numbers.
      made_from: for the metadata of a Parquet file.
    """
    if suffix == ".parquet":
        user, item = (pa.int64() if number else pa.string() for number in numbers)
        schema = pa.schema(
            [("user", user), ("rank", pa.int32()), ("item", item), ("score", pa.float32())]
        )
        schema = schema.with_metadata({KEY: json.dumps(dict(made_from)).encode()})
        with pa.parquet.ParquetWriter(path, schema) as parquet, _row_groups(parquet) as write:
            yield write
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        yield (
            _json_lines(file)
            if suffix == ".jsonl"
            else _separated(file, "\t" if suffix == ".tsv" else ",")
        )


@contextlib.contextmanager
def _row_groups(parquet: pa.parquet.ParquetWriter) -> Iterator[Write]:
    """Collects blocks, and writes them as row groups of `ROW_GROUP` rows or a little more."""
    waiting: list[pa.Table] = []

    def flush() -> None:
        if rows := sum(map(len, waiting)):  # none where no user of these blocks has an item left
            parquet.write_table(pa.concat_tables(waiting), row_group_size=rows)
        waiting.clear()

    def write(columns: list[np.ndarray]) -> None:
        waiting.append(pa.table([pa.array(column) for column in columns], schema=parquet.schema))
        if sum(map(len, waiting)) >= ROW_GROUP:
            flush()

    yield write
    flush()


def _separated(file: TextIO, separator: str) -> Write:
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    writer.writerow(COLUMNS)

    def write(columns: list[np.ndarray]) -> None:
        users, ranks, items, scores = (column.tolist() for column in columns)
        writer.writerows(zip(users, ranks, items, map(_score, scores), strict=True))

    return write


def _json_lines(file: TextIO) -> Write:
    def write(columns: list[np.ndarray]) -> None:
        users, ranks, items, scores = (column.tolist() for column in columns)
        for user, rank, item, score in zip(users, ranks, items, map(_score, scores), strict=True):
            row = dict(zip(COLUMNS, (user, rank, item, float(score)), strict=True))
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    return write


def _score(score: float) -> str:
    return f"{score:.9g}"  # nine digits tell every two float32 apart
