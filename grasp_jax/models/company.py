"""Companions of an item: the items that are bought next to it in training. The text of its company is a sum of their text vectors.

This text shows what kind of item an item with a poor or wrong text is. For a rare item it expresses the little that training knows of it
in the vector space of texts. It is one step of the graph convolution of LightGCN (arXiv 2002.02126) on text vectors instead of trained
ones.
"""

import numpy as np
from scipy import sparse

from grasp_jax.data.split import Split
from grasp_jax.knowledge.encoders.geometry import unit_rows

# Two items of a history are companions if at most so many places apart; a pair with distance d counts 1 / d.
WINDOW = 3
# Weight of the companions' companions. For items that were bought only once, most of the information comes from these.
SECOND_HOP = 2.0


def companions(split: Split) -> sparse.csr_matrix:
    """[V, V] symmetric weights of items that occur near each other in training histories, each divided by the root of both items' sums."""
    ends = split.train.end
    users = np.repeat(np.arange(len(ends)), split.log.lengths)
    in_training = np.arange(split.log.num_interactions) < ends[users]
    pairs = []
    for distance in range(1, WINDOW + 1):
        first = np.flatnonzero(in_training[distance:] & (users[distance:] == users[:-distance]))
        pair = split.log.items[first], split.log.items[first + distance]
        different = pair[0] != pair[1]
        pairs.append(
            (pair[0][different], pair[1][different], np.full(different.sum(), 1.0 / distance))
        )
    row, column, weight = (np.concatenate(part) for part in zip(*pairs, strict=True))
    shape = split.log.num_items, split.log.num_items
    near = sparse.csr_matrix((weight, (row, column)), shape=shape)
    near = (near + near.T).tocsr()
    degree = np.asarray(near.sum(axis=1)).ravel()
    root = sparse.diags(1.0 / np.sqrt(np.maximum(degree, 1e-12)))
    scaled: sparse.csr_matrix = (root @ near @ root).tocsr()
    return scaled


def company_text(text: np.ndarray, near: sparse.csr_matrix, length: float) -> np.ndarray:
    """[V, E] float32 sums of the texts of the companions and, with weight `SECOND_HOP`, of their companions, with the item itself.

    Args:
      text: [V, E].
      near: [V, V] from `companions`.
      length: root mean square length of the rows that are returned; zeros do not count.
    """
    sums = near @ text
    sums = sums + SECOND_HOP * (near @ sums)
    num_nonzero = max(int((np.abs(sums).max(axis=1) > 0).sum()), 1)
    rms = np.sqrt((sums**2).sum() / num_nonzero)
    scaled: np.ndarray = (sums * (length / max(rms, 1e-12))).astype(np.float32)
    return scaled


def company_without_own(rows: np.ndarray, near: sparse.csr_matrix) -> np.ndarray:
    """[V, E] directions of the same texts without the item's own text, so that they can be used to judge this text.

    Args:
      rows: [V, E] texts.
      near: [V, V] from `companions`.
    """
    first_hop = near @ rows
    # the diagonal of near @ near
    back_to_itself = np.asarray(near.multiply(near).sum(axis=1)).ravel()
    company = first_hop + SECOND_HOP * (near @ first_hop - back_to_itself[:, None] * rows)
    return unit_rows(company)
