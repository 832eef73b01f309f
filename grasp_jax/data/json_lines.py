"""JSON lines, one object a line, read line by line: values stay what the file says, and a fault names its row."""

import ast
import io
import json
import pathlib
import warnings
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line
from grasp_jax.data.rewriting import OF_ARRAY, OF_LITERALS, as_utf8, rewritten
from grasp_jax.data.tables import SourceTable


def read_json_lines(path: pathlib.Path, content: bytes, form: str) -> SourceTable:
    """The table of a file's bytes; a field that a row lacks is None. A field may be of another type in every row.

    Raises:
      UserError: a row is not UTF-8 text, is not a JSON object, is nested too deeply, or has a field twice.
    """
    columns: dict[str, list[Any]] = {}
    row = 0
    for raw in io.BytesIO(content.removeprefix(b"\xef\xbb\xbf")):
        line = raw.strip()
        if not line:
            continue
        if not row:
            _refuse_array(path, line)
        for name, value in _fields(path, row + 1, line, content).items():
            values = columns.get(name)
            if values is None:
                values = columns[name] = []
            if len(values) < row:
                values.extend([None] * (row - len(values)))
            values.append(value)
        row += 1
    for values in columns.values():
        values.extend([None] * (row - len(values)))
    return SourceTable(path, form, columns, row)


def _refuse_array(path: pathlib.Path, line: bytes) -> None:
    """Refuses a file that is one list of objects, given its first line."""
    inside = line[1:].lstrip()
    if line.startswith(b"[") and (not inside or inside.startswith(b"{")):
        raise UserError(
            f"{path}: not a readable JSON lines table: row 1 is {line[:60]!r}, so the file is one JSON array; expected one JSON object a "
            f"line; write it so: {rewritten(path, OF_ARRAY, '.jsonl')}"
        )


def _is_literal(line: bytes) -> bool:
    """Whether a line is a dictionary as Python prints it, with 'a' or u'a' instead of "a"."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about backslashes in its texts
            return isinstance(ast.literal_eval(line.decode("utf-8")), dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


class _Twice(Exception):
    """A field that stands twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return fields


_decode = json.JSONDecoder(object_pairs_hook=_object).decode


def _fields(path: pathlib.Path, row: int, line: bytes, content: bytes) -> dict[str, Any]:
    """The object of a line of a file with this content."""
    where = f"{path}: not a readable JSON lines table: row {row}"
    shown = repr(line[:60])
    try:
        fields = _decode(line.decode("utf-8"))
        if b"\\u" in line:  # half of a surrogate pair is not text and cannot be written to a file
            json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        remedy = as_utf8(path, content, content.find(line) + error.start)
        raise UserError(
            f"{where}: {line[error.start : error.start + 20]!r} is not UTF-8 text; {remedy}"
        ) from None
    except UnicodeEncodeError:
        raise UserError(
            f"{where} holds half of a surrogate pair, which is no text: {shown}"
        ) from None
    except RecursionError:
        raise UserError(
            f"{where} is nested too deep: {shown}; expected an object of texts, numbers and lists"
        ) from None
    except _Twice as error:
        raise UserError(f"{where} names {str(error)[:60]!r} twice: {shown}; drop one") from None
    except ValueError as error:
        if _is_literal(line):
            remedy = rewritten(path, OF_LITERALS, ".jsonl")
            raise UserError(
                f"{where} is {shown}, a dictionary of Python; expected one JSON object a line; write it so: {remedy}"
            ) from None
        raise UserError(
            f"{where}: {one_line(error)}: {shown}; expected one JSON object a line"
        ) from None
    if not isinstance(fields, dict):
        raise UserError(f"{where} is {shown}; expected one JSON object a line")
    return fields
