"""The geometry of a bank's vectors: lengths, cosines of random pairs and of neighbours. Tables are read in blocks or at sampled rows."""

from typing import NamedTuple

import numpy as np

from grasp_jax.knowledge.audit.groups import sampled
from grasp_jax.knowledge.neighbours import NONE

BLOCK = 1024


class Norms(NamedTuple):
    """Lengths of all rows, and how many are zero: rows without a vector."""

    smallest: float
    mean: float
    largest: float
    zero_rows: int


class Cosines(NamedTuple):
    """[pairs] or [rows] float32 each.

    Attributes:
      before: of random pairs of rows, with the centre put back; None where no centre was taken out, or it cannot be put back.
      after: of the same pairs as the bank has them.
      nearest: of sampled rows and their nearest neighbour.
    """

    before: np.ndarray | None
    after: np.ndarray
    nearest: np.ndarray


def norms(table: np.ndarray) -> Norms:
    """Lengths of the rows of a [rows, E] table."""
    blocks = range(0, len(table), BLOCK)
    lengths = np.concatenate(
        [
            np.linalg.norm(table[start : start + BLOCK].astype(np.float32), axis=1)
            for start in blocks
        ]
    )
    return Norms(
        float(lengths.min()),
        float(lengths.mean(dtype=np.float64)),
        float(lengths.max()),
        int((lengths == 0).sum()),
    )


def cosines(
    table: np.ndarray,
    centre: np.ndarray | None,
    neighbours: np.ndarray | None,
    pairs: int,
    seed: int,
) -> Cosines:
    """Cosines of a bank's rows; the mean over random pairs is the anisotropy, 0 for directions that share nothing.

    Args:
      table: [rows, E] of unit length, or zero: those are left out.
      centre: [E] what was taken out of unit rows before they were made one long again.
      neighbours: [rows, K], nearest first.
      pairs: how many to draw.
      seed: of the draw.
    """
    rng = np.random.default_rng([seed, len(table)])
    first = rng.integers(len(table), size=pairs)
    second = (first + rng.integers(1, len(table), size=pairs)) % len(table)
    put_back = centre is not None and bool(np.any(centre))
    before, after = [], []
    for start in range(0, pairs, BLOCK):
        rows = [table[ids[start : start + BLOCK]].astype(np.float32) for ids in (first, second)]
        nonzero = rows[0].any(axis=1) & rows[1].any(axis=1)
        rows = [own[nonzero] for own in rows]
        after.append(np.einsum("pe,pe->p", *rows))
        if put_back:
            before.append(
                np.einsum("pe,pe->p", *(uncentred(own, np.asarray(centre)) for own in rows))
            )
    nearest = np.empty(0, np.float32)
    if neighbours is not None:
        rows_drawn = sampled(np.flatnonzero(neighbours[:, 0] != NONE), pairs, seed)
        # a row without a vector is near to nothing
        rows_drawn = rows_drawn[[bool(np.any(table[row])) for row in rows_drawn]]
        nearest = neighbour_cosines(table, neighbours[rows_drawn, :1], rows_drawn)[:, 0]
    return Cosines(np.concatenate(before) if before else None, np.concatenate(after), nearest)


def uncentred(rows: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """[rows, E] the unit vectors that `geometry.to_rows` took the centre out of.

    A row r represents a unit vector u with u - c = a r and a > 0. So a^2 + 2 a (r.c) + |c|^2 = 1, which has exactly one such root because
    |c| < 1.
    """
    along = rows @ centre
    scale = np.sqrt(along**2 + np.maximum(1 - centre @ centre, 0)) - along
    return np.asarray(scale[:, None] * rows + centre)


def neighbour_cosines(table: np.ndarray, neighbours: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[queries, K] float32 cosines of rows and their [queries, K] neighbours, -1 for `NONE`."""
    found = np.empty(neighbours.shape, np.float32)
    step = max(1, BLOCK // neighbours.shape[1])
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        own, near = (
            table[rows[block]].astype(np.float32),
            table[np.maximum(neighbours[block], 0)].astype(np.float32),
        )
        found[block] = np.einsum("qe,qke->qk", own, near)
    return np.where(neighbours == NONE, np.float32(-1), found)
