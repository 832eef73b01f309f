"""Groups by the length of the training history, as in the paper's Figure 1(c), and samples of each."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z = 1.959963984540054  # of a two-sided 95 % interval


class HistoryGroups(NamedTuple):
    """The group of each row.

    Attributes:
      labels: of the groups, shortest histories first, such as "3 to 4" (a spreadsheet would make a date of 3-4).
      of_rows: [rows] int, index into `labels`.
    """

    labels: list[str]
    of_rows: np.ndarray

    def occupied(self) -> list[tuple[str, np.ndarray]]:
        """(label, rows ascending) of the groups that have rows."""
        groups = [
            (label, np.flatnonzero(self.of_rows == group))
            for group, label in enumerate(self.labels)
        ]
        return [(label, rows) for label, rows in groups if len(rows)]


def history_groups(lengths: np.ndarray, starts: Sequence[int]) -> HistoryGroups:
    """Groups of [rows] lengths: below the first start, from each start to below the next, and from the last one on.

    Args:
      lengths: [rows] int: training interactions of each user, or of each item.
      starts: where groups begin, ascending from 1.
    """
    edges = (0, *starts)
    labels = [
        str(low) if high == low + 1 else f"{low} to {high - 1}"
        for low, high in itertools.pairwise(edges)
    ]
    return HistoryGroups(
        [*labels, f"{edges[-1]} or more"],
        np.searchsorted(np.array(edges), lengths, side="right") - 1,
    )


def sampled(rows: np.ndarray, count: int, *seed: int) -> np.ndarray:
    """At most `count` of the rows, ascending; the same for the same seed."""
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927), which stays within 0 and 1 and holds for few trials; (0, 1) for none."""
    if not trials:
        return 0.0, 1.0
    share, weight = hits / trials, Z * Z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)
