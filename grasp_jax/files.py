"""Writing that is whole or not at all, and what stands in its way."""

import errno
import hashlib
import os
import pathlib
import re


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces `path` in one step; a full disk or a killed process leaves the old file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: pathlib.Path) -> str:
    """Of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk_is_full(error: BaseException) -> bool:
    """No space, or no more of it for this user; NumPy and TensorStore say so in words of their own and without a number."""
    number, said = getattr(error, "errno", None), str(error)
    written_in_part = number is None and re.fullmatch(r"\d+ requested and \d+ written", said) is not None
    return written_in_part or number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in said or "RESOURCE_EXHAUSTED" in said
