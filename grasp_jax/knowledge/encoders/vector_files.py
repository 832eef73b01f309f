"""Vectors made elsewhere, in files, brought into the rows of a log; read a block at a time."""

import contextlib
import itertools
import pathlib
from collections.abc import Callable, Collection, Sequence

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_array, read_text
from grasp_jax.core.log import logger
from grasp_jax.core.words import one_line
from grasp_jax.knowledge.repeats import are_many, most_common, vector_hashes

RowVectors = Callable[[np.ndarray], np.ndarray]  # [n] rows -> [n, E] float32
CHECKED = 4096  # rows at a time
EXPECTED = "expected an array of floats, .npy or .safetensors, one row each"


def open_vectors(
    path: str,
    ids: np.ndarray,
    ids_path: str,
    kind: str,
    ordered: bool = False,
    titles: Sequence[str] | None = None,
) -> RowVectors:
    """Opens a file of vectors, checks every value, and prints the ids of the first two rows and the last, and whether rows are useless.

    Args:
      path: `.npy` [rows, E] or `.safetensors` (tensor `embeddings`, or the only one); never a pickle.
      ids: [rows] ids of the log (users or items) in row order.
      ids_path: text file with one id per line for each vector; empty if the vectors already stand in row order.
      kind: "item" or "user", for messages.
      ordered: the row order is one that the user gave, by an items table.
      titles: [rows] of the items, for what is printed.

    Returns:
      A function from rows of the log to their vectors.

    Raises:
      UserError: missing or unreadable file, a number of rows that does not fit, vectors without ids where ids are text in an order of
        ours, an id without a vector, a value that is not finite as float32, or only zeros in all rows of items.
    """
    vectors = _read_vectors(path, kind)
    if not ids_path and not ordered and ids.dtype.kind not in "iu":
        raise UserError(
            f"config.knowledge.{kind}_ids_file is empty, and {_uncertain(ids, kind)}; name a file with one id per row of {path}"
        )
    rows = (
        _rows_of(ids, ids_path, path, len(vectors), kind) if ids_path else np.arange(len(vectors))
    )
    if len(rows) != len(ids):
        order = "the order of the items table" if ordered else "id order"
        raise UserError(
            f"{path}: {len(rows)} rows, but the data has {len(ids)} {kind}s; expected one row per {kind} in {order}, "
            f"or the ids of the rows in config.knowledge.{kind}_ids_file"
        )
    logger.info(whose_rows(path, rows, ids, kind, titles))

    def read(wanted: np.ndarray) -> np.ndarray:
        with np.errstate(
            over="ignore", under="ignore"
        ):  # what is too large becomes inf and is refused
            return np.asarray(vectors[rows[wanted]], np.float32)

    bad, zeros, hashes = _looked_through(read, len(rows))
    if len(bad):
        first = np.asarray(vectors[rows[bad[0]]])
        value = first[~np.isfinite(read(bad[:1])[0])][0]
        row = f"row {rows[bad[0]]}, counted from 0, ({kind} {ids[bad[0]]})"
        reason = (
            ", which is too large for float32; scale the vectors down"
            if np.isfinite(value)
            else "; expected finite numbers"
        )
        raise UserError(f"{path}: {row} holds {value}{reason}; {len(bad)} such rows")
    _report_useless_rows(path, kind, ids, zeros, hashes)
    return read


def width_of_file(path: str, kind: str) -> int:
    """E of a file of vectors, by its header; no vector is read.

    Args:
      path, kind: as of `open_vectors`.

    Raises:
      UserError: missing or unreadable file, or no 2-d array of floats; as `open_vectors`.
    """
    if path.endswith(".safetensors") and pathlib.Path(path).is_file():
        _refuse_other_formats(path, kind)
        return _width_of_tensor(path, kind)
    return int(_read_vectors(path, kind).shape[1])  # mapped, not read


def _looked_through(read: RowVectors, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads every row once, because a file may be larger than the memory.

    Returns:
      The rows with a value that is not finite, [count] bool, which rows are zeros, and [count] hashes, equal for equal rows.
    """
    bad, zeros, hashes = [np.empty(0, np.int64)], np.empty(count, bool), np.empty(count, np.int64)
    for start in range(0, count, CHECKED):
        rows = np.arange(start, min(start + CHECKED, count))
        vectors = read(rows)
        bad.append(rows[~np.isfinite(vectors).all(axis=1)])
        zeros[rows], hashes[rows] = ~vectors.any(axis=1), vector_hashes([vectors])[0]
    return np.concatenate(bad), zeros, hashes


def _report_useless_rows(
    path: str, kind: str, ids: np.ndarray, zeros: np.ndarray, hashes: np.ndarray
) -> None:
    """Says how many rows are zeros, which have no direction, and whether many others are equal, as where a table was joined by mistake.

    Args:
      path, kind, ids: as of `open_vectors`.
      zeros, hashes: [rows] of the rows of `ids`, as of `_looked_through`.

    Raises:
      UserError: all rows of items are zeros. Vectors of users may be zeros on purpose, because not every method reads them.
    """
    count, empty = len(ids), int(zeros.sum())
    if count and empty == count and kind == "item":
        raise UserError(
            f"{path}: every row holds only zeros, so no item has a direction; expected vectors of a text encoder"
        )
    if empty:
        logger.warning(
            f"{path}: {empty:,} of {count:,} {kind}s have a vector of zeros, which has no direction: a method sees no text of theirs"
        )
    ids, hashes = ids[~zeros], hashes[~zeros]
    equal, row = most_common(hashes)
    if 1 < equal == count:
        logger.warning(
            f"{path}: all rows are equal, so no {kind} differs from another by its vector; did the encoder fail?"
        )
    elif are_many(equal, count):
        one, other = ids[np.flatnonzero(hashes == hashes[row])[:2]]
        logger.warning(
            f"{path}: {equal:,} of {count:,} {kind}s have the same vector, as {kind} {one} and {kind} {other}, so it tells none of them "
            "apart; did the encoder fail, or were the rows joined by mistake?"
        )


def whose_rows(
    path: str, rows: np.ndarray, ids: np.ndarray, kind: str, titles: Sequence[str] | None = None
) -> str:
    """One line with the ids of the first two rows and the last row of a file, for the user to compare.

    Args:
      path, kind, titles: as of `open_vectors`.
      rows: [rows] each id's row in the file.
      ids: [rows] of the log.
    """
    # in the file's order, without the rows of ids that the log does not have
    of_row = np.argsort(rows)
    known = [k for k in dict.fromkeys((0, 1, len(ids) - 1)) if k < len(ids)]
    named = [
        f"its row {rows[own]:,} is {kind} {ids[own]}{_title(titles, own)}" for own in of_row[known]
    ]
    return f"{path}: counted from 0, {'; '.join(named)}"


def _title(titles: Sequence[str] | None, row: int) -> str:
    return f" ({one_line(titles[row], 40)})" if titles is not None else ""


def _uncertain(ids: np.ndarray, kind: str) -> str:
    """Why the assignment of rows to ids is uncertain, in words."""
    stand = f"the {kind} ids of the data are text, which stands in alphabetical order here"
    numbers = sorted(name for name in ids[:10_000].tolist() if name.isdecimal())
    if len(numbers) < min(len(ids), 10_000):
        return stand
    swapped = next(
        (f": {a!r} before {b!r}" for a, b in itertools.pairwise(numbers) if int(a) > int(b)), ""
    )
    return f"{stand}, though they are all numbers{swapped}"


def _read_vectors(path: str, kind: str) -> np.ndarray:
    if not path:
        raise UserError(
            f"config.knowledge.{kind}_file is empty; the encoder 'file' needs a .npy or .safetensors file of {kind} vectors"
        )
    if not pathlib.Path(path).is_file():
        reason = "is a folder" if pathlib.Path(path).is_dir() else "does not exist"
        raise UserError(
            f"config.knowledge.{kind}_file: {path} {reason}; expected a .npy or .safetensors file"
        )
    _refuse_other_formats(path, kind)
    vectors = (
        _read_tensor(path)
        if path.endswith(".safetensors")
        else read_array(pathlib.Path(path), EXPECTED, "r")
    )
    _check_matrix(path, kind, vectors.shape, vectors.dtype)
    return vectors


def _refuse_other_formats(path: str, kind: str) -> None:
    """Raises UserError for formats in which teams have vectors and which are not read, by the first bytes of the file."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        begin = file.read(6)
        if begin.startswith(b"PK"):
            raise UserError(
                f"{path}: a zip archive, such as NumPy's .npz or PyTorch's .pt, is not read; save one array with numpy.save as .npy"
            )
        for mark, name in ((b"PAR1", "Parquet"), (b"ARROW1", "Arrow")):
            if begin.startswith(mark):
                raise UserError(
                    f"{path}: {name} is not read; save its vectors with numpy.save, and its ids, one per line, in a text file for "
                    f"config.knowledge.{kind}_ids_file"
                )


def _check_matrix(path: str, kind: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if len(shape) != 2 or dtype.kind != "f":
        named = (
            f"{dtype}, perhaps bfloat16, to which .npy gives no name"
            if dtype == np.dtype("V2")
            else str(dtype)
        )
        mend = ": save .astype('float32')" if len(shape) == 2 and dtype.kind in "iuV" else ""
        raise UserError(
            f"{path}: shape {shape} and type {named}; expected a 2-d array of floats, one row per {kind}{mend}"
        )
    if not shape[1]:
        raise UserError(
            f"{path}: shape {shape}, so the rows have no numbers; expected vectors of a text encoder"
        )


def _read_tensor(path: str) -> np.ndarray:
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises a dozen kinds for a damaged file
        raise _damaged_tensors(path, error) from error
    return tensors[_chosen_tensor(path, tensors)]


def _width_of_tensor(path: str, kind: str) -> int:
    """E by the header of a `.safetensors` file; the vectors are not read."""
    from safetensors import safe_open

    try:
        with safe_open(path, "np") as file:
            name = _chosen_tensor(path, file.keys())
            tensor = file.get_slice(name)
            shape = tuple(tensor.get_shape())
            dtype = tensor[:0].dtype if shape else file.get_tensor(name).dtype
    except UserError:
        raise
    except Exception as error:  # as in `_read_tensor`
        raise _damaged_tensors(path, error) from error
    _check_matrix(path, kind, shape, dtype)
    return int(shape[1])


def _damaged_tensors(path: str, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable .safetensors file ({one_line(error)}); {EXPECTED}")


def _chosen_tensor(path: str, tensors: Collection[str]) -> str:
    """The name of the tensor that holds the vectors."""
    if "embeddings" in tensors:
        return "embeddings"
    if len(tensors) != 1:
        raise UserError(
            f"{path}: several tensors and none is called 'embeddings', or none at all: {', '.join(sorted(tensors)) or 'none'}"
        )
    return next(iter(tensors))


def _rows_of(ids: np.ndarray, ids_path: str, path: str, num_vectors: int, kind: str) -> np.ndarray:
    """The row of each id in the file of vectors; blanks around an id of the file are ignored, as in the data."""
    if not pathlib.Path(ids_path).is_file():
        raise UserError(
            f"config.knowledge.{kind}_ids_file: {ids_path} does not exist; expected one id per line"
        )
    text = read_text(pathlib.Path(ids_path), f"expected the {kind} ids of {path}, one per line")
    given = [line.strip() for line in text.rstrip().split("\n")]
    if len(given) != num_vectors:
        heading = f"; is {given[0]!r} a heading?" if len(given) == num_vectors + 1 else ""
        raise UserError(
            f"{ids_path}: {len(given)} ids for the {num_vectors} rows of {path}; expected one each{heading}"
        )
    row_of: dict[str, int] = {}
    for row, name in enumerate(given):
        if not name:
            raise UserError(
                f"{ids_path}: line {row + 1} is empty; expected the {kind} id of that row of {path}"
            )
        if row_of.setdefault(name, row) != row:
            raise UserError(
                f"{ids_path}: {kind} {name} occurs twice, on lines {row_of[name] + 1} and {row + 1}; remove one, and its vector"
            )
    wanted = ids.astype(str).tolist()
    missing = [name for name in wanted if name not in row_of]
    if missing:
        raise UserError(
            f"{ids_path}: no line for {kind} {missing[0]} ({len(missing)} such {kind}s); every {kind} needs a vector"
        )
    return np.array([row_of[name] for name in wanted])
