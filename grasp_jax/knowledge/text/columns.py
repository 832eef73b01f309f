"""A table of attributes as templates read it: text without markup, and every column of text in `{attributes}` or named as unused."""

import html
import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import AttributeTable

MADE = "attributes"  # the template's field for all text columns
MAX_PART_CHARACTERS = (
    500  # of one column in it, so that a long description leaves room for the others
)
SAMPLE = 1000  # number of values from which the kind of a column is determined
FIELD = "config.knowledge.text_columns"

# the tags of HTML and no others: in some catalogues a brand stands between < and >
_TAGS = (
    "a b big blockquote body br center code dd div dl dt em figcaption figure font h1 h2 h3 h4 h5 h6 head hr html i iframe img input label "
    "li link meta nobr ol p pre s script section small span strike strong style sub sup table tbody td th thead tr tt u ul video wbr"
)
_MARKUP = re.compile(
    rf"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->|</?(?:{_TAGS.replace(' ', '|')})(?:\s[^<>]*)?/?>",
    re.IGNORECASE | re.DOTALL,
)
# an entity with its semicolon: "R&notes" is text
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_OTHER_BLANKS = re.compile(r"[^\S ]")  # tabs, line breaks, hard spaces
_ADDRESS = re.compile(r"(https?://|www\.)\S+|\S+\.(jpe?g|png|gif|webp|svg|mp4|pdf)", re.IGNORECASE)
_CODE = re.compile(r"(?=\S*\d)[\w.:/+=-]+")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
_ID_NAME = re.compile(
    r"(.*_)?(id|ids|asin|isbn|sku|ean|upc|gtin|uuid|url|urls|link|links|image|images)",
    re.IGNORECASE,
)
_FIELD_NAME = re.compile(r"\{(\w+)\}")


def field_names(template: str) -> list[str]:
    """Fields that a template names, in order, each once."""
    return list(dict.fromkeys(_FIELD_NAME.findall(template)))


def cleaned(table: AttributeTable) -> AttributeTable:
    """The table with `clean_text` of every text in it."""
    return AttributeTable(
        table.ids,
        {name: [_clean_value(value) for value in values] for name, values in table.columns.items()},
    )


def filled_from(
    table: AttributeTable, text_columns: Sequence[str], template: str
) -> AttributeTable:
    """The table as an item's template is filled with it: cleaned, and with a column `attributes` where the template names one.

    Args:
      table: as it was read.
      text_columns: columns that `attributes` is made of, in order; none for the table's own column of that name, or where it has none,
        for all columns of text that the template does not name.
      template: its text.

    Raises:
      UserError: as of `made_of`.
    """
    return with_made(table, made_of(table, text_columns, template))


def with_made(table: AttributeTable, names: Sequence[str]) -> AttributeTable:
    """The table cleaned, and with a column `attributes` made of the named ones; without it where none are named."""
    columns = dict(cleaned(table).columns)
    if names:
        columns[MADE] = [
            _joined(names, values)
            for values in zip(*(columns[name] for name in names), strict=True)
        ]
    return AttributeTable(table.ids, columns)


def made_of(table: AttributeTable, text_columns: Sequence[str], template: str) -> list[str]:
    """Columns from which `attributes` is written; none if the table has a column of this name, or the template has no such field.

    Raises:
      UserError: `text_columns` names a column that the table lacks, or that has no place in the template.
    """
    named = field_names(template)
    # A flag gives 'brand,category' as one name.
    requested = [
        part
        for name in text_columns
        for part in ([name] if name in table.columns else [own.strip() for own in name.split(",")])
    ]
    for name in requested:
        if name not in table.columns:
            raise UserError(
                f"{FIELD}: {name!r} is no column of the items table; it has {', '.join(table.columns)}"
            )
        if MADE not in named and name not in named:
            raise UserError(
                f"{FIELD}: {name!r} has no place in config.knowledge.item_template; expected a template with {{{MADE}}}"
            )
    if MADE not in named or (MADE in table.columns and requested in ([], [MADE])):
        return []
    others = [name for name in requested or table.columns if name == MADE or name not in named]
    return (
        others
        if requested
        else [name for name in others if not why_no_text(name, table.columns[name])]
    )


def columns_read(table: AttributeTable, text_columns: Sequence[str], template: str) -> list[str]:
    """Columns of the table that a text holds, in the template's order; errors as of `made_of`."""
    made = made_of(table, text_columns, template)
    return [
        part
        for name in field_names(template)
        for part in (made if name == MADE and made else [name])
        if part in table.columns
    ]


def usage(
    kind: str,
    table: AttributeTable,
    used: Sequence[str],
    held_back: Collection[str] = (),
    remarks: Sequence[str] = (),
) -> str:
    """One line: from which columns texts are made, and which are left out and why.

    Args:
      kind: "items" or "users".
      table: as it was read.
      used: `columns_read`, or whatever else the texts hold.
      held_back: columns that no text may hold.
      remarks: further parts of the line.
    """
    shown = [name for name in used if name not in held_back]
    parts = [f"text from {', '.join(shown) or 'no column'}"]
    rest = [name for name in table.columns if name not in used and name not in held_back]
    unused = [
        f"{name} ({reason})" if (reason := why_no_text(name, table.columns[name])) else name
        for name in rest
    ]
    if unused:
        parts.append(f"not used: {', '.join(unused)}")
    if kept := [name for name in table.columns if name in held_back]:
        parts.append(f"held back as personal: {', '.join(kept)}")
    return f"{kind}: {'; '.join([*parts, *remarks])}"


def count_longer(table: AttributeTable, names: Iterable[str], most: int) -> int:
    """How many values of the named columns have more than `most` characters."""
    return sum(
        len(", ".join(as_list(value))) > most for name in names for value in table.columns[name]
    )


def why_no_text(name: str, values: Iterable[Any]) -> str:
    """Why a column is not used as text; empty for a column of text or of lists of text. The first `SAMPLE` known values decide."""
    found = list(itertools.islice((value for value in values if as_list(value)), SAMPLE))
    parts = [part for value in found for part in as_list(value)]
    if not found:
        return "empty"
    if not _most(isinstance(part, str) for value in found for part in _parts(value)):
        named = _most(isinstance(value, dict) for value in found)
        return "no text: make columns of its values" if named else "no text"
    if _most(bool(_ADDRESS.fullmatch(part)) for part in parts):
        return "addresses"
    if _ID_NAME.fullmatch(name) or (
        len(set(parts)) > 0.9 * len(parts) > 1
        and not _are_amounts(parts)
        and _most(bool(_CODE.fullmatch(part)) for part in parts)
    ):
        return "ids"
    return "" if _most(any(map(str.isalpha, part)) for part in parts) else "no words"


def _are_amounts(parts: Sequence[str]) -> bool:
    """Whether texts are numbers, some of them with a fraction, as prices are; ids are whole numbers."""
    numbers = [part for part in parts if _NUMBER.fullmatch(part)]
    return 2 * len(numbers) >= len(parts) and not all(
        part.lstrip("+-").isdigit() for part in numbers
    )


def clean_text(text: str) -> str:
    """`text` without HTML tags, with entities replaced by their characters, in one line; unchanged if it has none of these."""
    plain = text
    if "&" in text or "<" in text:
        for _ in range(2):  # some catalogues are escaped twice
            plain = _MARKUP.sub(
                " ", _ENTITY.sub(lambda entity: html.unescape(entity.group()), plain)
            )
    return (
        " ".join(plain.split())
        if plain != text or _OTHER_BLANKS.search(text) or text.isspace()
        else text
    )


def as_list(value: Any) -> list[str]:
    """The parts of an attribute's value as text, nested lists flattened; none where it is unknown."""
    return [str(part) for part in _parts(value)]


def as_texts(values: Iterable[Any]) -> np.ndarray:
    """[n] str as objects: each value as `{attributes}` and `{purchases}` write it, so without markup; empty where it is unknown."""
    # cleaned first: where a part ends with markup, cleaning the joined text would leave a blank before the comma
    return np.array([", ".join(as_list(_clean_value(value))) for value in values], object)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [part for inner in value if inner for part in _parts(inner)]
    return [] if value is None or value == "" or value != value else [value]  # NaN is unknown


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    return [_clean_value(part) for part in value] if isinstance(value, (list, tuple)) else value


def _joined(names: Sequence[str], values: Sequence[Any]) -> str:
    """'brand: Acme; categories: Hair, Oil' of the columns that are known."""
    parts = ((name, ", ".join(as_list(value))) for name, value in zip(names, values, strict=True))
    return "; ".join(
        ("" if name == MADE else f"{name.replace('_', ' ')}: ") + _cut(text)
        for name, text in parts
        if text
    )


def _cut(text: str) -> str:
    return (
        text if len(text) <= MAX_PART_CHARACTERS else text[:MAX_PART_CHARACTERS].rsplit(" ", 1)[0]
    )


def _most(given: Iterable[bool]) -> bool:
    """Whether at least half are true."""
    listed = list(given)
    return 2 * sum(listed) >= len(listed)
