"""Histories of random items, the same for this package and for a rival; it needs only NumPy."""

import numpy as np


def histories_of(num_items: int, users: int, length: int) -> list[np.ndarray]:
    """Item rows of each user: 2 to `length` different ones."""
    rng = np.random.default_rng(1)
    return [np.unique(rng.integers(0, num_items, n)) for n in rng.integers(4, length + 1, users)]
