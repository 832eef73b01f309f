"""Prompt templates as plain-text files, filled with attributes of items and titles of training histories.

A template holds named fields in braces. A single value that is missing reads "unknown"; a clause in double square brackets is left
out whole when its field is empty, which is how lists are treated (paper's prompts as LLM-ESR builds them).
"""

import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from grasp_jax.data.items import ItemTable
from grasp_jax.data.split import Histories
from grasp_jax.errors import UserError

TEMPLATE_FOLDER = pathlib.Path(__file__).parent / "templates"
UNKNOWN = "unknown"
MAX_VALUE_CHARACTERS = 100  # LLM-ESR: a longer single value becomes "unknown"
MAX_CLAUSE_CHARACTERS = 2048
MAX_HISTORY_CHARACTERS = 8000  # the newest end is kept

_CLAUSE = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_FIELD = re.compile(r"\{(\w+)\}")
_PART = re.compile(f"{_CLAUSE.pattern}|{_FIELD.pattern}", re.DOTALL)


def load_template(name: str) -> str:
    """The text of `templates/NAME.txt`, or of the file that `name` is a path to."""
    path = TEMPLATE_FOLDER / f"{name}.txt"
    if not path.is_file():
        path = pathlib.Path(name)
    if not path.is_file():
        known = ", ".join(sorted(entry.stem for entry in TEMPLATE_FOLDER.glob("*.txt")))
        raise UserError(f"template {name!r}: neither a file nor one of {known}")
    return path.read_text(encoding="utf-8").strip()


def check_fields(template: str, available: Mapping[str, Any], where: str) -> None:
    """Raises UserError where a template names a field outside any [[clause]] that the data lacks altogether."""
    needed = set(_FIELD.findall(_CLAUSE.sub("", template)))
    missing = sorted(needed - set(available))
    if missing:
        raise UserError(f"{where}: the template names {missing[0]!r}, but the data has {', '.join(sorted(available)) or 'no fields'}")


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """Fills one template, in one pass: braces and brackets of a value are text."""

    def part(match: re.Match[str]) -> str:
        inner, name = match.groups()
        if name:
            return _single(fields.get(name))
        joined = {name: ", ".join(_as_list(fields.get(name))) for name in _FIELD.findall(inner)}
        if not all(joined.values()):
            return ""
        return _FIELD.sub(lambda field: joined[field.group(1)], inner)[:MAX_CLAUSE_CHARACTERS]

    return _PART.sub(part, template)


def item_prompt(template: str, items: ItemTable) -> Callable[[int], str]:
    """The prompt of an item, by its row."""
    check_fields(template, items.columns, "item template")
    return lambda row: fill(template, items.fields(row))


def user_prompt(template: str, histories: Histories, flat_items: np.ndarray, titles: list[str]) -> Callable[[int], str]:
    """The prompt of a user, by row, from the training window of `histories` alone, oldest title first; `{titles}` is the one field."""
    check_fields(template.replace("[[", "").replace("]]", ""), {"titles": None}, "user template")

    def prompt(row: int) -> str:
        bought = ", ".join(titles[item] for item in flat_items[histories.start[row] : histories.end[row]])
        return template.replace("{titles}", bought[-MAX_HISTORY_CHARACTERS:])

    return prompt


def item_titles(items: ItemTable) -> list[str]:
    """[V] titles; a missing one reads "unknown"."""
    return [str(title) if title else UNKNOWN for title in items.columns["title"]]


def _as_list(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(part) for part in value if part] if isinstance(value, (list, tuple)) else [str(value)]


def _single(value: Any) -> str:
    text = ", ".join(_as_list(value))
    # A title may be long and is the one thing we know of an item; only what LLM-ESR calls junk is cut.
    return text if 0 < len(text) <= 4 * MAX_VALUE_CHARACTERS else UNKNOWN
