"""Interaction files of every supported format -> raw columns -> `InteractionLog`."""

import pathlib
from typing import Any

import numpy as np

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
        if min_rating > 0:
            raise UserError(f"{path}: config.data.min_rating={min_rating}, but a .txt file has no ratings; set it to 0 or give a .tsv")
        pairs = _read_pairs(path)
        return build_log(name, pairs[:, 0], pairs[:, 1], catalogue=catalogue, source=str(path))
    from grasp_jax.data.tables import id_column, number_column, read_table, time_column  # needs pyarrow, which a .txt file does not

    table = read_table(path)
    users = id_column(table, columns["user"], path)
    items = id_column(table, columns["item"], path)
    timestamps = None
    if columns.get("timestamp") and columns["timestamp"] in table.column_names:
        timestamps = time_column(table, columns["timestamp"], path)
    rows = np.arange(len(users))
    if min_rating > 0:
        rows = rows[number_column(table, columns.get("rating") or "rating", path) >= min_rating]
    timestamps = None if timestamps is None else timestamps[rows]
    return build_log(name, users[rows], items[rows], timestamps, catalogue, str(path), rows)


def _read_pairs(path: pathlib.Path) -> np.ndarray:
    """[I, 2] int64 of a `user item` file; on any fault the file is read again line by line to name the first bad one."""
    try:
        import pyarrow as pa
        import pyarrow.csv
    except ModuleNotFoundError:  # a bare GPU machine
        return _read_pairs_slowly(path)
    if not _only_digits(path):  # pyarrow takes 0x10 for 16
        return _read_pairs_slowly(path)
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


def _only_digits(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return not any(block.translate(None, b"0123456789 \t\r\n") for block in iter(lambda: file.read(1 << 24), b""))


def _read_pairs_slowly(path: pathlib.Path) -> np.ndarray:
    pairs = []
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                line = raw.decode("ascii")
            except UnicodeDecodeError:
                raise UserError(f"{path}:{number}: {raw[:60]!r} is not text; expected two whole numbers, 'user item', per line") from None
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
            if max(int(fields[0]), int(fields[1])) > np.iinfo(np.int64).max:
                raise UserError(f"{path}:{number}: an id in {shown} is beyond 64 bits; string ids go in a .tsv with a header")
            pairs.append((int(fields[0]), int(fields[1])))
    if not pairs:
        raise UserError(f"{path}: no interactions; expected two whole numbers, 'user item', per line")
    return np.asarray(pairs, np.int64)


def _listing(folder: pathlib.Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
