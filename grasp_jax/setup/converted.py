"""Converted data of another project, and the files to which they are written."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_text, write_text

INTERACTIONS = ("user", "item", "timestamp", "rating")


@dataclasses.dataclass(frozen=True)
class Converted:
    """The data of a folder.

    Attributes:
      interactions: one of the names `INTERACTIONS`, or another, -> a value for each row; the rows of a user in the order of time.
      items: a row each with "item" and, where there is one, "title".
      users: a row each with "user".
      notes: what was decided or left out, for people.
    """

    interactions: Mapping[str, Sequence[Any]]
    items: Sequence[Mapping[str, Any]] = ()
    users: Sequence[Mapping[str, Any]] = ()
    notes: tuple[str, ...] = ()


def write_converted(data: Converted, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes `interactions.csv` and, where there are rows, `items.jsonl` and `users.jsonl`.

    Raises:
      UserError: the folder holds such a file already.
    """
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(data.interactions)
    rows.writerows(zip(*data.interactions.values(), strict=True))
    texts = {"interactions.csv": lines.getvalue()}
    for name, table in (("items.jsonl", data.items), ("users.jsonl", data.users)):
        if table:
            texts[name] = "".join(
                json.dumps(row, ensure_ascii=False, default=str) + "\n"
                for row in table  # dates, decimals
            )
    for name in texts:
        if (out / name).exists():
            raise UserError(f"{out / name}: exists, and is not overwritten; name another folder")
    for name, text in texts.items():
        write_text(out / name, text)
    return [out / name for name in texts]


def only_file(folder: pathlib.Path, ending: str, what: str) -> pathlib.Path:
    """The only file of a folder with this ending.

    Raises:
      UserError: there is none, or there are several.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected the folder of {what}")
    found = sorted(folder.glob(f"*{ending}"))
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "none"
        raise UserError(f"{folder}: expected one file *{ending} of {what}; found {listed}")
    return found[0]


def text_lines(path: pathlib.Path) -> list[str]:
    """The lines of a text file that are not empty."""
    return [line for line in read_text(path, "convert the data again").splitlines() if line.strip()]
