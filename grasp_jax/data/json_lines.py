"""JSON lines, one object a line, read line by line: values stay what the file says, and a fault names its row."""

import io
import json
import pathlib
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.data.tables import Table, one_line


def read_json_lines(path: pathlib.Path, content: bytes, form: str) -> Table:
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
        for name, value in _fields(path, row + 1, line).items():
            values = columns.get(name)
            if values is None:
                values = columns[name] = []
            if len(values) < row:
                values.extend([None] * (row - len(values)))
            values.append(value)
        row += 1
    for values in columns.values():
        values.extend([None] * (row - len(values)))
    return Table(path, form, columns, row)


class _Twice(Exception):
    """A field that stands twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return fields


_decode = json.JSONDecoder(object_pairs_hook=_object).decode


def _fields(path: pathlib.Path, row: int, line: bytes) -> dict[str, Any]:
    where = f"{path}: not a readable JSON lines table: row {row}"
    shown = repr(line[:60])
    try:
        fields = _decode(line.decode("utf-8"))
        if b"\\u" in line:  # half of a surrogate pair is not text and cannot be written to a file
            json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: {line[error.start : error.start + 20]!r} is not UTF-8 text; save the file as UTF-8"
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
        raise UserError(
            f"{where}: {one_line(error)}: {shown}; expected one JSON object a line"
        ) from None
    if not isinstance(fields, dict):
        raise UserError(f"{where} is {shown}; expected one JSON object a line")
    return fields
