"""What a log is made from: its source files by their content, and everything that decides how they are read.

`data.stored_log` compares both before it uses a stored log.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from grasp_jax.config import DataConfig
from grasp_jax.core.files import checksums
from grasp_jax.data.file_parts import checked_parts

SHOWN = 32  # hexadecimal digits of a fingerprint that a message may show
CODE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class LogSource:
    """What a log is made from.

    Attributes:
      path: the interaction file, or the folder of its parts.
      settings: everything else that decides the log, plain JSON by the words that a message has for it.
      name: of the dataset; it decides nothing.
    """

    path: pathlib.Path
    settings: Mapping[str, Any]
    name: str = ""

    @property
    def files(self) -> dict[str, pathlib.Path]:
        """The files that the reader reads, by their names below the path: the file itself, or the parts of a folder.

        Raises:
          UserError: as `file_parts.checked_parts`.
        """
        if not self.path.is_dir():
            return {self.path.name: self.path}
        return {part.relative_to(self.path).as_posix(): part for part in checked_parts(self.path)}

    def fingerprints(self) -> dict[str, str]:
        """Name -> SHA-256 of the content."""
        return checksums(self.path if self.path.is_dir() else self.path.parent, self.files)

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Name -> bytes and nanoseconds of the last change: whether a file changes while it is read."""
        found = {}
        for name, path in self.files.items():
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                stat = path.stat()
                found[name] = (stat.st_size, stat.st_mtime_ns)
        return found


def source_of(config: DataConfig, path: pathlib.Path, catalogue: np.ndarray | None) -> LogSource:
    """The interaction file `path` as the `data` section reads it.

    Args:
      config: of the data.
      path: what `find_interactions` found.
      catalogue: [V] ids of the items table, or None.
    """
    columns = {f"config.data.columns.{name}": of for name, of in config.columns.to_dict().items()}
    fields = ("bad_rows", "min_rating", "max_missing_text", "ties", "ties_seed")
    settings = {f"config.data.{name}": getattr(config, name) for name in fields}
    ids = "none"
    if catalogue is not None:
        content = catalogue.dtype.str.encode() + np.ascontiguousarray(catalogue).tobytes()
        ids = hashlib.sha256(content).hexdigest()[:SHOWN]
    own = {"path of the interactions": str(path), "fingerprint of the items table's ids": ids}
    own |= {"fingerprint of the program that reads": _code_fingerprint()}
    return LogSource(path, json.loads(json.dumps({**own, **columns, **settings})), config.name)


@functools.cache
def _code_fingerprint() -> str:
    """SHA-256 of the package's code that reads data: a log that other code has stored is not trusted."""
    digest = hashlib.sha256()
    for path in sorted(CODE.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:SHOWN]
