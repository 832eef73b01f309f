"""Writing that is whole or not at all, and what stands in its way."""

import errno
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


def disk_is_full(error: OSError) -> bool:
    """No space, or no more of it for this user; NumPy says so in words of its own and without a number."""
    written_in_part = error.errno is None and re.fullmatch(r"\d+ requested and \d+ written", str(error)) is not None
    return written_in_part or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
