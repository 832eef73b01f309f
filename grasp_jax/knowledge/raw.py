"""From the rows of a bank back to the vectors that the encoder gave, by the lengths that were divided out of them."""

import pathlib

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.bank import KnowledgeBank
from grasp_jax.knowledge.encoders.geometry import row_lengths, shortened, unit_rows
from grasp_jax.knowledge.shards import read_shards

LENGTHS = "items_lengths"  # of the extras of a bank
OTHERWISE = "expected model.start_components='normalised'"


def item_lengths(
    shards: pathlib.Path, earlier_rows: np.ndarray, centre: np.ndarray, earlier: np.ndarray | None
) -> np.ndarray | None:
    """The lengths that were divided out of each item's vector; None if rows come from an earlier bank that did not store them.

    Args:
      shards: folder of the encoder's vectors, of the items that have no row in the earlier bank.
      earlier_rows: [V] row in the earlier bank, -1 for those items.
      centre: [E] taken out of unit rows.
      earlier: [rows, 2] lengths of the earlier bank, or None.

    Returns:
      [V, 2] float32 lengths of the vector, and of the vector made one long and less the centre.
    """
    if earlier is None and (earlier_rows >= 0).any():
        return None
    lengths, new, begin = (
        np.empty((len(earlier_rows), 2), np.float32),
        np.flatnonzero(earlier_rows < 0),
        0,
    )
    for vectors in read_shards(shards, "items"):
        lengths[new[begin : begin + len(vectors)]] = lengths_of(vectors, centre)
        begin += len(vectors)
    if earlier is not None:
        lengths[earlier_rows >= 0] = earlier[earlier_rows[earlier_rows >= 0]]
    return lengths


def lengths_of(vectors: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """[n, at least E] vectors -> [n, 2] the two lengths by which `geometry.to_rows` divides."""
    vectors = shortened(vectors, len(centre))
    both = [row_lengths(x) for x in (vectors, unit_rows(vectors) - centre)]
    return np.stack(both, axis=1)


def raw_item_vectors(bank: KnowledgeBank) -> np.ndarray:
    """[V, E] float32 item vectors as the encoder gave them, but for the rounding of the bank's type; cut where `reduction` cuts them.

    Raises:
      UserError: an earlier version made the bank, or its rows are projections.
    """
    if "basis" in bank.extras:
        raise UserError(
            "config.model.start_components: 'raw' with knowledge.reduction.kind='pca'; the bank's rows are "
            f"projections, from which the encoder's vectors cannot be recovered; {OTHERWISE}"
        )
    if LENGTHS not in bank.extras:
        raise UserError(
            "config.model.start_components: 'raw' with a knowledge bank that does not store the lengths of the encoder's vectors, because "
            f"an earlier version made it or the bank that it was made from; {OTHERWISE}, or prepare it again in another "
            "config.knowledge.path"
        )
    lengths = np.asarray(bank.extras[LENGTHS], np.float32)
    unit = np.asarray(bank.items, np.float32) * lengths[:, 1:] + bank.extras["items_centre"]
    raw: np.ndarray = unit * lengths[:, :1]
    return raw
