"""Approximate search: ScaNN finds items that may be the best ones, and their scores are exact inner products in float32."""

import dataclasses
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.neighbours.search_scann import build, import_scann, leaves_of
from grasp_jax.serving.answers import Answer

RESCORED = 10  # items whose exact scores are computed, for each item of an answer
ON_ONE_CORE = (
    4  # largest batch that is searched on one core; a larger one is distributed over all cores
)
SPARE = 32  # additional items of a search, because some may be removed meanwhile


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """An index over the first rows of a catalogue.

    Attributes:
      searcher: of ScaNN.
      rows: the number of rows in the index; later rows are scored one by one.
      leaves: number of parts of the catalogue that a search reads.
      recall: measured share of the best items that a search finds; nan before the measurement.
    """

    searcher: Any
    rows: int
    leaves: int
    recall: float = float("nan")

    @classmethod
    def over(cls, vectors: np.ndarray, pool: int) -> "Index":
        """An index over vectors [V, D] float32, for answers of `pool` items."""
        rows = len(vectors)
        return cls(build(vectors, pool), rows, leaves_of(rows)[1])

    def answer(
        self,
        states: np.ndarray,
        vectors: np.ndarray,
        available: np.ndarray,
        excluded: list[np.ndarray],
        pool: int,
    ) -> list[Answer] | None:
        """The best items of people.

        Args:
          states: [n, D] float32.
          vectors: [C, D] float32 of all rows; only the first `len(available)` are read.
          available: [V] bool rows that may be recommended; new rows follow those of the index.
          excluded: item rows that are excluded for each person.
          pool: items for each person.

        Returns:
          Answers of `pool` items; None if a person would get fewer, because the exact search may find more.
        """
        count = min(pool + max(map(len, excluded)) + SPARE, self.rows)
        search = self.searcher.search_batched
        if len(states) > ON_ONE_CORE:
            search = self.searcher.search_batched_parallel
        rows, scores = search(
            states,
            final_num_neighbors=count,
            pre_reorder_num_neighbors=min(RESCORED * count, self.rows),
            leaves_to_search=self.leaves,
        )
        rows, scores = rows.astype(np.int64), np.array(scores, np.float32)
        if self.rows < len(available):
            new = np.arange(self.rows, len(available))
            rows = np.concatenate([rows, np.broadcast_to(new, (len(states), len(new)))], axis=1)
            scores = np.concatenate([scores, states @ vectors[new].T], axis=1)
        # ScaNN pads its results with nan and row 0
        scores[np.isnan(scores) | ~available[rows]] = -np.inf
        for own_scores, own_rows, own_excluded in zip(scores, rows, excluded, strict=True):
            own_scores[np.isin(own_rows, own_excluded)] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :pool]
        rows, scores = (np.take_along_axis(array, order, axis=1) for array in (rows, scores))
        if scores.shape[1] < pool or (scores == -np.inf).any():
            return None
        return [Answer(*own) for own in zip(rows.astype(np.int32), scores, strict=True)]


def check_approximate() -> None:
    """Raises UserError if ScaNN is not installed."""
    try:
        import_scann()
    except UserError as error:
        raise UserError(
            "--approximate: the Python package scann is missing, which exists for Linux on x86 alone; pip install scann, or leave the flag "
            "out: exact search needs nothing"
        ) from error
