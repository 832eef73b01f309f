"""The state of a long search in files. Each file is written completely or not at all, so a killed run can be resumed."""

import contextlib
import hashlib
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.files import read_arrays, write_arrays

SECONDS = 60.0  # between two writes of the state, or
SHARE = 20  # so many times as long as a write takes
COMPARED = 1024  # rows by which it is seen that the vectors are the same
State = tuple[np.ndarray, np.ndarray]


class KeptSearch:
    """What a search has by now: clusters, the clusters of each row, and the best neighbours so far.

    Args:
      folder: of the files; None: nothing is kept.
      unit_vectors: [rows, E] that are searched.
      settings: whatever else the result depends on, but
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
        self._of = _identity(unit_vectors, settings, labels) if folder is not None else b""

    def kept(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of a stage: those in its file, or what `make` returns, which is written."""
        if (found := self._read(name)) is None:
            self._write(name, found := make())
        return found

    def has(self, name: str) -> bool:
        """Whether the file of a stage is there, whole and of this search."""
        return self._read(name) is not None

    def best(self, make: Callable[[], State]) -> tuple[State, int]:
        """The state as it was written last, and how many clusters or groups are done; what `make` returns, and none, at the beginning."""
        if (found := self._read("best")) is None:
            return make(), 0
        return (found["scores"], found["ids"]), int(found["done"])

    def is_due(self) -> bool:
        """Whether it is time to write the state."""
        return self._folder is not None and time.perf_counter() - self._written > self._pause

    def save(self, best: State, done: int) -> None:
        """Writes the state."""
        started = time.perf_counter()
        self._write("best", {"scores": best[0], "ids": best[1], "done": np.array(done)})
        self._written = time.perf_counter()
        self._pause = max(SECONDS, SHARE * (self._written - started))

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        if self._folder is not None:
            of, names = np.frombuffer(self._of, np.uint8), np.array(sorted(arrays))
            write_arrays(self._path(name), of=of, names=names, **arrays)

    def _read(self, name: str) -> dict[str, np.ndarray] | None:
        """None if there is no such file, if it is damaged, or if it belongs to another search."""
        if self._folder is None:
            return None
        with contextlib.suppress(UserError):
            about = read_arrays(self._path(name), ["of", "names"], "")
            if about["of"].tobytes() == self._of:
                return read_arrays(self._path(name), about["names"].tolist(), "")
        return None

    def _path(self, name: str) -> pathlib.Path:
        assert self._folder is not None
        return self._folder / f"{name}.npz"


def _identity(unit_vectors: np.ndarray, settings: tuple[Any, ...], labels: np.ndarray) -> bytes:
    """A hash that distinguishes one search from another. Of the vectors it has only a sample of the rows, because a change of the encoder
    or the geometry changes every row.
    """
    rows = np.unique(np.linspace(0, len(unit_vectors) - 1, COMPARED).astype(np.int64))
    found = hashlib.sha256(repr((unit_vectors.shape, unit_vectors.dtype, settings)).encode())
    found.update(np.ascontiguousarray(unit_vectors[rows]).tobytes())
    found.update(np.ascontiguousarray(labels).tobytes())
    return found.digest()
