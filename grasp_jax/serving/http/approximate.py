"""Approximate search: ScaNN finds items that may be the best ones, and their scores are exact inner products in float32."""

import dataclasses
from typing import Any

import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.knowledge.neighbours.search_scann import build, import_scann, leaves_of
from grasp_jax.serving.answers import Answer

FOUND = 10  # items that are compared with a vector for each item of an answer
ALONE = 4  # people up to whom one core searches; more are shared out
SPARE = 32  # items asked for beyond those of an answer, for some may be removed meanwhile


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """An index over the first rows of a catalogue.

    Attributes:
      searcher: of ScaNN.
      rows: how many rows it holds; later ones are compared one by one.
      leaves: parts of the catalogue that a search looks into.
      recall: share of the best items that it was measured to find; nan before.
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
        served: np.ndarray,
        left_out: list[np.ndarray],
        pool: int,
    ) -> list[Answer] | None:
        """The best items of people.

        Args:
          states: [n, D] float32.
          vectors: [C, D] float32 of all rows, of which those up to `len(served)` are read.
          served: [V] bool rows that may be recommended, the new ones behind those of the index.
          left_out: item rows that each person does not want.
          pool: items for each person.

        Returns:
          Answers of `pool` items; None where somebody would get fewer, for the exact search may find more.
        """
        wanted = min(pool + max(map(len, left_out)) + SPARE, self.rows)
        search = self.searcher.search_batched
        if len(states) > ALONE:
            search = self.searcher.search_batched_parallel
        rows, scores = search(
            states,
            final_num_neighbors=wanted,
            pre_reorder_num_neighbors=min(FOUND * wanted, self.rows),
            leaves_to_search=self.leaves,
        )
        rows, scores = rows.astype(np.int64), np.array(scores, np.float32)
        if self.rows < len(served):
            new = np.arange(self.rows, len(served))
            rows = np.concatenate([rows, np.broadcast_to(new, (len(states), len(new)))], axis=1)
            scores = np.concatenate([scores, states @ vectors[new].T], axis=1)
        scores[np.isnan(scores) | ~served[rows]] = -np.inf  # ScaNN fills up with nan and row 0
        for line, own, unwanted in zip(scores, rows, left_out, strict=True):
            line[np.isin(own, unwanted)] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :pool]
        rows, scores = (np.take_along_axis(own, order, axis=1) for own in (rows, scores))
        if scores.shape[1] < pool or (scores == -np.inf).any():
            return None
        return [Answer(own.astype(np.int32), best) for own, best in zip(rows, scores, strict=True)]


def check_approximate() -> None:
    """Raises UserError where ScaNN is not installed."""
    try:
        import_scann()
    except UserError as error:
        raise UserError(
            "--approximate: the Python package scann is missing, which exists for Linux on x86 alone; pip install scann, or leave the flag "
            "out: exact search needs nothing"
        ) from error
