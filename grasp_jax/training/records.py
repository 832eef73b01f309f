"""Metrics as JSON lines: appended while a run goes on, cut back to the checkpoint when it resumes."""

import contextlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

from grasp_jax.files import write_text


class Records:
    """WORKDIR/metrics.jsonl; of several processes one `writes`."""

    def __init__(self, path: pathlib.Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes

    def append(self, record: dict[str, Any]) -> None:
        """Adds one line."""
        if not self.writes:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All lines; one that a killed process left unfinished is passed over."""
        if not self.path.exists():
            return []
        records = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
        return records

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the lines that a resumed run will write again."""
        if self.writes and self.path.exists():
            write_text(self.path, "".join(json.dumps(record) + "\n" for record in self.read() if wanted(record)))
