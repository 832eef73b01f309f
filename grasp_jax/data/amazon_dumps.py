"""The files of McAuley's Amazon reviews: which they are, and their records line by line."""

import ast
import gzip
import json
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

from grasp_jax.core.errors import UserError


def find_dumps(folder: pathlib.Path, category: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Where reviews and metadata of a category are.

    Raises:
      UserError: either is missing.
    """
    found = []
    for names in (
        (f"reviews_{category}.json.gz", f"{category}.json.gz"),
        (f"meta_{category}.json.gz",),
    ):
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            held = (
                ", ".join(sorted(entry.name for entry in folder.iterdir())[:8])
                if folder.is_dir()
                else "nothing: it does not exist"
            )
            raise UserError(
                f"config.data.path: {folder} lacks {' or '.join(names)}; it holds {held or 'nothing'}"
            )
        found.append(path)
    return found[0], found[1]


def read_records(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record) of a dump; the metadata of 2014 are Python literals, not JSON.

    Raises:
      UserError: the file is damaged, or a line is not a record.
    """
    number = 0
    try:
        if path.stat().st_size == 0:  # gzip takes it for a dump without lines
            raise EOFError("the file is empty")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = json.loads(line)
                except ValueError:
                    record = _literal(line)
                if not isinstance(record, dict):
                    raise UserError(
                        f"{path}:{number}: {line.strip()[:60]!r} is not a record; expected one JSON object per line"
                    )
                yield number, record
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: damaged after line {number} ({error}); fetch the file again"
        ) from error


def _literal(line: str) -> Any:
    try:
        return ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
