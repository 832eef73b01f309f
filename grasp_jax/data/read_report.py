"""What a reader did: the source of the summary that users check against what they meant (`data.summary`)."""

import dataclasses

import numpy as np

SAMPLED_ROWS = 3
MOST_OF_ID = 40  # characters of an id


@dataclasses.dataclass(frozen=True)
class ReadReport:
    """What a reader did.

    Attributes:
      files: what was read, each with its format.
      rows: interactions in the source, before any were left out.
      used: purpose and column, such as ("user", "user_id").
      ignored: columns that are not read, each with the reason where there is one.
      order: how the interactions of a user are ordered.
      sample: the first rows, user, item and time; ids are the only personal data.
      low_rated: rows left out for their rating.
      min_rating: the bound.
      without_text: items that the items table lacks.
      without_attributes: users that the users table lacks.
      notes: other decisions.
      text_ids: "user" and "item" where the source holds such ids as texts, though the log may hold them as numbers.
      left_out: of rows that cannot be used: what is wrong with them, how many they are, and where the first is.
      first_without_text: the lowest id of an item that the items table lacks.
    """

    files: tuple[str, ...] = ()
    rows: int = 0
    used: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    order: str = ""
    sample: tuple[str, ...] = ()
    low_rated: int = 0
    min_rating: float = 0.0
    without_text: int = 0
    without_attributes: int = 0
    notes: tuple[str, ...] = ()
    text_ids: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int, str], ...] = ()
    first_without_text: str = ""


def sample_rows(users: np.ndarray, items: np.ndarray, times: np.ndarray | None) -> tuple[str, ...]:
    """The first rows of a source as a summary shows them."""
    columns = [users, items] if times is None else [users, items, times]
    return tuple(
        ", ".join(str(column[row])[:MOST_OF_ID] for column in columns)
        for row in range(min(SAMPLED_ROWS, len(users)))
    )
