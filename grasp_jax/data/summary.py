"""What was read and how it was understood, in a few lines that users can check against what they meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from grasp_jax.data.columns import some_of
from grasp_jax.data.split import LEAVE_ONE_OUT, MIN_EVALUATED_LENGTH

if TYPE_CHECKING:  # a dataset has a report
    from grasp_jax.data.dataset import Dataset

SAMPLED_ROWS = 3
MOST_LINES = 15
MOST_CHARACTERS = 200  # of a line
MOST_OF_ID = 40  # characters of an id
MOST_BAD = 4  # lines on rows that were left out


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


def summary_lines(dataset: Dataset, include_short_users: bool = False) -> list[str]:
    """At most 15 lines: what was read, which columns for what, in which order, and what was left out.

    The sample rows show ids and times of users, and nothing else that is personal.
    """
    report, log = dataset.report, dataset.log
    bought = np.bincount(log.items, minlength=log.num_items) > 0
    shortest = MIN_EVALUATED_LENGTH - 1 if include_short_users else MIN_EVALUATED_LENGTH
    by_length = dataset.data.split == LEAVE_ONE_OUT  # whom another split evaluates, it says itself
    short = int((log.lengths < shortest).sum()) if by_length else 0
    lines = [f"read: {file}" for file in report.files]
    lines.append(
        f"  {report.rows or log.num_interactions:,} rows: {log.num_users:,} users, {log.num_items:,} items"
    )
    if report.used:
        lines.append(
            "  columns: " + ", ".join(f"{purpose} is {column!r}" for purpose, column in report.used)
        )
    if report.ignored:
        lines.append("  not read: " + some_of(report.ignored))
    lines.append(f"  order: {report.order}")
    if report.sample:
        lines.append("  first rows (user, item, time): " + "; ".join(report.sample))
    lines += _within(MOST_BAD, "left out", reasons_in_words(report.left_out, report.rows))
    if report.min_rating > 0:
        lines.append(
            f"  left out: {report.low_rated:,} rows rated below {report.min_rating:g}; their items still count as seen"
        )
    empty = int((~bought).sum())
    lacking = report.first_without_text[:MOST_OF_ID]
    fewer = f"fewer than {shortest} interactions: not tested (training needs 2)"
    for count, one, more in (
        (empty, "item was never bought", "items were never bought"),
        (
            report.without_text,
            f"item is not in the items table and has no text: {lacking}",
            f"items are not in the items table and have no text; the first is {lacking}",
        ),
        (
            report.without_attributes,
            "user is not in the users table and has no attributes",
            "users are not in the users table and have no attributes",
        ),
        (short, f"user has {fewer}", f"users have {fewer}"),
    ):
        if count:
            lines.append(f"  {count:,} {one if count == 1 else more}")
    lines += _within(MOST_LINES - len(lines), "note", report.notes)
    return [_cut(line) for line in lines]


def reasons_in_words(reasons: Sequence[tuple[str, int, str]], rows: int) -> list[str]:
    """What is wrong with some of so many rows, a text for each of `ReadReport.left_out`."""
    return [
        f"{count:,} of {rows:,} rows, {what}; the first is {place}"
        for what, count, place in reasons
    ]


def sample_rows(users: np.ndarray, items: np.ndarray, times: np.ndarray | None) -> tuple[str, ...]:
    """The first rows of a source as a summary shows them."""
    columns = [users, items] if times is None else [users, items, times]
    return tuple(
        ", ".join(str(column[row])[:MOST_OF_ID] for column in columns)
        for row in range(min(SAMPLED_ROWS, len(users)))
    )


def _within(max_lines: int, label: str, notes: Sequence[str]) -> list[str]:
    """A line for each note, in at most `max_lines` lines: the last one joins the notes that remain."""
    if max_lines <= 0:
        return []
    if len(notes) > max_lines:
        notes = [*notes[: max_lines - 1], "; ".join(notes[max_lines - 1 :])]
    return [f"  {label}: {line}" for line in notes]


def _cut(line: str) -> str:
    """A line of at most `MOST_CHARACTERS`, which shows where it was cut."""
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 4] + " ..."
