"""Users by their ids: those of a file that --users names, or of a list; and which of them are not in the data."""

import pathlib
from collections.abc import Hashable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_text
from grasp_jax.core.log import logger
from grasp_jax.core.words import one_line
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.id_text import trimmed
from grasp_jax.data.log import InteractionLog
from grasp_jax.serving.answers import Ids, Unknown, as_text, is_list, listed

EXPECTED = (
    "--users takes one user id per line, as UTF-8 text, or a .parquet file with a column 'user'"
)


class Selection(NamedTuple):
    """Users to recommend to.

    Attributes:
      rows: [n] rows of the known users, each once, in the order of the file.
      skipped: id and reason of the others.
    """

    rows: np.ndarray
    skipped: list[tuple[str, str]]


def read_users(path: str | None, log: InteractionLog) -> Selection:
    """Users listed in a file; all users for None. Each line is one id, because ids may contain blanks.

    Raises:
      UserError: the file is missing, cannot be read or is empty, or names no user of the data.
    """
    if path is None:
        return Selection(np.arange(log.num_users), [])
    wanted = _ids(pathlib.Path(path))
    if not wanted:
        raise UserError(f"--users: {path} is empty; {EXPECTED}")
    row_of = log.user_rows
    rows: dict[int, None] = {}
    skipped: dict[str, str] = {}
    for name in wanted:
        row = row_of.get(trimmed(name))
        if row is None:
            skipped[name] = _reason(name, row_of, log)
        else:
            rows[row] = None
    if not rows:
        raise UserError(
            f"--users: {path}: none of its {len(wanted):,} lines is a user of the data, the first is {wanted[0][:60]!r}; ids look like "
            f"{str(log.user_ids[0])!r}; {EXPECTED}"
        )
    return Selection(np.array(list(rows)), list(skipped.items()))


def _ids(path: pathlib.Path) -> list[str]:
    """Lines that are not blank, without their ends, each once."""
    if path.suffix == ".parquet":
        return _column(path)
    text = read_text(path, EXPECTED).replace("\r\n", "\n").replace("\r", "\n")
    return list(dict.fromkeys(line for line in text.split("\n") if trimmed(line)))


def _column(path: pathlib.Path) -> list[str]:
    try:
        values = pa.parquet.read_table(path, columns=["user"])["user"].to_pylist()
    except OSError as error:
        raise UserError(
            f"--users: {path}: not readable ({error.strerror or one_line(error, 120)}); {EXPECTED}"
        ) from error
    except (pa.ArrowException, KeyError) as error:
        raise UserError(
            f"--users: {path}: no column 'user' can be read ({one_line(error, 120)}); {EXPECTED}"
        ) from error
    for row, value in enumerate(values, start=1):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise UserError(
                f"--users: {path}: row {row}: user {value!r}; expected whole numbers or text"
            )
    return list(dict.fromkeys(map(str, values)))


def _reason(name: str, row_of: dict[str, int], log: InteractionLog) -> str:
    stripped = trimmed(name)
    if (
        log.user_ids.dtype.kind == "i"
        and stripped.isascii()
        and stripped.isdigit()
        and len(stripped) < 20
        and str(int(stripped)) in row_of
    ):
        return f"not a user of the data, whose ids are whole numbers; {int(stripped)} is one"
    return "not a user of the data"


def users_of_data(
    dataset: Dataset, users: Ids | None, unknown: Unknown
) -> tuple[np.ndarray, np.ndarray]:
    """The users of a list, each once, and the row of each in the data (-1 for a user who is not in the data).

    Raises:
      UserError: the value is not a list of ids, or an id is not known and `unknown` is "error".
    """
    if users is None:
        return dataset.user_ids, np.arange(dataset.log.num_users)
    users = list(users) if isinstance(users, Iterator) else users
    if not is_list(users):
        raise UserError(f"users: {users!r}; expected a list of user ids")
    given = listed(users)
    if nested := [name for name in given if is_list(name)]:
        raise UserError(
            f"users: {nested[0]!r} in the list; expected ids of users; lists of items are given as histories="
        )
    by_text: dict[str, Hashable] = {}
    for name in given:
        by_text.setdefault(as_text(name), name)
    unique = list(by_text.values())
    if len(unique) < len(given):
        logger.warning(
            f"{len(given) - len(unique):,} of {len(given):,} users are repeated in the list and are answered once"
        )
    rows = np.array([dataset.log.user_rows.get(text, -1) for text in by_text], np.int64)
    if (rows < 0).any():
        first = unique[int(np.flatnonzero(rows < 0)[0])]
        if unknown == "error":
            raise UserError(
                f"users: {first!r} is not a user of the data; ids look like {dataset.user_ids[0].item()!r}; leave it out"
            )
        logger.warning(
            f"{(rows < 0).sum():,} of {len(unique):,} users are not known, {first!r} the first"
        )
    return np.array(
        unique, dtype=object if len({type(name) for name in unique}) > 1 else None
    ), rows
