"""Interaction files of every supported format -> raw columns -> `InteractionLog`."""

import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.errors import UserError

KNOWN_NAMES = ("inter.txt", "inter_time.tsv") + tuple(f"interactions.{ending}" for ending in ("tsv", "csv", "parquet", "jsonl"))


def find_interactions(path: str, filename: str = "") -> pathlib.Path:
    """The interaction file at `path`: the file itself, `filename` inside the folder, or the first of `KNOWN_NAMES` found there."""
    root = pathlib.Path(path)
    if root.is_file():
        return root
    if not root.is_dir():
        raise UserError(f"config.data.path: {path} does not exist; expected a folder or an interaction file")
    if filename:
        if not (root / filename).is_file():
            raise UserError(f"config.data.interactions_file: {root / filename} does not exist; the folder holds {_listing(root)}")
        return root / filename
    for name in KNOWN_NAMES:
        if (root / name).is_file():
            return root / name
    raise UserError(
        f"config.data.path: {path} has none of {', '.join(KNOWN_NAMES)}; it holds {_listing(root)}; "
        "name the file with config.data.interactions_file"
    )


def read_interactions(
    path: pathlib.Path, name: str, columns: dict[str, str], min_rating: float = 0.0, catalogue: np.ndarray | None = None
) -> InteractionLog:
    """Reads one interaction file; the ending says the format.

    Args:
      path: `.txt` (`user item` per line, positive whole numbers, time order), `.tsv`, `.csv`, `.parquet` or `.jsonl`.
      name: dataset name.
      columns: names of the columns `user`, `item` and, where wanted, `timestamp` and `rating` (an empty name: not used).
      min_rating: rows rated lower are dropped; needs a rating column.
      catalogue: item ids in row order, from an items table.

    Raises:
      UserError: naming file, row, value and what was expected.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; expected one interaction per line")
    if path.suffix == ".txt":
        pairs = _read_pairs(path)
        return build_log(name, pairs[:, 0], pairs[:, 1], catalogue=catalogue)
    table = read_table(path)
    users = id_column(table, columns["user"], path)
    items = id_column(table, columns["item"], path)
    timestamps = None
    if columns.get("timestamp") and columns["timestamp"] in table.column_names:
        timestamps = _time_column(table, columns["timestamp"], path)
    if min_rating > 0:
        keep = _float_column(table, columns.get("rating") or "rating", path) >= min_rating
        users, items = users[keep], items[keep]
        timestamps = None if timestamps is None else timestamps[keep]
    return build_log(name, users, items, timestamps, catalogue)


def read_table(path: pathlib.Path) -> pa.Table:
    """Reads `.tsv`, `.csv`, `.jsonl`/`.json` (one object a line) or `.parquet` with pyarrow.

    Raises:
      UserError: the file is missing, of another ending, or not what its ending says.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        match path.suffix:
            case ".tsv":
                return pa.csv.read_csv(path, parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False))
            case ".csv":
                return pa.csv.read_csv(path)
            case ".jsonl" | ".json":
                return pa.json.read_json(path, read_options=pa.json.ReadOptions(block_size=16 << 20))
            case ".parquet":
                return pa.parquet.read_table(path)
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a readable {path.suffix[1:]} table: {reason}") from error
    raise UserError(f"{path}: ending {path.suffix!r} is not supported; expected .txt, .tsv, .csv, .parquet or .jsonl")


def id_column(table: pa.Table, column: str, path: pathlib.Path) -> np.ndarray:
    """[rows] ids, int64 where the column holds whole numbers and str otherwise; nulls are refused with their row."""
    array = _column(table, column, path)
    if pa.types.is_integer(array.type):
        return array.to_numpy().astype(np.int64)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return np.asarray(array.to_pylist(), dtype=str)
    raise UserError(f"{path}: column {column!r} has type {array.type}; ids are whole numbers or strings")


def _column(table: pa.Table, column: str, path: pathlib.Path) -> pa.ChunkedArray:
    if column not in table.column_names:
        raise UserError(f"{path}: no column {column!r}; it has {', '.join(table.column_names)}; set config.data.columns.*")
    array = table[column]
    if array.null_count:
        row = int(pc.index(pc.is_null(array), True).as_py())
        raise UserError(f"{path}: row {row + 1} has no value in column {column!r}; fill it in or drop the row")
    return array


def _time_column(table: pa.Table, column: str, path: pathlib.Path) -> np.ndarray:
    array = _column(table, column, path)
    if pa.types.is_temporal(array.type):
        return pc.cast(pc.cast(array, pa.timestamp("s"), safe=False), pa.int64()).to_numpy()
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        values = array.to_numpy()
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise UserError(f"{path}: row {row + 1} has timestamp {values[row]}; expected a finite number")
        return values
    raise UserError(f"{path}: column {column!r} has type {array.type}; timestamps are numbers or dates")


def _float_column(table: pa.Table, column: str, path: pathlib.Path) -> np.ndarray:
    try:
        return pc.cast(_column(table, column, path), pa.float64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: column {column!r} is not numeric: {error}") from error


def _read_pairs(path: pathlib.Path) -> np.ndarray:
    """[I, 2] int64 of a `user item` file; on any fault the file is read again line by line to name the first bad one."""
    options: dict[str, Any] = {
        "read_options": pa.csv.ReadOptions(column_names=["user", "item"]),
        "parse_options": pa.csv.ParseOptions(delimiter=" ", quote_char=False),
        "convert_options": pa.csv.ConvertOptions(column_types={"user": pa.int64(), "item": pa.int64()}),
    }
    try:
        table = pa.csv.read_csv(path, **options)
        pairs = np.stack([table["user"].to_numpy(), table["item"].to_numpy()], axis=1)
        if pairs.dtype.kind == "i" and len(pairs) and (pairs > 0).all():
            return pairs
    except pa.ArrowException:
        pass
    return _read_pairs_slowly(path)


def _read_pairs_slowly(path: pathlib.Path) -> np.ndarray:
    pairs = []
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                line = raw.decode("ascii")
            except UnicodeDecodeError:
                raise UserError(f"{path}:{number}: not text; expected two whole numbers, 'user item', per line") from None
            fields = line.split()
            if not fields:
                continue
            shown = repr(line.strip()[:60])
            if len(fields) != 2:
                raise UserError(f"{path}:{number}: {len(fields)} columns in {shown}; expected two, 'user item'")
            if not all(field.isdigit() for field in fields):
                raise UserError(f"{path}:{number}: {shown} is not two whole numbers; string ids go in a .tsv with a header")
            if int(fields[0]) < 1 or int(fields[1]) < 1:
                raise UserError(f"{path}:{number}: id 0 in {shown}; ids of this format start at 1")
            pairs.append((int(fields[0]), int(fields[1])))
    if not pairs:
        raise UserError(f"{path}: no interactions; expected two whole numbers, 'user item', per line")
    return np.asarray(pairs, np.int64)


def _listing(folder: pathlib.Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
