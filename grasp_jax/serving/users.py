"""Whom --users asks for: ids of a file, one a line, and which of them the data do not know."""

import pathlib
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from grasp_jax.data.log import InteractionLog
from grasp_jax.errors import UserError
from grasp_jax.files import read_text

MEND = "--users takes one user id per line, as UTF-8 text, or a .parquet file with a column 'user'"


class Selection(NamedTuple):
    """Users to recommend to.

    Attributes:
      rows: [n] of the known ones, each once, in the order of the file.
      skipped: id and reason of the others.
    """

    rows: np.ndarray
    skipped: list[tuple[str, str]]


def read_users(path: str | None, log: InteractionLog) -> Selection:
    """Users listed in a file; all users for None. An id is a whole line, for ids may hold blanks.

    Raises:
      UserError: the file is missing, not readable or empty, or names no user of the data.
    """
    if path is None:
        return Selection(np.arange(log.num_users), [])
    wanted = _ids(pathlib.Path(path))
    if not wanted:
        raise UserError(f"--users: {path} is empty; {MEND}")
    row_of = {name: row for row, name in enumerate(log.user_ids.astype(str).tolist())}
    rows: dict[int, None] = {}
    skipped: dict[str, str] = {}
    for name in wanted:
        row = row_of.get(name, row_of.get(name.strip()))
        if row is None:
            skipped[name] = _reason(name, row_of, log)
        else:
            rows[row] = None
    if not rows:
        raise UserError(
            f"--users: {path}: none of its {len(wanted):,} lines is a user of the data, the first is {wanted[0][:60]!r}; ids look like "
            f"{str(log.user_ids[0])!r}; {MEND}"
        )
    return Selection(np.array(list(rows)), list(skipped.items()))


def _ids(path: pathlib.Path) -> list[str]:
    """Lines that are not blank, without their ends, each once."""
    if path.suffix == ".parquet":
        return _column(path)
    text = read_text(path, MEND).replace("\r\n", "\n").replace("\r", "\n")
    return list(dict.fromkeys(line for line in text.split("\n") if line.strip()))


def _column(path: pathlib.Path) -> list[str]:
    try:
        values = pa.parquet.read_table(path, columns=["user"])["user"].to_pylist()
    except OSError as error:
        raise UserError(
            f"--users: {path}: not readable ({error.strerror or ' '.join(str(error).split())[:120]}); {MEND}"
        ) from error
    except (pa.ArrowException, KeyError) as error:
        raise UserError(
            f"--users: {path}: no column 'user' can be read ({' '.join(str(error).split())[:120]}); {MEND}"
        ) from error
    for row, value in enumerate(values, start=1):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise UserError(
                f"--users: {path}: row {row}: user {value!r}; expected whole numbers or text"
            )
    return list(dict.fromkeys(map(str, values)))


def _reason(name: str, row_of: dict[str, int], log: InteractionLog) -> str:
    stripped = name.strip()
    if (
        log.user_ids.dtype.kind == "i"
        and stripped.isascii()
        and stripped.isdigit()
        and len(stripped) < 20
        and str(int(stripped)) in row_of
    ):
        return f"no user of the data, whose ids are whole numbers; {int(stripped)} is one"
    return "no user of the data"
