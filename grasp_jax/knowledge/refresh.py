"""A bank of today from a bank of yesterday: only what is new or changed is encoded, and only neighbours that it touches are searched.

The result equals a new bank with yesterday's centre (`config.knowledge.centre_from`), except for ties; unchanged rows are kept.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.knowledge.bank import KnowledgeBank
from grasp_jax.knowledge.neighbours.search_exact import search_exact

BLOCK = 4096


def text_hashes(texts: Sequence[str]) -> np.ndarray:
    """[rows, 2] uint64."""
    hashes = np.empty((len(texts), 2), np.uint64)
    for row, text in enumerate(texts):
        digest = hashlib.sha256(text.encode("utf-8", errors="replace")).digest()
        hashes[row] = np.frombuffer(digest, np.uint64, 2)
    return hashes


def unchanged_rows(
    old: KnowledgeBank, kind: str, ids: np.ndarray, hashes: np.ndarray
) -> np.ndarray:
    """[rows] yesterday's row of each of today's ids whose text is the same, -1 for the others.

    Args:
      old: yesterday's bank.
      kind: "items" or "users".
      ids: [rows] today's ids.
      hashes: [rows, 2] of today's texts.

    Raises:
      UserError: yesterday's bank does not say what it was made from.
    """
    if f"{kind}_ids" not in old.extras or f"{kind}_texts" not in old.extras:
        raise UserError(
            f"--since: that bank holds no ids and text hashes of {kind}; it was made from files, or by an older "
            "version; prepare without --since"
        )
    row_of = {name: row for row, name in enumerate(old.extras[f"{kind}_ids"].tolist())}
    rows = np.array([row_of.get(name, -1) for name in ids.astype(str).tolist()], np.int64)
    same = (rows >= 0) & (np.asarray(old.extras[f"{kind}_texts"])[rows] == hashes).all(axis=1)
    return np.where(same, rows, -1)


def refreshed_neighbours(
    unit_vectors: np.ndarray, k: int, kept: np.ndarray, old_neighbours: np.ndarray
) -> np.ndarray:
    """Exact [rows, K] neighbours of today, from those of yesterday.

    Args:
      unit_vectors: [rows, E] of today.
      k: K, that of yesterday.
      kept: [rows] yesterday's row of an unchanged vector, -1 for a new one.
      old_neighbours: [yesterday's rows, K].
    """
    today = np.full(len(old_neighbours), -1, np.int32)
    today[kept[kept >= 0]] = np.flatnonzero(kept >= 0)
    found = np.where(kept[:, None] >= 0, today[np.asarray(old_neighbours)[kept]], -1).astype(
        np.int32
    )
    searched_again = (found < 0).any(axis=1)  # new rows, and those who lost a neighbour
    if searched_again.any():
        labels = np.arange(len(unit_vectors), dtype=np.int32)
        found[searched_again] = search_exact(
            unit_vectors, k, labels, rows=np.flatnonzero(searched_again)
        )
    new, rest = np.flatnonzero(kept < 0), np.flatnonzero(~searched_again)
    for start in (
        range(0, len(rest), BLOCK) if len(new) else ()
    ):  # whoever a new row is nearer to than the farthest neighbour
        rows = rest[start : start + BLOCK]
        queries, ids = unit_vectors[rows].astype(np.float32), found[rows]
        scores = np.einsum("re,rke->rk", queries, unit_vectors[ids].astype(np.float32))
        for first in range(0, len(new), BLOCK):
            some = new[first : first + BLOCK]
            scores = np.concatenate(
                [scores, queries @ unit_vectors[some].astype(np.float32).T], axis=1
            )
            ids = np.concatenate([ids, np.broadcast_to(some, (len(rows), len(some)))], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores, ids = (
                np.take_along_axis(scores, order, axis=1),
                np.take_along_axis(ids, order, axis=1),
            )
        found[rows] = ids
    return found
