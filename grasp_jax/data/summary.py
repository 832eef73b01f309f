"""What was read and how it was understood, in a few lines that users can check against what they meant."""

from collections.abc import Sequence

import numpy as np

from grasp_jax.config import DataConfig
from grasp_jax.core.words import first_of
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.read_report import MOST_OF_ID, ReadReport
from grasp_jax.data.split import LEAVE_ONE_OUT, MIN_EVALUATED_LENGTH

MOST_LINES = 15
MOST_CHARACTERS = 200  # of a line
MOST_BAD = 4  # lines on rows that were left out


def summary_lines(
    report: ReadReport,
    log: InteractionLog,
    data: DataConfig,
    include_short_users: bool,
    listed_only: bool,
) -> list[str]:
    """At most 15 lines: what was read, which columns for what, in which order, and what was left out.

    The sample rows show ids and times of users, and nothing else that is personal.

    Args:
      report: of the reading.
      log: the interactions.
      data: how they were read and are split.
      include_short_users: whether users with two interactions are tested.
      listed_only: whether items that the items table lacks are kept from being recommended.
    """
    bought = np.bincount(log.items, minlength=log.num_items) > 0
    shortest = MIN_EVALUATED_LENGTH - 1 if include_short_users else MIN_EVALUATED_LENGTH
    by_length = data.split == LEAVE_ONE_OUT  # whom another split evaluates, it says itself
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
        lines.append("  not read: " + first_of(report.ignored))
    lines.append(f"  order: {report.order}")
    if report.sample:
        lines.append("  first rows (user, item, time): " + "; ".join(report.sample))
    lines += _within(MOST_BAD, "left out", reasons_in_words(report.left_out, report.rows))
    if report.min_rating > 0:
        lines.append(
            f"  left out: {report.low_rated:,} rows rated below {report.min_rating:g}; their items still count as seen"
        )
    empty = int((~bought).sum())
    still = (
        "not recommended (config.recommend.listed_only)"
        if listed_only
        else "recommended unless config.recommend.listed_only=True"
    )
    allowed, limit = int(data.max_missing_text * log.num_items), ""
    if (
        2 * report.without_text > allowed
    ):  # said before a shop that removes items every day is refused
        limit = f", and config.data.max_missing_text={data.max_missing_text:g} allows {allowed:,}"
    lacking = report.first_without_text[:MOST_OF_ID]
    fewer = f"fewer than {shortest} interactions: not tested (training needs 2)"
    for count, one, more in (
        (empty, "item was never bought", "items were never bought"),
        (
            report.without_text,
            f"item is not in the items table: it has no text, and is {still}{limit}: {lacking}",
            f"items are not in the items table: they have no text, and are {still}{limit}; the first is {lacking}",
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
