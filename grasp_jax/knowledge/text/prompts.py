"""Prompt templates as plain-text files, filled with attributes of items and titles of training histories.

A template holds named fields in braces. A single value that is missing reads "unknown"; a clause in double square brackets is left
out whole when its field is empty, which is how lists are treated (paper's prompts as LLM-ESR builds them).
"""

import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_text
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.data.split import Histories
from grasp_jax.knowledge.text.columns import as_list, field_names

TEMPLATE_FOLDER = pathlib.Path(__file__).parent / "templates"
UNKNOWN = "unknown"
# A title may be long and is the one thing we know of an item; only what LLM-ESR calls junk is cut.
MAX_SINGLE_CHARACTERS = 400  # a longer single value becomes "unknown"
MAX_CLAUSE_CHARACTERS = 2048
MAX_HISTORY_CHARACTERS = 8000  # the newest end is kept

PromptOf = Callable[[int], str]  # row -> filled prompt


class Filled(Sequence[str]):
    """The prompts of all rows, each filled when it is read: those of ten million users are never in memory together."""

    def __init__(self, prompt_of: PromptOf, num_rows: int) -> None:
        self.prompt_of, self.num_rows = prompt_of, num_rows

    def __len__(self) -> int:
        return self.num_rows

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """One prompt, or those of a slice; IndexError beyond the rows, by which iteration ends."""
        if isinstance(row, slice):
            return [self.prompt_of(own) for own in range(*row.indices(self.num_rows))]
        return self.prompt_of(range(self.num_rows)[row])


_CLAUSE = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_FIELD = re.compile(r"\{(\w+)\}")
_PART = re.compile(f"{_CLAUSE.pattern}|{_FIELD.pattern}", re.DOTALL)


def load_template(name: str, where: str = "template") -> str:
    """The text of `templates/NAME.txt`, or of the file that `name` is a path to.

    Raises:
      UserError: there is no such file, or it is empty, is not UTF-8 text, or has no field; `where` names the template.
    """
    path = TEMPLATE_FOLDER / f"{name}.txt"
    if not _is_file(path):
        path = pathlib.Path(name)
    if not _is_file(path):
        known = ", ".join(sorted(entry.stem for entry in TEMPLATE_FOLDER.glob("*.txt")))
        raise UserError(f"{where}: {name[:200]!r} is neither a file nor one of {known}")
    template = read_text(path, f"it is {where}").strip()
    if not field_names(template):
        fault = (
            f"{template[:40]!r} names no field, so all texts would be the same"
            if template
            else "the file is empty"
        )
        raise UserError(
            f"{path}: {fault}; expected text with fields such as {{title}}, because it is {where}"
        )
    return template


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a whole template in place of its name is longer than a file name may be
        return False


def single_fields(template: str) -> set[str]:
    """Fields that stand outside any [[clause]]."""
    return set(_FIELD.findall(_CLAUSE.sub("", template)))


def check_fields(template: str, available: Mapping[str, Any], where: str) -> None:
    """Raises UserError where a template names a field outside any [[clause]] that the data lacks altogether."""
    needed = single_fields(template)
    missing = sorted(needed - set(available))
    if missing:
        known = ", ".join(sorted(available)) or "no fields"
        remedy = "take it out, or put it into a [[clause]], which may be empty"
        raise UserError(
            f"{where}: the template names {missing[0]!r}, but the data has {known}; {remedy}"
        )


def fill(template: str, fields: Mapping[str, Any], long: Mapping[str, str] | None = None) -> str:
    """Fills one template, in one pass: braces and brackets of a value are text; `long` values stand as they are."""

    def part(match: re.Match[str]) -> str:
        inner, name = match.groups()
        whole = long or {}
        if name:
            return whole[name] if name in whole else _single(fields.get(name))
        joined = {
            name: whole.get(name) or ", ".join(as_list(fields.get(name)))
            for name in _FIELD.findall(inner)
        }
        if not all(joined.values()):
            return ""
        return _FIELD.sub(lambda field: joined[field.group(1)], inner)[:MAX_CLAUSE_CHARACTERS]

    return _PART.sub(part, template)


def item_prompt(template: str, items: AttributeTable, where: str = "item template") -> PromptOf:
    """The prompt of an item, by its row; `where` names the template in errors."""
    check_fields(template, items.columns, where)
    return lambda row: fill(template, items.fields(row))


class History(NamedTuple):
    """Training windows and what they are made of: `items` has the attributes of all V items."""

    windows: Histories
    flat_items: np.ndarray
    items: AttributeTable


def user_prompt(
    template: str,
    history: History,
    users: AttributeTable | None = None,
    held_back: Collection[str] = (),
    where: str = "user template",
) -> PromptOf:
    """The prompt of a user, by row, from the training window alone.

    Args:
      template: its fields are `titles` and `purchases` (title, category and price), oldest first, and the columns of `users`.
      history: training windows.
      users: attributes of the N users.
      held_back: columns that stay on this machine: they read as unknown, and clauses with them are left out.
      where: names the template in errors.
    """
    titles, attributes = item_titles(history.items), {} if users is None else users.columns
    made = {"titles", "purchases"}
    check_fields(template, dict.fromkeys(made | set(attributes)), where)
    shown = [name for name in attributes if name not in held_back]
    detailed = "{purchases}" in template

    def prompt(row: int) -> str:
        window = history.flat_items[history.windows.start[row] : history.windows.end[row]]
        bought = window.tolist()  # a list is indexed faster by numbers of Python than by NumPy's
        fields = {name: attributes[name][row] for name in shown}
        long = {"titles": ", ".join([titles[item] for item in bought])[-MAX_HISTORY_CHARACTERS:]}
        if detailed:
            long["purchases"] = "; ".join(_purchase(history.items, item) for item in bought)[
                -MAX_HISTORY_CHARACTERS:
            ]
        return fill(template, fields, long)

    return prompt


def _purchase(items: AttributeTable, item: int) -> str:
    """Title, category and price of an item, as far as they are known."""
    known = (
        _single(items.columns[name][item])
        for name in ("title", "category", "price")
        if name in items.columns
    )
    return ", ".join(value for value in known if value != UNKNOWN) or UNKNOWN


def item_titles(items: AttributeTable) -> list[str]:
    """[V] titles; a missing one reads "unknown"."""
    return [str(title) if title else UNKNOWN for title in items.columns["title"]]


def _single(value: Any) -> str:
    text = ", ".join(as_list(value))
    return text if 0 < len(text) <= MAX_SINGLE_CHARACTERS else UNKNOWN
