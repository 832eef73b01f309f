"""Exact neighbours of a table in files, a block of rows each, which several machines can find: each block is compared with all rows."""

import pathlib
from typing import NamedTuple

import ml_dtypes  # noqa: F401  # so that NumPy knows the name bfloat16
import numpy as np

from grasp_jax.files import write_arrays
from grasp_jax.knowledge.neighbours.kept_search import KeptSearch
from grasp_jax.knowledge.neighbours.search_exact import search_exact

LABELS = "labels.npz"


class SearchTable(NamedTuple):
    """The arguments of every process that searches; only plain values.

    Attributes:
      path: of the `.npy` file, where all processes read it.
      dtype: of its numbers, for NumPy's format has no name for some.
      k: K.
      folder: of the blocks.
      rows_of_a_block: how many rows are searched for at a time.
    """

    path: str
    dtype: str
    k: int
    folder: str
    rows_of_a_block: int


class KeptBlocks:
    """The blocks of a table, found here or elsewhere.

    Args:
      table: what is searched; `write_labels` has written its labels.
    """

    def __init__(self, table: SearchTable) -> None:
        self._k, self._size = table.k, table.rows_of_a_block
        opened = np.load(table.path, mmap_mode="r", allow_pickle=False)
        self._unit = opened.view(np.dtype(table.dtype))
        with np.load(pathlib.Path(table.folder) / LABELS, allow_pickle=False) as stored:
            self._labels = stored["labels"]
        settings = ("blocks", self._k, self._size)
        self._kept = KeptSearch(pathlib.Path(table.folder), self._unit, settings, self._labels)
        self.count = -(-len(self._unit) // self._size)

    def rows(self, number: int) -> np.ndarray:
        """The rows of a block."""
        start = number * self._size
        return np.arange(start, min(start + self._size, len(self._unit)))

    def missing(self) -> list[int]:
        """Blocks that are not there yet, or not whole."""
        return [number for number in range(self.count) if not self._kept.has(_name(number))]

    def neighbours(self, number: int) -> np.ndarray:
        """[n, K] int32 of a block: from its file, or searched now and written."""

        def search() -> dict[str, np.ndarray]:
            rows = self.rows(number)
            return {"found": search_exact(self._unit, self._k, self._labels, rows=rows)}

        return self._kept.kept(_name(number), search)["found"]


def write_labels(folder: pathlib.Path, labels: np.ndarray) -> None:
    """Where `KeptBlocks` finds the labels, [rows] int32; rows with equal ones are no neighbours of each other."""
    write_arrays(folder / LABELS, labels=labels)


def _name(number: int) -> str:
    return f"block-{number:06d}"
