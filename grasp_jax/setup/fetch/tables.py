"""The rows that readers of public data sets return, and the two files to which they are written row by row."""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import replacing

COLUMNS = ("user", "item", "rating", "timestamp")
NAMES = ("interactions.csv", "items.jsonl")


@dataclasses.dataclass(frozen=True)
class Tables:
    """Two streams of rows; the first is read to its end before the second begins, for archives can be larger than memory.

    Attributes:
      interactions: user, item, rating and timestamp of each row, in the order of the file.
      items: a row each with "item" and "title"; those whose item has no interaction are left out.
      notes: what was decided or left out, for people.
    """

    interactions: Iterable[Sequence[Any]]
    items: Iterable[Mapping[str, Any]]
    notes: tuple[str, ...] = ()


def write_tables(
    tables: Tables, folder: pathlib.Path, complete: Callable[[], None] = lambda: None
) -> list[str]:
    """Writes both files; neither gets its name before both are complete.

    Args:
      tables: rows, which are read as they are written.
      folder: of the files.
      complete: called when both are complete, before they get their names.

    Returns:
      What was written, for people.

    Raises:
      UserError: there is no interaction, or what the readers raise.
    """
    bought: set[Any] = set()
    described: set[Any] = set()
    rows = left_out = 0
    with (
        replacing(folder / NAMES[0]) as first,
        replacing(folder / NAMES[1]) as second,
    ):
        with first.open("w", encoding="utf-8", errors="replace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in tables.interactions:
                writer.writerow(row)
                bought.add(row[1])
                rows += 1
        if not rows:
            raise UserError(
                f"{folder}: the download holds no interactions; expected at least one; fetch it again into another folder"
            )
        with second.open("w", encoding="utf-8", errors="replace") as file:
            for item in tables.items:
                if item["item"] not in bought:
                    left_out += 1
                elif item["item"] not in described:
                    described.add(item["item"])
                    file.write(json.dumps(item, ensure_ascii=False) + "\n")
        complete()
    lines = [f"{folder / NAMES[0]}: {rows:,} interactions with {len(bought):,} items"]
    lines.append(
        f"{folder / NAMES[1]}: {len(described):,} items; {len(bought) - len(described):,} items have no row, "
        f"{left_out:,} rows of items without interactions were left out"
    )
    return lines


def filled(**fields: Any) -> dict[str, Any]:
    """A row without the fields that are empty."""
    return {name: value for name, value in fields.items() if value not in (None, "", [])}
