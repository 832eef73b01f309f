"""Vectors made elsewhere, in files, brought into the rows of a log; read a block at a time."""

import pathlib
from collections.abc import Callable

import numpy as np

from grasp_jax.errors import UserError

RowVectors = Callable[[np.ndarray], np.ndarray]  # [n] rows -> [n, E] float32
CHECKED = 4096  # rows at a time


def open_vectors(path: str, ids: np.ndarray, ids_path: str, kind: str) -> RowVectors:
    """Opens a file of vectors and looks at every value once.

    Args:
      path: `.npy` [rows, E] or `.safetensors` (tensor `embeddings`, or the only one); never a pickle.
      ids: [rows] ids of the log (users or items) in row order.
      ids_path: text file with one id per line for each vector; empty if the vectors already stand in row order.
      kind: "item" or "user", for messages.

    Returns:
      A function from rows of the log to their vectors.

    Raises:
      UserError: missing or unreadable file, a number of rows that does not fit, an id without a vector, or a value that is not finite.
    """
    vectors = _read_vectors(path, kind)
    rows = _rows_of(ids, ids_path, path, len(vectors), kind) if ids_path else np.arange(len(vectors))
    if len(rows) != len(ids):
        raise UserError(
            f"{path}: {len(rows)} rows, but the data has {len(ids)} {kind}s; expected one row per {kind} in id order, "
            f"or the ids of the rows in config.knowledge.{kind}_ids_file"
        )
    read: RowVectors = lambda wanted: np.asarray(vectors[rows[wanted]], np.float32)  # noqa: E731
    blocks = (np.arange(start, min(start + CHECKED, len(rows))) for start in range(0, len(rows), CHECKED))
    bad = np.concatenate([np.empty(0, np.int64), *(block[~np.isfinite(read(block)).all(axis=1)] for block in blocks)])
    if len(bad):
        first = read(bad[:1])[0]
        value = first[~np.isfinite(first)][0]
        raise UserError(f"{path}: row {rows[bad[0]]} ({kind} {ids[bad[0]]}) holds {value}; expected finite numbers; {len(bad)} such rows")
    return read


def _read_vectors(path: str, kind: str) -> np.ndarray:
    if not path:
        raise UserError(f"config.knowledge.{kind}_file is empty; the encoder 'file' needs a .npy or .safetensors file of {kind} vectors")
    if not pathlib.Path(path).is_file():
        raise UserError(f"config.knowledge.{kind}_file: {path} does not exist; expected a .npy or .safetensors file")
    try:
        if path.endswith(".safetensors"):
            from safetensors.numpy import load_file

            tensors = load_file(path)
            vectors = tensors["embeddings"] if "embeddings" in tensors or len(tensors) != 1 else next(iter(tensors.values()))
        else:
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except KeyError:
        raise UserError(f"{path}: several tensors and none is called 'embeddings'") from None
    except Exception as error:  # numpy and safetensors raise a dozen kinds for a damaged file
        raise UserError(f"{path}: not a readable .npy or .safetensors array: {' '.join(str(error).split())[:160]}") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise UserError(f"{path}: shape {vectors.shape} and type {vectors.dtype}; expected a 2-d array of floats, one row per {kind}")
    return vectors


def _rows_of(ids: np.ndarray, ids_path: str, path: str, num_vectors: int, kind: str) -> np.ndarray:
    """The row of each id in the file of vectors."""
    if not pathlib.Path(ids_path).is_file():
        raise UserError(f"config.knowledge.{kind}_ids_file: {ids_path} does not exist; expected one id per line")
    given = pathlib.Path(ids_path).read_text(encoding="utf-8").split("\n")
    given = given[:-1] if given and given[-1] == "" else given
    if len(given) != num_vectors:
        raise UserError(f"{ids_path}: {len(given)} ids for the {num_vectors} rows of {path}; expected one each")
    row_of: dict[str, int] = {}
    for row, name in enumerate(given):
        if row_of.setdefault(name, row) != row:
            raise UserError(
                f"{ids_path}: {kind} {name} stands twice, on lines {row_of[name] + 1} and {row + 1}; remove one, and its vector"
            )
    missing = [name for name in ids.astype(str) if name not in row_of]
    if missing:
        raise UserError(f"{ids_path}: no line for {kind} {missing[0]} ({len(missing)} such {kind}s); every {kind} needs a vector")
    return np.array([row_of[name] for name in ids.astype(str)])
