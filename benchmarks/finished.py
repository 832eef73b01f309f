"""Which benchmarks have finished in a folder, so that a run that was interrupted, or whose time was over, can be continued."""

import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from benchmarks.record import save
from grasp_jax.core.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
NAME = "finished.json"  # in the folder of the results


def sources() -> str:
    """Hash of the programs that a result depends on; a result of other programs is measured again."""
    found = hashlib.sha256()
    for folder in ("benchmarks", "grasp_jax"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


class Finished:
    """The finished benchmarks of a folder.

    Args:
      folder: of the results.
      about: what a result belongs to: machine and sources; it must be the same.

    Raises:
      UserError: the file of an earlier run is damaged.
    """

    def __init__(self, folder: pathlib.Path, about: dict[str, Any]) -> None:
        self.folder, self.path, self.about = folder, folder / NAME, about
        self.known = _read(self.path)

    def has(self, name: str, command: Sequence[str]) -> bool:
        """Whether this command has finished here, and what it wrote is still there."""
        own = self.known.get(name, {})
        alike = own.get("command") == list(command) and own.get("about") == self.about
        return (
            alike
            and bool(own.get("files"))
            and all((self.folder / file).exists() for file in own["files"])
        )

    def files(self) -> dict[str, int]:
        """Time of the last change of each result in the folder, in nanoseconds."""
        results = self.folder.glob("*.json")
        return {path.name: path.stat().st_mtime_ns for path in results if path != self.path}

    def add(
        self, name: str, command: Sequence[str], seconds: float, before: dict[str, int]
    ) -> None:
        """Notes that a command has finished; `before`: `files` when it began."""
        now = self.files()
        written = sorted(file for file, changed in now.items() if before.get(file) != changed)
        self.known[name] = {
            "command": list(command),
            "about": self.about,
            "seconds": seconds,
            "files": written,
        }
        save(self.path, self.known)


def _read(path: pathlib.Path) -> dict[str, Any]:
    """What `Finished.add` has written; empty if there is nothing."""
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        known = None
    if not isinstance(known, dict) or not all(isinstance(own, dict) for own in known.values()):
        raise UserError(
            f"{path}: not what this program writes; remove it, and all benchmarks run again"
        )
    return known
