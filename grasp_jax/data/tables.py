"""Column files (TSV, CSV, Parquet, JSON lines) read with pyarrow, their faults named by row; rows are counted from 1, header apart."""

import json
import pathlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from grasp_jax.errors import UserError

JSON_BLOCK = 16 << 20  # bytes; a line must fit


def read_table(path: pathlib.Path) -> pa.Table:
    """Reads `.tsv`, `.csv`, `.jsonl`/`.json` (one object a line) or `.parquet`.

    Raises:
      UserError: the file is missing, of another ending, or not what its ending says.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        match path.suffix:
            case ".tsv" | ".csv":
                table = _read_delimited(path, "\t" if path.suffix == ".tsv" else ",")
            case ".jsonl" | ".json":
                table = pa.json.read_json(path, read_options=pa.json.ReadOptions(block_size=JSON_BLOCK))
            case ".parquet":
                table = pa.parquet.read_table(path)
            case _:
                raise UserError(f"{path}: ending {path.suffix!r} is not supported; expected .txt, .tsv, .csv, .parquet or .jsonl")
        names = table.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = _json_fault(path) if path.suffix in (".jsonl", ".json") else ""
        raise UserError(f"{path}: not a readable {path.suffix[1:]} table: {reason or _one_line(error)}") from error
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(f"{path}: column {repeated[0]!r} stands twice in the header; rename one")
    return table


def id_column(table: pa.Table, name: str, path: pathlib.Path) -> np.ndarray:
    """[rows] ids, int64 where the column holds whole numbers and str otherwise.

    Raises:
      UserError: no such column, or a row whose id is missing, empty, no text or beyond 64 bits.
    """
    array = column(table, name, path)
    kind = array.type
    if pa.types.is_integer(kind):
        values = array.to_numpy()
        if kind == pa.uint64() and len(values) and values.max() > np.iinfo(np.int64).max:
            raise UserError(f"{path}: row {int(values.argmax()) + 1}: {name} {values.max()} is beyond 64 bits; write such ids as text")
        return values.astype(np.int64)
    if any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        values = _text(array, name, path)
        empty = np.flatnonzero(values == "")
        if len(empty):
            raise UserError(_no_value(path, int(empty[0]), name))
        return values
    raise UserError(f"{path}: column {name!r} has type {kind}; ids are whole numbers or strings")


def time_column(table: pa.Table, name: str, path: pathlib.Path) -> np.ndarray:
    """[rows] int64 or float64 times: numbers as they stand; dates as nanoseconds where the column has them, else as microseconds."""
    array = column(table, name, path)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        unit = "ns" if pa.types.is_timestamp(array.type) and array.type.unit == "ns" else "us"
        return pc.cast(pc.cast(array, pa.timestamp(unit)), pa.int64()).to_numpy()
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return _finite(array.to_numpy(), name, path)
    raise UserError(f"{path}: column {name!r} has type {array.type}; timestamps are numbers or dates")


def number_column(table: pa.Table, name: str, path: pathlib.Path) -> np.ndarray:
    """[rows] float64."""
    array = column(table, name, path)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return _finite(array.to_numpy().astype(np.float64), name, path)
    numbers = np.empty(len(array))
    for row, value in enumerate(array.to_pylist()):
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            raise UserError(f"{path}: row {row + 1} has {value!r} in column {name!r}; expected a number") from None
    return _finite(numbers, name, path)


def column(table: pa.Table, name: str, path: pathlib.Path) -> pa.ChunkedArray:
    """A column without nulls."""
    if name not in table.column_names:
        raise UserError(f"{path}: no column {name!r}; it has {', '.join(table.column_names)}; set config.data.columns.*")
    array = table[name]
    if array.null_count:
        raise UserError(_no_value(path, int(pc.index(pc.is_null(array), True).as_py()), name))
    return array


def _read_delimited(path: pathlib.Path, delimiter: str) -> pa.Table:
    quote = False if delimiter == "\t" else '"'
    parse = pa.csv.ParseOptions(delimiter=delimiter, quote_char=quote)
    try:
        return pa.csv.read_csv(path, parse_options=parse)
    except pa.ArrowInvalid:
        # Once more without threads, which forget the row.
        bad: list[pa.csv.InvalidRow] = []

        def remember(row: pa.csv.InvalidRow) -> str:
            bad.append(row)
            return "error"

        parse.invalid_row_handler = remember
        try:
            return pa.csv.read_csv(path, parse_options=parse, read_options=pa.csv.ReadOptions(use_threads=False))
        except pa.ArrowInvalid:
            if not bad:
                raise
            raise UserError(
                f"{path}: row {bad[0].number - 1} has {bad[0].actual_columns} fields, the header {bad[0].expected_columns}: "
                f"{bad[0].text[:60]!r}"
            ) from None


def _json_fault(path: pathlib.Path) -> str:
    """The first row of a JSON lines file that is no object or changes the type of a field; empty if none does."""
    kinds: dict[str, str] = {}
    with path.open("rb") as lines:
        for number, raw in enumerate((line for line in lines if line.strip()), start=1):
            try:
                fields = json.loads(raw)
            except ValueError as error:
                return f"row {number}: {_one_line(error)}: {raw.strip()[:60]!r}"
            if not isinstance(fields, dict):
                return f"row {number} is {raw.strip()[:60]!r}; expected one JSON object a line"
            for name, value in fields.items():
                kind = _JSON_KINDS.get(type(value), "")
                if kind and kinds.setdefault(name, kind) != kind:
                    return f"row {number} has a {kind} in {name!r}, rows before it a {kinds[name]}"
    return ""


_JSON_KINDS = {str: "string", int: "number", float: "number", bool: "truth value", list: "list", dict: "table"}


def _text(array: pa.ChunkedArray, name: str, path: pathlib.Path) -> np.ndarray:
    try:
        return np.asarray(pc.cast(array, pa.large_string()).to_pylist(), dtype=str)
    except (UnicodeDecodeError, pa.ArrowInvalid):
        row, value = _first_undecodable(pc.cast(array, pa.large_binary()).to_pylist())
        raise UserError(f"{path}: row {row + 1} has {value[:60]!r} in column {name!r}, which is not UTF-8 text") from None


def _first_undecodable(values: Iterable[bytes]) -> tuple[int, bytes]:
    for row, value in enumerate(values):
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            return row, value
    raise AssertionError("every value is UTF-8")


def _finite(values: np.ndarray, name: str, path: pathlib.Path) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise UserError(f"{path}: row {bad[0] + 1} has {name} {values[bad[0]]}; expected a finite number")
    return values


def _no_value(path: pathlib.Path, row: int, name: str) -> str:
    return f"{path}: row {row + 1} has no value in column {name!r}; fill it in or drop the row"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
