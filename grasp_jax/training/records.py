"""Metrics as JSON lines: appended while a run trains, cut back to the checkpoint when it resumes.

Every line has a checksum of itself, because a report must not show a digit that a damaged disk has changed. In a workdir of a version that
wrote no checksums (`earlier_version`), lines have one from the next training on.
"""

import json
import pathlib
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_text, write_text
from grasp_jax.earlier_version import say_unverified, wrote_no_checksums

CRC = "crc"


class Records:
    """The file WORKDIR/metrics.jsonl. With several processes, only the one whose `writes` is True changes it."""

    def __init__(self, path: pathlib.Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes

    def append(self, record: dict[str, object]) -> None:
        """Adds one line. After a killed process call `keep` before, because it drops a line that is not complete."""
        if not self.writes:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(as_line(record))

    def read(self) -> list[dict[str, Any]]:
        """All lines, without their checksums. If a killed process left the last line unfinished, it is ignored.

        Raises:
          UserError: a line has changed since it was written; the message names it.
        """
        return [record for record, _ in self._checked()]

    def checksum(self, labels: dict[str, str]) -> int:
        """CRC-32 over the checksums of all lines with these labels (such as method and backbone), in order."""
        return zlib.crc32(
            "".join(crc for record, crc in self._checked() if has_labels(record, labels)).encode()
        )

    def keep(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the lines that do not fulfil the condition, because a resumed run will write them again."""
        if self.writes and self.path.exists():
            write_text(
                self.path, "".join(as_line(record) for record in self.read() if condition(record))
            )

    def _checked(self) -> Iterable[tuple[dict[str, Any], str]]:
        if not self.path.exists():
            return
        remedy = "remove that line; the models do not depend on it"
        text = read_text(self.path, remedy)
        unverified = bool(text) and f'"{CRC}"' not in text and wrote_no_checksums(self.path.parent)
        if unverified:
            say_unverified(self.path)
        *lines, last = text.split("\n")
        for number, line in enumerate(
            lines + ([last] if _parsed(last, unverified) else []), start=1
        ):
            if not line:
                continue
            if (record := _parsed(line, unverified)) is None:
                raise UserError(
                    f"{self.path}:{number}: {line[:60]!r} is damaged, or grasp_jax did not write it; {remedy}"
                )
            yield record, str(record.pop(CRC))


def has_labels(record: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a record has these labels."""
    return all(record.get(key) == value for key, value in labels.items())


def as_line(record: dict[str, Any]) -> str:
    """A record with its checksum, as a line of the file."""
    return json.dumps(record | {CRC: _crc(record)}) + "\n"


def _crc(record: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(record, sort_keys=True).encode()):08x}"


def _parsed(line: str, unverified: bool = False) -> dict[str, Any] | None:
    """The record of a line; None if the line has changed since it was written. An `unverified` record gets the checksum that it lacks."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if unverified and isinstance(record, dict):
        return record | {CRC: _crc(record)}
    if not isinstance(record, dict) or record.get(CRC) != _crc(
        {name: value for name, value in record.items() if name != CRC}
    ):
        return None
    return record
