"""Checks whether a run can read the interactions: all rows, not only the sample, but only the columns that it needs."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.parquet

from grasp_jax.config import DataConfig
from grasp_jax.config.data import SKIP
from grasp_jax.core.errors import UserError
from grasp_jax.data.bad_rows import FIELD
from grasp_jax.data.file_parts import parts_of
from grasp_jax.data.interactions import columns_used, columns_wanted, readable_rows
from grasp_jax.data.readers import read_interactions
from grasp_jax.data.repeats import repeated_targets
from grasp_jax.data.streamed import stream_parquet
from grasp_jax.data.summary import reasons_in_words
from grasp_jax.data.table_files import UNREADABLE, ending_of, read_table
from grasp_jax.data.tables import SourceTable
from grasp_jax.setup.sample import Sample

MOST_ROWS = 5_000_000  # of Parquet
# of any other format; of a larger file the sample is checked, and of a larger `inter.txt` nothing
MOST_BYTES = 256 << 20


class _Users(NamedTuple):
    """`lengths` and `repeated` of `Checked`."""

    lengths: np.ndarray | None = None
    repeated: float = 0.0


class Checked(NamedTuple):
    """The result of the check.

    Attributes:
      line: how many can be read, for people.
      refused: why a run would refuse others; empty if it would not.
      lengths: [N] interactions of each user; None if not all rows were read.
      repeated: share of the users with two interactions or more who had their last item before; 0 if not all rows were read.
    """

    line: str
    refused: str = ""
    lengths: np.ndarray | None = None
    repeated: float = 0.0


def check_rows(log: Sample, columns: Mapping[str, str]) -> Checked:
    """Reads users, items and times as a run will.

    Args:
      log: the interactions.
      columns: purpose -> column; an empty timestamp: there are no times.
    """
    if log.path.suffix == ".txt" and log.size > MOST_BYTES:
        return Checked("rows: not checked, because the file is large; a run reads all rows")
    try:
        count, users, reasons = _read(log, columns)
    except UserError as error:
        return Checked("", f"what to do about the interactions, which a run refuses: {error}")
    bad, whole = sum(number for _, number, _ in reasons), users is not None
    of_users = users or _Users()
    which = f"all {count:,}" if whole else f"the first {count:,} rows"
    if bad:
        which = f"{count - bad:,} of {which.removeprefix('all ')}"
    has = "a user, an item and a time" if columns.get("timestamp") else "a user and an item"
    line = f"rows: {which} have {has} that can be read" + (
        "" if whole else "; a run reads all rows"
    )
    if not reasons:
        return Checked(line, "", *of_users)
    reasons_text = "; ".join(reasons_in_words(reasons, count))
    remedy = f'mend them, or set {FIELD} = "{SKIP}", which leaves them out'
    refused = f"what to do with rows that a run refuses: {reasons_text}; {remedy}"
    return Checked(line, refused, *of_users)


def _read(
    log: Sample, columns: Mapping[str, str]
) -> tuple[int, _Users | None, Sequence[tuple[str, int, str]]]:
    """How many rows were read, their users if these are all, and what is wrong with some (`LeftOut.reasons`).

    Raises:
      UserError: a run refuses the whole table.
    """
    if log.path.suffix == ".txt":
        pairs, report = read_interactions(log.path, DataConfig(bad_rows=SKIP))
        return report.rows, _users(pairs.items, pairs.offsets), report.left_out
    table, whole = _table(log, columns)
    used = columns_used(tuple(table.columns), columns, 0.0, table.path)
    rows, left_out = readable_rows(table, used, 0.0, SKIP)
    if not whole:
        return table.num_rows, None, left_out.reasons
    users, times = rows.users.codes, rows.times
    keys = (users,) if times is None else (times.values, users)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users))])
    return table.num_rows, _users(rows.items.codes[np.lexsort(keys)], offsets), left_out.reasons


def _users(items: np.ndarray, offsets: np.ndarray) -> _Users:
    """Of interactions that are sorted by user and then by time, as `InteractionLog` has them."""
    lengths = np.diff(offsets)
    last = offsets[1:] - 1
    repeated = repeated_targets(items, offsets, last, items[last])
    return _Users(lengths, float(repeated[lengths > 1].mean()) if (lengths > 1).any() else 0.0)


def _table(log: Sample, columns: Mapping[str, str]) -> tuple[SourceTable, bool]:
    """Rows with the columns that are needed, and whether these are all rows."""
    if log.whole:
        return log.table, True
    wanted, rows = columns_wanted(columns, 0.0), _num_rows(log.path)
    is_small = log.size <= MOST_BYTES if rows is None else rows <= MOST_ROWS
    if is_small:
        return read_table(log.path, wanted), True
    if rows is None:
        return log.table, False
    return stream_parquet(log.path, log.table.form, wanted, MOST_ROWS) or log.table, False


def _num_rows(path: pathlib.Path) -> int | None:
    """The number of rows of a Parquet file or folder; None for another format, or if a part cannot be read, which a run reports."""
    if ending_of(path)[0] != ".parquet":
        return None
    try:
        parts = parts_of(path) if path.is_dir() else [path]
        return sum(int(pyarrow.parquet.read_metadata(part).num_rows) for part in parts)
    except UNREADABLE:
        return None
