"""A table of interactions, from a file or a frame -> `InteractionLog`, and a report of how its columns were understood."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow.compute as pc

from grasp_jax.config import DataConfig
from grasp_jax.config.data import REFUSE, SKIP
from grasp_jax.core.errors import UserError
from grasp_jax.data.bad_rows import BadRows, LeftOut, NoValue, check_share, refuse_all, refused
from grasp_jax.data.columns import (
    Where,
    in_python,
    names_kinds,
    needed,
    rating_name,
    renamed,
    time_name,
)
from grasp_jax.data.delimited import refuse_data_as_header
from grasp_jax.data.dictionary import DictionaryColumn
from grasp_jax.data.encoded import Encoded
from grasp_jax.data.identifiers import encoded_ids, holds_text
from grasp_jax.data.log import InteractionLog, Origin, build_log
from grasp_jax.data.read_report import SAMPLED_ROWS, ReadReport, sample_rows
from grasp_jax.data.streamed import ID, NUMBER, TIME, Wanted
from grasp_jax.data.tables import SourceTable, is_text, number_column
from grasp_jax.data.ties import num_tied
from grasp_jax.data.time_values import Times
from grasp_jax.data.times import time_column

SETTING = "config.data.columns"
FIRST = 10_000  # rows
FEW = 31  # numbers, such as those of a flag, a count or the days of a month
TIED = 0.1  # share of the interactions at the very time of the same user's last one
Read = TypeVar("Read")


class Rows(NamedTuple):
    """The rows of a table of interactions, as read.

    Attributes:
      users, items: ids.
      times: None without a column of times.
      ratings: [rows] float64; None where they are not needed.
      notes: what was decided, in words for the user.
      text_ids: as `ReadReport` has it.
    """

    users: Encoded
    items: Encoded
    times: Times | None
    ratings: np.ndarray | None
    notes: tuple[str, ...]
    text_ids: tuple[str, ...]


def log_of_table(
    table: SourceTable, config: DataConfig, catalogue: np.ndarray | None = None
) -> tuple[InteractionLog, ReadReport]:
    """The log of a table with one interaction a row; arguments after the first and errors as of `read_interactions`."""
    columns, min_rating = config.columns.to_dict(), config.min_rating
    if table.is_delimited:
        refuse_data_as_header(table, (columns["user"], columns["item"]))
    used = columns_used(tuple(table.columns), columns, min_rating, table.path)
    if not table.num_rows:
        raise UserError(
            f"{table.path}: no interactions were read; expected at least one user-item row"
        )
    rows, left_out = readable_rows(table, used, min_rating, config.bad_rows)
    users, items, times = rows.users, rows.items, rows.times
    values = None if times is None else times.values
    kept, low_rated, num_low = None, None, 0
    first = users.decode(slice(SAMPLED_ROWS)), items.decode(slice(SAMPLED_ROWS))
    if rows.ratings is not None:
        liked = rows.ratings >= min_rating
        if not liked.any():
            raise UserError(
                f"{table.path}: no rating is as high as config.data.min_rating={min_rating:g}; the highest in column {used['rating']!r} is "
                f"{rows.ratings.max():g}; lower that field"
            )
        if not liked.all():
            kept, low = np.flatnonzero(liked), np.flatnonzero(~liked)
            low_rated, num_low = (users.select(low), items.select(low)), len(low)
            users, items = users.select(kept), items.select(kept)
            values = None if values is None else values[kept]
    origin = Origin(str(table.path), kept, left_out.rows)
    most = config.max_missing_text
    log = build_log(config.name, users, items, values, catalogue, low_rated, most, origin)
    if times is not None:
        log = dataclasses.replace(log, time_unit=times.unit)
    named = used["rating"] or columns.get("rating", "")
    rated = named if min_rating == 0 else ""  # a column that exists without effect
    return log, ReadReport(
        files=(f"{table.path} ({table.form})",),
        rows=table.num_rows,
        used=tuple(
            (purpose, column)
            for purpose, column in used.items()
            if column and not (rated and purpose == "rating")
        ),
        ignored=_ignored(table.columns, used, rated),
        order=_order_of_rows(table, columns)
        if times is None
        else f"by column {used['timestamp']!r}, {times.span()}",
        sample=sample_rows(*first, None if times is None else times.shown()),
        left_out=left_out.reasons,
        low_rated=num_low,
        min_rating=min_rating,
        text_ids=rows.text_ids,
        notes=(
            *table.notes,
            *renamed(used, columns),
            *_doubt_of_times(log, used["timestamp"], table.path),
            *rows.notes,
        ),
    )


def _doubt_of_times(log: InteractionLog, column: str | None, path: Where) -> list[str]:
    """A note where the column of times holds at most `FEW` numbers that leave much of a user's order open, as flags and years do.

    A number of the order, 1, 2, 3 in each user, has no ties, and so no note.
    """
    if column is None or log.timestamps is None or log.time_unit:
        return []
    # the first rows spare most columns the search in all
    for values in (log.timestamps[:FIRST], log.timestamps):
        if (count := len(np.unique(values))) > FEW:
            return []
    if (tied := num_tied(log)) < TIED * log.num_interactions:
        return []
    setting = f"{SETTING}.timestamp"
    empty = in_python(setting, "''") if isinstance(path, str) else f"{setting}=''"
    numbers = "one number" if count == 1 else f"{count} different numbers"
    return [
        f"column {column[:30]!r} holds {numbers}, so the order of {tied:,} interactions is open; name the column of times, or {empty} "
        "takes that of the rows"
    ]


def readable_rows(
    table: SourceTable, used: Mapping[str, str | None], min_rating: float, bad_rows: str
) -> tuple[Rows, LeftOut]:
    """The rows of a table that can be used.

    After rows are left out, the others are read again, so the result is that of a table that never had them.

    Args:
      table: with at least one row.
      used: purpose -> column; "timestamp" and "rating" may be missing.
      min_rating: as of `read_interactions`.
      bad_rows: what to do with rows that cannot be used, "refuse" or "skip".

    Raises:
      UserError: some rows cannot be used and are not to be left out, or they are too many.
    """
    read = ("user", "item", "timestamp", *(["rating"] if min_rating > 0 else []))
    names = {name for purpose in read if (name := used.get(purpose))}
    reasons: tuple[tuple[str, int, str], ...] = ()
    num_rows = table.num_rows
    while True:
        try:
            return _read_needed(table, used, min_rating), LeftOut(table.left_out, reasons)
        except BadRows as error:
            if table.is_delimited and _hold_line_breaks(table.select(error.rows, names), names):
                raise UserError(f"{error}; look for a quotation mark that is not closed") from error
            if bad_rows == REFUSE:
                raise _refusal(error, table, used, min_rating) from error
            place = table.place(int(error.rows.argmax()))
            reasons = (*reasons, (error.reason, int(error.rows.sum()), place))
            table = table.select(~error.rows, names)
            check_share(error, len(table.left_out), num_rows)


def _refusal(
    fault: BadRows, table: SourceTable, used: Mapping[str, str | None], min_rating: float
) -> UserError:
    """A fault of rows, with the advice to leave them out if the others can be read."""
    try:
        readable_rows(table, used, min_rating, SKIP)
    except UserError:
        return fault
    return refused(fault)


def _hold_line_breaks(table: SourceTable, names: Collection[str]) -> bool:
    """Whether a value of a CSV or TSV has a line break: after an open quotation mark many rows become one value, and must not be lost."""
    for name in names:
        values = table.columns[name]
        texts = values.values if isinstance(values, DictionaryColumn) else values
        if is_text(texts.type) and pc.any(pc.match_substring_regex(texts, "[\\r\\n]")).as_py():
            return True
    return False


def _read_needed(table: SourceTable, used: Mapping[str, str | None], min_rating: float) -> Rows:
    """All rows. One error names all columns that lack values; a fault of a whole column is raised before it.

    Raises:
      UserError: as in `log_of_table`.
    """
    lacking: list[NoValue] = []

    def unless_lacking(read: Callable[[], Read]) -> Read | None:
        try:
            return read()
        except NoValue as error:
            lacking.append(error)
        except BadRows:
            refuse_all(table.path, lacking)  # faults of the columns before this one come first
            raise
        return None

    notes: list[str] = []
    users = unless_lacking(lambda: encoded_ids(table, str(used["user"]), notes))
    items = unless_lacking(lambda: encoded_ids(table, str(used["item"]), notes))
    name, rating = used.get("timestamp"), used.get("rating")
    times = unless_lacking(lambda: time_column(table, name)) if name else None
    refuse_all(table.path, lacking)
    assert users is not None and items is not None
    ratings = number_column(table, rating) if rating and min_rating > 0 else None
    notes += [times.note] if times is not None and times.note else []
    kinds = tuple(kind for kind in ("user", "item") if holds_text(table, str(used[kind])))
    return Rows(users, items, times, ratings, tuple(notes), kinds)


def columns_wanted(columns: Mapping[str, str], min_rating: float) -> Wanted:
    """A function that chooses the columns that `log_of_table` needs; it chooses none if their names will be refused."""

    def wanted(names: tuple[str, ...]) -> dict[str, str]:
        try:
            used = columns_used(names, columns, min_rating, "")
        except UserError:
            return {}
        kinds = {"user": ID, "item": ID, "timestamp": TIME}
        kinds |= {"rating": NUMBER} if min_rating > 0 else {}
        found = {str(used[purpose]): kind for purpose, kind in kinds.items() if used[purpose]}
        return found if len(found) == sum(used[purpose] is not None for purpose in kinds) else {}

    return wanted


def columns_used(
    names: tuple[str, ...], columns: Mapping[str, str], min_rating: float, path: Where
) -> dict[str, str | None]:
    """Purpose -> the table's column, None if there is none."""
    return {
        "user": needed(names, columns["user"], f"{SETTING}.user", path),
        "item": needed(names, columns["item"], f"{SETTING}.item", path),
        "timestamp": time_name(names, columns.get("timestamp", ""), path),
        "rating": rating_name(names, columns.get("rating", ""), min_rating, path),
    }


def _ignored(names: Collection[str], used: Mapping[str, str | None], rated: str) -> tuple[str, ...]:
    """Columns without effect. Those that users may expect to decide which rows count come first, with a reason; `rated` is one of them if
    the table has it.
    """
    others = [column for column in names if column not in {*used.values(), rated}]
    kinds = [column for column in others if names_kinds(column)]
    of_ratings = (
        [f"{rated} (every rating counts: config.data.min_rating is 0)"] if rated in names else []
    )
    return (
        *(f"{column} (every row counts, whatever is in this column)" for column in kinds),
        *of_ratings,
        *(column for column in others if column not in kinds),
    )


def _order_of_rows(table: SourceTable, columns: Mapping[str, str]) -> str:
    reason = (
        "no time column" if columns.get("timestamp") else "config.data.columns.timestamp is empty"
    )
    return f"as in the {'frame' if isinstance(table.path, str) else 'file'} ({reason})"
