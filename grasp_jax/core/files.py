"""Files on disk: written atomically, read with clear errors, and verified by checksums."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import socket
import uuid
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import ml_dtypes
import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line

CHECKSUM = "checksum"  # key of a sealed JSON file: SHA-256 of everything else in it
UNFINISHED: set[pathlib.Path] = set()  # files that are being written
HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # in names of partial files, because process ids are unique only within a host
MOST_NESTED = 100  # levels of a JSON file; none of ours has more than ten


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces `path` atomically; a full disk or a killed process leaves the old file as it was."""
    with _synced(path) as file:
        file.write(text.encode())


def write_array(path: pathlib.Path, array: np.ndarray) -> None:
    """Replaces an `.npy` file atomically."""
    with _synced(path) as file:
        np.save(file, array, allow_pickle=False)


def write_arrays(path: pathlib.Path, **arrays: np.ndarray) -> None:
    """Replaces an `.npz` file atomically; it holds a CRC of each array, which NumPy compares on reading."""
    with _synced(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes them for its own options


@contextlib.contextmanager
def _synced(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """A file to write that replaces `path` at the end, when its content is on the disk."""
    with replacing(path) as partial, partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary file next to `path`, with a name that no other process uses, which replaces `path` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f"{HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    partial = path.with_name(f".{path.name}.{own}.partial")
    UNFINISHED.add(partial)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        UNFINISHED.discard(partial)


def sync(path: pathlib.Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on the disk and survive a loss of power.

    Raises:
      OSError: they cannot be written. Of a folder it is ignored, because some network disks do not sync folders.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(*([OSError] if path.is_dir() else [])):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_left_behind(path: pathlib.Path) -> None:
    """Removes temporary files of `path` that killed processes of this host left; those of running processes and other hosts stay."""
    left = re.compile(rf"\.{re.escape(path.name)}\.{HOST}-([0-9]{{1,9}})-[0-9a-f]{{8}}\.partial")
    for partial in tuple(path.parent.iterdir()) if path.parent.is_dir() else ():
        found = left.fullmatch(partial.name)
        if found and partial not in UNFINISHED and not _runs(int(found[1])):
            with contextlib.suppress(OSError):
                partial.unlink()


def _runs(pid: int) -> bool:
    """Whether another process with this number runs here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def remove_partial_writes() -> None:
    """Removes partly written files before a process ends without clean-up."""
    for partial in tuple(UNFINISHED):
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def sha256(path: pathlib.Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: pathlib.Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each named file in a folder; several are read at once.

    Raises:
      OSError: a file is missing or not readable.
    """
    listed = sorted(names)
    with ThreadPoolExecutor(min(4, max(1, len(listed)))) as readers:
        return dict(
            zip(listed, readers.map(lambda name: sha256(folder / name), listed), strict=True)
        )


def first_damaged(folder: pathlib.Path, expected: dict[str, str]) -> str:
    """What is wrong with the first file in a folder whose checksum is not the `expected` one; empty if there is none.

    Args:
      folder: what the names are relative to.
      expected: name -> SHA-256 when it was written.
    """
    for name in sorted(expected):
        if not (folder / name).is_file():
            return f"{folder / name} is missing"
    try:
        found = checksums(folder, expected)
    except OSError as error:
        return f"{error.filename}: not readable ({error.strerror})"
    return next(
        (
            f"{folder / name} differs from what was written"
            for name in sorted(expected)
            if found[name] != expected[name]
        ),
        "",
    )


def write_sealed(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Replaces a JSON file atomically; it holds a checksum of its other content."""
    whole = content | {CHECKSUM: _checksum(content)}
    write_text(path, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def read_sealed(path: pathlib.Path, remedy: str, required: bool = True) -> dict[str, Any]:
    """The content that `write_sealed` wrote, without the checksum.

    Args:
      path: the file.
      remedy: what the user may do about a damaged one, for the message.
      required: whether the file must hold a checksum; those of earlier versions hold none.

    Raises:
      UserError: the file is missing, not JSON, or not what was written.
    """
    content = read_object(path, remedy)
    if (required or CHECKSUM in content) and content.pop(CHECKSUM, None) != _checksum(content):
        raise UserError(
            f"{path}: its checksum differs from what was written, or it has none; {remedy}"
        )
    return content


def is_sealed(path: pathlib.Path, remedy: str) -> bool:
    """Whether a JSON file contains its checksum; errors as of `read_object`."""
    return CHECKSUM in read_object(path, remedy)


def _checksum(content: dict[str, Any]) -> str:
    # By way of JSON, so that tuples and lists are one and the same.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_object(path: pathlib.Path, remedy: str) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
      UserError: the file is missing or not readable, no UTF-8, no JSON, nested absurdly deep, or something else than an object.
    """
    try:
        content = json.loads(read_text(path, remedy))
    except ValueError as error:
        raise UserError(f"{path}: not readable JSON ({error}); {remedy}") from error
    except RecursionError:
        raise UserError(f"{path}: nested deeper than any such file; {remedy}") from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds {json.dumps(content)[:40]}; expected a JSON object; {remedy}"
        )
    if _depth(content) > MOST_NESTED:
        raise UserError(f"{path}: nested deeper than any such file; {remedy}")
    return content


def _depth(content: Any) -> int:
    depth, level = 0, [content]
    while level and depth <= MOST_NESTED:
        depth += 1
        level = [
            part
            for each in level
            if isinstance(each, (dict, list))
            for part in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def read_text(path: pathlib.Path, remedy: str) -> str:
    """A UTF-8 text file, without the byte order mark that some editors put first.

    Raises:
      UserError: the file is missing, not readable or no UTF-8; names the line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); {remedy}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: {raw[error.start : error.start + 20]!r} is not UTF-8 text; {remedy}"
        ) from None


def read_array(path: pathlib.Path, remedy: str, mmap_mode: Any = None) -> np.ndarray:
    """An `.npy` file; its header is compared with its size before memory is allocated.

    Raises:
      UserError: the file is missing, or is not a whole array.
    """
    try:
        # mapped, a header of an absurd shape allocates nothing
        array = np.load(path, mmap_mode=mmap_mode or "r", allow_pickle=False)
        expected = (array.offset if isinstance(array, np.memmap) else 0) + array.nbytes
        if array.size and (size := path.stat().st_size) != expected:
            raise ValueError(
                f"its header says {array.shape} of {array.dtype}, {expected:,} bytes, and it has {size:,}"
            )
        return array if mmap_mode else np.array(array)
    except Exception as error:
        # for a damaged header NumPy raises a dozen kinds, the tokenizer's among them
        reason = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else one_line(error) or "it is empty"
        )
        raise UserError(f"{path}: not a readable .npy array ({reason}); {remedy}") from error


def open_table(path: pathlib.Path, remedy: str) -> np.ndarray:
    """A memory-mapped table of floats; of bfloat16 too, for which NumPy's format has no name. Errors as of `read_array`."""
    table = read_array(path, remedy, "r")
    return table.view(ml_dtypes.bfloat16) if table.dtype == np.dtype("V2") else table


def read_arrays(
    path: pathlib.Path, names: Iterable[str] | None, remedy: str
) -> dict[str, np.ndarray]:
    """Named arrays of an `.npz` file; None: all that it has.

    Raises:
      UserError: the file is missing or damaged, or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            wanted = stored.files if names is None else names
            return {name: np.asarray(stored[name]) for name in wanted}
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for a damaged file
        reason = one_line(error) or "it is empty"
        raise UserError(f"{path}: not readable ({reason}); {remedy}") from error


def disk_is_full(error: BaseException) -> bool:
    """No space, or no more of it for this user; NumPy and TensorStore say so in words of their own and without a number."""
    number, message = error.errno if isinstance(error, OSError) else None, str(error)
    written_in_part = (
        number is None and re.fullmatch(r"\d+ requested and \d+ written", message) is not None
    )
    words = (
        "No space left",
        "RESOURCE_EXHAUSTED",
        "Disk quota exceeded",
        "File too large",
        "OUT_OF_RANGE: Error writing",
    )
    return (
        written_in_part
        or number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        or any(word in message for word in words)
    )
