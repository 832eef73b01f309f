"""The sheet for human raters: descriptions sampled from every history group, in an order that does not give the group away."""

import csv
import io
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from grasp_jax.config import AuditConfig
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.audit.groups import sampled
from grasp_jax.knowledge.audit.subjects import Subject
from grasp_jax.knowledge.text.clean import STATUSES, clean
from grasp_jax.knowledge.text.prompts import MAX_HISTORY_CHARACTERS

UNSUPPORTED = "unsupported"
HOW_TO = "how many claims of the description are not supported by what is known; 0 for none, empty if not judged"
HEADER = ("kind", "id", "group", "known", "description", f"{UNSUPPORTED}: {HOW_TO}")
MAX_CELL_CHARACTERS = MAX_HISTORY_CHARACTERS + 4000  # a spreadsheet takes 32,767
_HARMLESS = re.compile(r"[+-]?\d+(\.\d+)?( %)?|-|[^=+\-@\t\r].*|", re.DOTALL)


def neutral(cell: str) -> str:
    """A cell that no spreadsheet reads as a formula: a text that begins like a formula and is not a number gets an apostrophe before it."""
    return cell if _HARMLESS.fullmatch(cell) else "'" + cell


def sheet_rows(subjects: Sequence[Subject], config: AuditConfig) -> list[tuple[str, ...]]:
    """Rows under `HEADER`: `config.sheet_rows` usable descriptions of each history group; none where descriptions are the prompts.

    Args:
      subjects: items and users.
      config: `config.knowledge.audit`.
    """
    rows = [
        row for number, subject in enumerate(subjects) for row in _rows(subject, config, number)
    ]
    return [
        rows[place]
        for place in np.random.default_rng([config.seed, len(rows)]).permutation(len(rows))
    ]


def _rows(subject: Subject, config: AuditConfig, number: int) -> list[tuple[str, ...]]:
    described, found = subject.described, []
    if described is None:
        return []
    for group, (label, group_rows) in enumerate(subject.groups.occupied()):
        usable = group_rows[described.statuses[group_rows] == STATUSES.index("ok")]
        for row in sampled(usable, config.sheet_rows, config.seed, number, group):
            prompt, text = described.prompt_of(int(row)), described.texts[row]
            if text != prompt:
                cells = (subject.kind, str(subject.ids[row]), label, prompt, text, "")
                found.append(tuple(clean(cell, MAX_CELL_CHARACTERS) for cell in cells))
    return found


def sheet_text(rows: Sequence[Sequence[str]]) -> str:
    """The sheet as CSV; the byte order mark at its beginning tells spreadsheets that it is UTF-8."""
    out = io.StringIO()
    csv.writer(out).writerows([HEADER, *([neutral(cell) for cell in row] for row in rows)])
    return "\ufeff" + out.getvalue()


def check_unfilled(path: pathlib.Path, text: str) -> None:
    """Raises UserError where `path` holds another sheet than `text`: it may have been filled in."""
    if path.exists() and path.read_bytes() != text.encode():
        raise UserError(
            f"{path}: this sheet may have been filled in and is never overwritten; report it with --ratings={path}, or move it away, "
            "or name another folder with --out"
        )
