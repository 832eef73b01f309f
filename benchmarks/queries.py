"""Which rows of a table are searched for: one function for the processes of `benchmarks.retrieval`, which must agree."""

import numpy as np


def sample_rows(rows: int, count: int) -> np.ndarray:
    """[count] ascending row numbers, drawn without replacement; all of them where `count` is `rows`."""
    return np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
