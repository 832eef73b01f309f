"""Updates a bank incrementally: only new or changed rows are encoded, and only the neighbours that they affect are searched.

The result equals a new bank with the centre of the earlier one (`config.knowledge.centre_from`), except for ties.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.bank import KnowledgeBank
from grasp_jax.knowledge.neighbours import NONE, labels_for_search
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
    """[rows] the row in the earlier bank of each id whose text is the same, -1 for the others.

    Args:
      old: the earlier bank.
      kind: "items" or "users".
      ids: [rows] the ids now.
      hashes: [rows, 2] of the texts now.

    Raises:
      UserError: the earlier bank has no ids or text hashes.
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
    unit_vectors: np.ndarray, k: int, earlier_rows: np.ndarray, old_neighbours: np.ndarray
) -> np.ndarray:
    """Exact [rows, K] neighbours, from those of the earlier bank; rows of zeros, which have no text, have none and are nobody's.

    Args:
      unit_vectors: [rows, E] now.
      k: K, that of the earlier bank.
      earlier_rows: [rows] the row in the earlier bank of an unchanged vector, -1 for a new one.
      old_neighbours: [rows of the earlier bank, K].
    """
    labels = labels_for_search(unit_vectors, None)
    text = labels != NONE
    earlier_rows = np.where(text, earlier_rows, NONE)  # an earlier version took them for neighbours
    new_row_of = np.full(len(old_neighbours) + 1, NONE, np.int32)  # the last one is that of `NONE`
    new_row_of[earlier_rows[earlier_rows >= 0]] = np.flatnonzero(earlier_rows >= 0)
    found = np.where(
        earlier_rows[:, None] >= 0, new_row_of[np.asarray(old_neighbours)[earlier_rows]], NONE
    ).astype(np.int32)
    # new rows, and rows that lost a neighbour
    searched_again = (found == NONE).any(axis=1) & text
    if searched_again.any():
        found[searched_again] = search_exact(
            unit_vectors, k, labels, rows=np.flatnonzero(searched_again)
        )
    new, rest = np.flatnonzero((earlier_rows < 0) & text), np.flatnonzero(~searched_again & text)
    # rows to which a new row is nearer than their farthest neighbour
    for start in range(0, len(rest), BLOCK) if len(new) else ():
        rows = rest[start : start + BLOCK]
        queries, ids = unit_vectors[rows].astype(np.float32), found[rows]
        scores = np.einsum("re,rke->rk", queries, unit_vectors[ids].astype(np.float32))
        for first in range(0, len(new), BLOCK):
            block = new[first : first + BLOCK]
            scores = np.concatenate(
                [scores, queries @ unit_vectors[block].astype(np.float32).T], axis=1
            )
            ids = np.concatenate([ids, np.broadcast_to(block, (len(rows), len(block)))], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores, ids = (
                np.take_along_axis(scores, order, axis=1),
                np.take_along_axis(ids, order, axis=1),
            )
        found[rows] = ids
    return found
