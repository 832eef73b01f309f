"""Vectors that an encoder has computed for a bank, in files of a few rows each, so that a killed run can continue and memory stays small.

Every shard is written whole or not at all, by whichever machine encodes it, and depends on no other. It is an `.npz` file, whose CRC is
compared when it is read: between a kill and the next run a disk may change what it holds.
"""

import pathlib
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_arrays, write_arrays
from grasp_jax.knowledge.encoders.vector_files import RowVectors

SHARD_ROWS = 1024


def shard_rows(rows: np.ndarray) -> list[np.ndarray]:
    """The rows of each shard of [n] rows."""
    return [rows[start : start + SHARD_ROWS] for start in range(0, len(rows), SHARD_ROWS)]


def shard_path(folder: pathlib.Path, kind: str, number: int) -> pathlib.Path:
    """The path of a shard of "items" or "users"."""
    return folder / f"{kind}-{number:06d}.npz"


def missing_shards(folder: pathlib.Path, kind: str, rows: np.ndarray) -> dict[int, np.ndarray]:
    """Number -> rows of the shards that are missing or damaged."""
    return {
        number: own
        for number, own in enumerate(shard_rows(rows))
        if not _holds(shard_path(folder, kind, number), len(own))
    }


def fill_shards(
    folder: pathlib.Path,
    kind: str,
    rows: np.ndarray,
    vectors_of: RowVectors,
    progress: Callable[[int], object] = lambda _: None,
    at_once: int = 1,
) -> None:
    """Writes the missing shards.

    Args:
      folder: of the shards.
      kind: "items" or "users".
      rows: [n] rows that need a vector.
      vectors_of: rows -> vectors.
      progress: called with the number of rows done since the last call.
      at_once: how many threads may call `vectors_of` at the same time.

    Raises:
      UserError: a vector that is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = missing_shards(folder, kind, rows)
    progress(len(rows) - sum(map(len, missing.values())))

    def fill(number: int) -> int:
        own = missing[number]
        save_shard(shard_path(folder, kind, number), own, vectors_of(own))
        return len(own)

    with ThreadPoolExecutor(at_once) as threads:
        for count in map(fill, missing) if at_once == 1 else threads.map(fill, missing):
            progress(count)


def save_shard(path: pathlib.Path, rows: np.ndarray, vectors: np.ndarray) -> None:
    """Writes one shard atomically: [n, E] vectors of [n] rows, as float32.

    Raises:
      UserError: the encoder gave another number of vectors, or one that is not finite.
    """
    if vectors.ndim != 2 or len(vectors) != len(rows):
        raise UserError(
            f"{path.name}: the encoder gave vectors of shape {vectors.shape} for {len(rows)} texts; expected one row each"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise UserError(
            f"{path.name}: the encoder's vector of row {rows[bad[0]]} holds a value that is not finite"
        )
    write_arrays(path, vectors=np.asarray(vectors, np.float32))


def shard_width(folder: pathlib.Path, kind: str) -> int:
    """E of all shards of a kind.

    Raises:
      UserError: they differ, as where two versions of a model made them.
    """
    widths = {_shape(path)[-1] for path in folder.glob(f"{kind}-*.npz")}
    if len(widths) != 1:
        raise UserError(
            f"{folder}: vectors of {kind} are {' and '.join(map(str, widths))} wide; remove the folder to encode them again"
        )
    return widths.pop()


def read_shards(folder: pathlib.Path, kind: str) -> Iterator[np.ndarray]:
    """[n, E] of every shard in order; one at a time.

    Raises:
      UserError: one is not as it was written.
    """
    for path in sorted(folder.glob(f"{kind}-*.npz")):
        yield _read(path)


def _shape(path: pathlib.Path) -> tuple[int, ...]:
    """The shape of the vectors in a shard, without reading them."""
    with zipfile.ZipFile(path) as stored, stored.open("vectors.npy") as file:
        np.lib.format.read_magic(file)
        return np.lib.format.read_array_header_1_0(file)[0]


def _read(path: pathlib.Path) -> np.ndarray:
    remedy = "remove it, and its texts are encoded again"
    vectors = read_arrays(path, ["vectors"], remedy)["vectors"]
    if vectors.ndim != 2:
        raise UserError(f"{path}: holds shape {vectors.shape}; expected a vector a row; {remedy}")
    return vectors


def _holds(path: pathlib.Path, rows: int) -> bool:
    try:
        return len(_read(path)) == rows
    except UserError:
        return False
