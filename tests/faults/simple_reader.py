"""A reader of a few lines, for interactions that have one possible meaning.

That is: UTF-8, no quotes, no control characters, as many fields in each row as in the header, ids without blanks around them.
"""

import csv
import json
import pathlib

NAMES = ("user", "item", "timestamp", "rating")


def reference(path: pathlib.Path) -> dict[str, list[str]] | None:
    """User -> items in the order of time, read with Python's own modules; None where a reader may see it otherwise."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
    if path.suffix == ".jsonl":
        table = _json_rows(text)
    elif set(text) & UNCLEAR:
        return None
    elif path.suffix == ".txt":
        table = _pairs(text)
    else:
        table = _delimited_rows(text, "\t" if path.suffix == ".tsv" else ",")
    if not table:
        return None
    found: dict[str, list[str]] = {}
    for row in sorted(table, key=lambda row: int(row["timestamp"])):
        if not (_plain(row["user"]) and _plain(row["item"])):
            return None
        found.setdefault(row["user"], []).append(row["item"])
    return found


UNCLEAR = {chr(code) for code in range(32)} - {"\n", "\t"} | set("\"'\x7f\x85\u2028\u2029\ufeff")


def _pairs(text: str) -> list[dict[str, str]] | None:
    rows = [line.split(" ") for line in text.split("\n") if line]
    numbers = [part for row in rows for part in row]
    if any(len(row) != 2 for row in rows) or not all(
        part.isascii() and part.isdigit() and part[0] != "0" for part in numbers
    ):
        return None
    return (
        [{"user": user, "item": item, "timestamp": "0"} for user, item in rows]
        if max(map(len, numbers), default=0) < 19
        else None
    )


def _is_time(value: str) -> bool:
    return len(value) == 10 and value.isascii() and value.isdigit() and value[0] != "0"


def _plain(name: str) -> bool:
    return (
        0 < len(name) < 1000
        and name == name.strip()
        and not name.startswith("#")
        and not set(name) & UNCLEAR
        and name.isprintable()
    )


def _delimited_rows(text: str, separator: str) -> list[dict[str, str]] | None:
    lines = [line for line in text.split("\n") if line]
    rows = list(csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE))
    if (
        not rows
        or sorted(rows[0]) != sorted(NAMES)
        or any(len(row) != 4 for row in rows)
        or "\n\n" in text
    ):
        return None
    found = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    return (
        found
        if all(_is_time(row["timestamp"]) and row["rating"].isdigit() for row in found)
        else None
    )


def _json_rows(text: str) -> list[dict[str, str]] | None:
    found = []
    for line in filter(None, text.split("\n")):
        try:
            pairs = json.loads(line, object_pairs_hook=list)
        except (ValueError, RecursionError):
            return None
        if (
            not isinstance(pairs, list)
            or [type(pair) for pair in pairs] != [tuple] * 4
            or {name for name, _ in pairs} != set(NAMES)
        ):
            return None
        row = dict(pairs)
        if [type(row[name]) for name in NAMES] != [str, str, int, int] or not _is_time(
            str(row["timestamp"])
        ):
            return None
        found.append({name: str(value) for name, value in row.items()})
    return found
