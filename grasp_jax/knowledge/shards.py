"""Vectors on their way from an encoder into a bank: files of a few rows each, so that a killed run goes on and memory stays small.

Every shard is written whole or not at all, by whichever machine encodes it, and depends on no other.
"""

import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.knowledge.vector_files import RowVectors

SHARD_ROWS = 1024


def shard_rows(rows: np.ndarray) -> list[np.ndarray]:
    """The rows of each shard of [n] rows."""
    return [rows[start : start + SHARD_ROWS] for start in range(0, len(rows), SHARD_ROWS)]


def shard_path(folder: pathlib.Path, kind: str, number: int) -> pathlib.Path:
    """Where a shard of "items" or "users" lies."""
    return folder / f"{kind}-{number:06d}.npy"


def missing_shards(folder: pathlib.Path, kind: str, rows: np.ndarray) -> dict[int, np.ndarray]:
    """Number -> rows of the shards that are not there yet."""
    return {number: own for number, own in enumerate(shard_rows(rows)) if _width(shard_path(folder, kind, number)) is None}


def fill_shards(
    folder: pathlib.Path, kind: str, rows: np.ndarray, vectors_of: RowVectors, progress: Callable[[int], object] = lambda _: None
) -> None:
    """Writes the shards that are not there yet.

    Args:
      folder: of the shards.
      kind: "items" or "users".
      rows: [n] rows that need a vector.
      vectors_of: rows -> vectors.
      progress: called with the number of rows done since the last call.

    Raises:
      UserError: a vector that is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = missing_shards(folder, kind, rows)
    progress(len(rows) - sum(map(len, missing.values())))
    for number, own in missing.items():
        save_shard(shard_path(folder, kind, number), own, vectors_of(own))
        progress(len(own))


def save_shard(path: pathlib.Path, rows: np.ndarray, vectors: np.ndarray) -> None:
    """Writes one shard, [n, E] of [n] rows, in one step."""
    if vectors.ndim != 2 or len(vectors) != len(rows):
        raise UserError(f"{path.name}: the encoder gave vectors of shape {vectors.shape} for {len(rows)} texts; expected one row each")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise UserError(f"{path.name}: the encoder's vector of row {rows[bad[0]]} holds a value that is not finite")
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, np.asarray(vectors, np.float32), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def shard_width(folder: pathlib.Path, kind: str) -> int:
    """E of all shards of a kind.

    Raises:
      UserError: they differ, as where two versions of a model made them.
    """
    widths = {_width(path) for path in folder.glob(f"{kind}-*.npy")}
    if len(widths) != 1:
        raise UserError(f"{folder}: vectors of {kind} are {' and '.join(map(str, widths))} wide; remove the folder to encode them anew")
    return widths.pop() or 0


def _width(path: pathlib.Path) -> int | None:
    """E of a shard; None where a machine that failed has left one that cannot be read."""
    try:
        return int(np.load(path, mmap_mode="r", allow_pickle=False).shape[1])
    except (OSError, EOFError, ValueError, IndexError):
        return None


def read_shards(folder: pathlib.Path, kind: str) -> Iterator[np.ndarray]:
    """[n, E] of every shard in order; one at a time."""
    for path in sorted(folder.glob(f"{kind}-*.npy")):
        yield np.load(path, allow_pickle=False)
