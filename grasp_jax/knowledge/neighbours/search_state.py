"""The state of a long search in files, each written atomically, so that a killed run can be resumed."""

import contextlib
import hashlib
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_arrays, write_arrays

SECONDS = 60.0  # between two writes of the state at least, and
WRITE_SHARE = 20  # so many times the duration of a write
HASHED_ROWS = 1024  # rows whose hash tells whether the vectors are the same
Best = tuple[np.ndarray, np.ndarray]  # scores and ids


class SearchState:
    """The finished stages of a search (clusters, the clusters of each row) and the best neighbours so far.

    Args:
      folder: of the files; None: nothing is written.
      unit_vectors: [rows, E] that are searched.
      settings: everything else that the result depends on, except the labels.
      labels: [rows].
    """

    def __init__(
        self,
        folder: pathlib.Path | None,
        unit_vectors: np.ndarray,
        settings: tuple[Any, ...],
        labels: np.ndarray,
    ) -> None:
        self._folder = folder
        self._written, self._pause = time.perf_counter(), SECONDS
        self._search_hash = _identity(unit_vectors, settings, labels) if folder is not None else b""

    def stage(
        self, name: str, compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The arrays of a stage: read from its file, or else computed and written."""
        if (found := self._read(name)) is None:
            self._write(name, found := compute())
        return found

    def is_complete(self, name: str) -> bool:
        """Whether a stage has a complete file of this search."""
        return self._read(name) is not None

    def best(self, initial: Callable[[], Best]) -> tuple[Best, int]:
        """The best neighbours as they were written last, and how many clusters or groups are done; else `initial()` and 0."""
        if (found := self._read("best")) is None:
            return initial(), 0
        return (found["scores"], found["ids"]), int(found["done"])

    def is_due(self) -> bool:
        """Whether it is time to write the state again."""
        return self._folder is not None and time.perf_counter() - self._written > self._pause

    def save(self, best: Best, done: int) -> None:
        """Writes the best neighbours and how many clusters or groups are done."""
        started = time.perf_counter()
        self._write("best", {"scores": best[0], "ids": best[1], "done": np.array(done)})
        self._written = time.perf_counter()
        self._pause = max(SECONDS, WRITE_SHARE * (self._written - started))

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        if self._folder is not None:
            of, names = np.frombuffer(self._search_hash, np.uint8), np.array(sorted(arrays))
            write_arrays(self._path(name), of=of, names=names, **arrays)

    def _read(self, name: str) -> dict[str, np.ndarray] | None:
        """None if there is no such file, if it is damaged, or if it belongs to another search."""
        if self._folder is None:
            return None
        with contextlib.suppress(UserError):
            about = read_arrays(self._path(name), ["of", "names"], "")
            if about["of"].tobytes() == self._search_hash:
                return read_arrays(self._path(name), about["names"].tolist(), "")
        return None

    def _path(self, name: str) -> pathlib.Path:
        assert self._folder is not None
        return self._folder / f"{name}.npz"


def _identity(unit_vectors: np.ndarray, settings: tuple[Any, ...], labels: np.ndarray) -> bytes:
    """A hash that distinguishes one search from another. It covers only a sample of the vectors, because a change of the encoder or the
    geometry changes every vector.
    """
    rows = np.unique(np.linspace(0, len(unit_vectors) - 1, HASHED_ROWS).astype(np.int64))
    digest = hashlib.sha256(repr((unit_vectors.shape, unit_vectors.dtype, settings)).encode())
    digest.update(np.ascontiguousarray(unit_vectors[rows]).tobytes())
    digest.update(np.ascontiguousarray(labels).tobytes())
    return digest.digest()
