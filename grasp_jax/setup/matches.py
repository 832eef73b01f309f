"""Which tables of a folder may be those of the items or users: those that have ids of the interactions."""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.data.identifiers import MISSING_SPELLINGS, id_column
from grasp_jax.data.tables import SourceTable, values_of
from grasp_jax.setup import names
from grasp_jax.setup.sample import Sample


class Match(NamedTuple):
    """A table that may be that of the items or users: its column `id` contains `share` of the ids in a `column` of the interactions."""

    share: float
    table: Sample
    id: str
    column: str


def matches_of(
    interactions: Sample, columns: Sequence[str], rest: Sequence[Sample], wanted: Sequence[str]
) -> list[Match]:
    """The tables that have ids of the interactions.

    Args:
      interactions: their table.
      columns: those of its columns that may hold the ids.
      rest: the other tables.
      wanted: names of columns of ids.
    """
    found = [
        Match(_share(interactions, column, table, name), table, name, column)
        for table in rest
        for name in names.found(table.names, wanted)
        for column in columns
    ]
    return [match for match in found if match.share > 0]


def is_of_users(log: Sample, user_column: str, match: Match) -> bool:
    """Whether more of a table's ids are users than items; small numbers may be both."""
    users, items = (
        _share(match.table, match.id, log, column) for column in (user_column, match.column)
    )
    return users > items


def empty_rows(table: SourceTable, name: str) -> int:
    """The number of rows without an id in a column, or with a spelling of a missing value, such as `NA`."""
    try:
        values = values_of(table, name)
    except UserError:
        return 0  # a run will name the fault
    return sum(
        value is None or (isinstance(value, str) and value.strip().casefold() in MISSING_SPELLINGS)
        for value in values
    )


def _share(first: Sample, name: str, second: Sample, column: str) -> float:
    """Share of the ids in a column of `first` that are also in a column of `second`; compared as texts, as the type may differ."""
    ids, other_ids = _ids(first.table, name), _ids(second.table, column)
    return float(np.isin(ids, other_ids).mean()) if len(ids) else 0.0


def _ids(table: SourceTable, name: str) -> np.ndarray:
    """[ids] str, the distinct ids of a column; rows that a run will refuse are ignored."""
    with contextlib.suppress(UserError):
        return np.unique(id_column(table, name, []).astype(str))
    with contextlib.suppress(UserError):
        texts = [str(value).strip() for value in values_of(table, name) if value is not None]
        return np.unique([text for text in texts if text])
    return np.empty(0, str)
