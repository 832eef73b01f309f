"""Metrics as JSON lines: appended while a run goes on, cut back to the checkpoint when it resumes."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from grasp_jax.files import write_text


class Records:
    """WORKDIR/metrics.jsonl."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Adds one line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the lines that a resumed run will write again, and a last line that a killed process left unfinished."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if wanted(record):
                kept.append(line)
        write_text(self.path, "".join(f"{line}\n" for line in kept))
