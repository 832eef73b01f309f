"""Synthetic text vectors in any number, with a spectrum like that of real ones, and about as hard to search."""

import pathlib

import numpy as np

BLOCK = 8192  # rows that are made together; each block has its own seed
DEPARTMENTS, WORDS, WORDS_OF_A_TEXT = 50, 2000, 10
SHELF_ROWS = 30  # rows of a shelf on average; large shelves have many times as many
DECAY = 0.5  # the standard deviation of direction i is i to the power of minus this


def write_texts(path: pathlib.Path, rows: int, width: int, dtype: str = "float16") -> np.ndarray:
    """[rows, width] memory-mapped rows of about unit length, with their mean subtracted, as in a bank.

    A text is the sum of a department, a shelf in it, ten words of a vocabulary and a random individual part, in directions of falling
    weight. Shelves and words are drawn by a power law. With a width of 1024, 22,000 rows have half of their variance in 20 directions and
    nine tenths in 294; the given vectors of users' texts, of width 384, have 22 and 136. A search by clusters needs 25 clusters for each
    row to find 0.95 of the neighbours, and 14 for those real texts: synthetic texts are somewhat harder.
    """
    rng = np.random.default_rng(0)
    scale = (np.arange(1, width + 1) ** -DECAY).astype(np.float32)
    count = max(rows // SHELF_ROWS, 1)
    departments = 0.5 * rng.standard_normal((DEPARTMENTS, width), np.float32)
    words = 0.5 * rng.standard_normal((WORDS, width), np.float32)
    department_of = rng.integers(0, DEPARTMENTS, count)
    unit = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (rows, width))
    centre = np.zeros(width, np.float32)
    for start in range(0, rows, BLOCK):
        own = np.random.default_rng([1, start])
        size = min(BLOCK, rows - start)
        shelf = (count * own.random(size) ** 1.5).astype(np.int64)
        vectors = departments[department_of[shelf]] + 0.3 * _of_shelves(shelf, width)
        vectors += 0.4 * own.standard_normal((size, width), np.float32)
        for _ in range(WORDS_OF_A_TEXT):
            vectors += words[(WORDS * own.random(size) ** 3.0).astype(np.int64)]
        vectors *= scale
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if not start:
            centre = vectors.mean(axis=0)
        vectors -= centre
        unit[start : start + size] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _of_shelves(shelf: np.ndarray, width: int) -> np.ndarray:
    """[n, width] float32 vector of each row's shelf, computed from its number, because a table of all shelves would be too large."""
    found, place = np.unique(shelf, return_inverse=True)
    vectors = [
        np.random.default_rng([2, int(one)]).standard_normal(width, np.float32) for one in found
    ]
    table: np.ndarray = np.stack(vectors)[place]
    return table
