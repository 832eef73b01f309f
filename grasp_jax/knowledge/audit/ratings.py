"""A filled sheet read back: the rate of hallucination by history group, with confidence intervals (the paper's Figure 1(c))."""

import csv
import dataclasses
import pathlib
import statistics
from collections.abc import Collection, Sequence
from typing import NamedTuple

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_text
from grasp_jax.knowledge.audit.groups import wilson
from grasp_jax.knowledge.audit.sheet import UNSUPPORTED

KINDS = ("items", "users")
MOST_DIGITS = 6  # of a number of claims


class Rating(NamedTuple):
    """One judged description: how many of its claims have no support."""

    kind: str
    group: str
    unsupported: int


@dataclasses.dataclass(frozen=True)
class RatedGroup:
    """Ratings of one history group.

    Attributes:
      kind: "items" or "users".
      group: label.
      rated: judged descriptions.
      hallucinated: those with a claim without support.
      rate, low, high: their share and its 95 % Wilson interval.
      claims: mean number of such claims.
    """

    kind: str
    group: str
    rated: int
    hallucinated: int
    rate: float
    low: float
    high: float
    claims: float


def read_ratings(path: pathlib.Path, labels: Collection[str]) -> list[Rating]:
    """The judged rows of a sheet, whatever separator and mark a spreadsheet has saved it with.

    Args:
      path: the sheet.
      labels: of history groups that the run knows.

    Raises:
      UserError: there is no such file, it has another encoding, a column is missing, a kind, group or number is not allowed, or no row is
        judged.
    """
    text = read_text(
        path,
        "--ratings takes a sheet that --mode=audit without it has written, saved as 'CSV UTF-8'",
    )
    first = text.split("\n", 1)[0]
    try:
        lines = list(
            csv.reader(text.splitlines(keepends=True), delimiter=max(",;\t", key=first.count))
        )
    except csv.Error as error:
        raise UserError(
            f"--ratings: {path}: not readable CSV ({error}); save the sheet as 'CSV UTF-8'"
        ) from error
    column = (
        {name.split(":")[0].strip(): place for place, name in enumerate(lines[0])} if lines else {}
    )
    for name in ("kind", "group", UNSUPPORTED):
        if name not in column:
            raise UserError(
                f"--ratings: {path}: no column {name!r}; expected the sheet of --mode=audit with its header line"
            )
    found = []
    for number, line in enumerate(lines[1:], start=2):
        if any(line):
            cells = {
                name: line[place].strip() if place < len(line) else ""
                for name, place in column.items()
            }
            if cells[UNSUPPORTED]:
                found.append(_rating(cells, f"--ratings: {path}: row {number}", labels))
    if not found:
        raise UserError(
            f"--ratings: {path}: nothing is judged; write numbers into the column {UNSUPPORTED!r}, 0 where all is supported"
        )
    return found


def _rating(cells: dict[str, str], where: str, labels: Collection[str]) -> Rating:
    if cells["kind"] not in KINDS:
        raise UserError(f"{where}: kind {cells['kind']!r}; expected one of {', '.join(KINDS)}")
    if cells["group"] not in labels:
        raise UserError(
            f"{where}: group {cells['group']!r}; expected one of {', '.join(labels)}; set config.knowledge.audit.history_groups as it was "
            "when the sheet was written"
        )
    number = cells[UNSUPPORTED]
    if not (number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS):
        raise UserError(
            f"{where}: {UNSUPPORTED} {number[:40]!r}; expected a whole number from 0, or nothing if it was not judged"
        )
    return Rating(cells["kind"], cells["group"], int(number))


def rated_groups(ratings: Sequence[Rating], labels: Sequence[str]) -> list[RatedGroup]:
    """Rates of every kind and group that has ratings, in the order of the labels."""
    made = []
    for kind in KINDS:
        for label in labels:
            own = [
                rating.unsupported
                for rating in ratings
                if (rating.kind, rating.group) == (kind, label)
            ]
            if own:
                hits = sum(count > 0 for count in own)
                low, high = wilson(hits, len(own))
                made.append(
                    RatedGroup(
                        kind,
                        label,
                        len(own),
                        hits,
                        hits / len(own),
                        low,
                        high,
                        statistics.fmean(own),
                    )
                )
    return made
