"""The company that items keep: what is bought next to them in training, and the text of that.

It tells of an item with a poor or wrong text what kind of item it is, and of a rare one what little training knows, in the terms of the
text: one step of the graph convolution of LightGCN (arXiv 2002.02126) over texts in place of trained vectors.
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
    starts, ends = split.log.offsets[:-1], split.train.end
    users = np.repeat(np.arange(len(starts)), split.log.lengths)
    place = np.arange(split.log.num_interactions)
    in_training = place < ends[users]
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
    found = near @ text
    found = found + SECOND_HOP * (near @ found)
    there = max(int((np.abs(found).max(axis=1) > 0).sum()), 1)
    mean = np.sqrt((found**2).sum() / there)
    scaled: np.ndarray = (found * (length / max(mean, 1e-12))).astype(np.float32)
    return scaled


def company_without_own(rows: np.ndarray, near: sparse.csr_matrix) -> np.ndarray:
    """[V, E] directions of the same texts without the item's own text, so that they can be used to judge this text.

    Args:
      rows: [V, E] texts.
      near: [V, V] from `companions`.
    """
    first = near @ rows
    returned = np.asarray(near.multiply(near).sum(axis=1)).ravel()
    company = first + SECOND_HOP * (near @ first - returned[:, None] * rows)
    return unit_rows(company)
