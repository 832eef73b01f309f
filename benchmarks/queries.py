"""The rows of a table whose neighbours are searched: one function, so that all processes of `benchmarks.retrieval` use the same rows."""

import numpy as np


def sample_rows(rows: int, count: int) -> np.ndarray:
    """[count] ascending row numbers, drawn without replacement; all rows if `count` is `rows`."""
    return np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
