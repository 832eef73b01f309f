"""Exact neighbours of a table in files of a block of rows each, so that several machines can share the search of all blocks."""

import pathlib
from typing import NamedTuple

import ml_dtypes  # noqa: F401  # so that NumPy knows the name bfloat16
import numpy as np

from grasp_jax.core.files import write_arrays
from grasp_jax.knowledge.neighbours.search_exact import search_exact
from grasp_jax.knowledge.neighbours.search_state import SearchState

LABELS = "labels.npz"


class SearchTable(NamedTuple):
    """The arguments of every search process; only plain values.

    Attributes:
      path: of the `.npy` file, where all processes read it.
      dtype: of its numbers, because NumPy's format has no name for some.
      k: K.
      folder: of the blocks.
      block_size: rows of a block, which are searched at a time.
    """

    path: str
    dtype: str
    k: int
    folder: str
    block_size: int


class SearchBlocks:
    """The blocks of a table, searched by this process or another.

    Args:
      table: the table, whose labels `write_labels` has written.
    """

    def __init__(self, table: SearchTable) -> None:
        self._k, self._size = table.k, table.block_size
        opened = np.load(table.path, mmap_mode="r", allow_pickle=False)
        self._unit = opened.view(np.dtype(table.dtype))
        with np.load(pathlib.Path(table.folder) / LABELS, allow_pickle=False) as stored:
            self._labels = stored["labels"]
        settings = ("blocks", self._k, self._size)
        self._state = SearchState(pathlib.Path(table.folder), self._unit, settings, self._labels)
        self.count = -(-len(self._unit) // self._size)

    def rows(self, number: int) -> np.ndarray:
        """The rows of a block."""
        start = number * self._size
        return np.arange(start, min(start + self._size, len(self._unit)))

    def missing(self) -> list[int]:
        """Blocks without a complete file."""
        return [
            number for number in range(self.count) if not self._state.is_complete(_name(number))
        ]

    def neighbours(self, number: int) -> np.ndarray:
        """[n, K] int32 neighbours of a block: read from its file, or else searched and written."""

        def search() -> dict[str, np.ndarray]:
            rows = self.rows(number)
            return {"found": search_exact(self._unit, self._k, self._labels, rows=rows)}

        return self._state.stage(_name(number), search)["found"]


def write_labels(folder: pathlib.Path, labels: np.ndarray) -> None:
    """Writes the labels ([rows] int32) for `SearchBlocks`; rows with the same label are not neighbours of each other."""
    write_arrays(folder / LABELS, labels=labels)


def _name(number: int) -> str:
    return f"block-{number:06d}"
