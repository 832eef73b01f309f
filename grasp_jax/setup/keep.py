"""The command that writes some rows of a table to a new file; it needs no other packages than this project does."""

import json
import pathlib
import shlex
from typing import Any

from grasp_jax.data.delimited import QUOTED
from grasp_jax.data.rewriting import into, unpacked
from grasp_jax.data.table_files import ending_of
from grasp_jax.data.tables import SourceTable, is_text

# A number as texts have it; `NA` and the like are none, and end no command.
NUMBER = r"\s*[+]?(\d+[.]?\d*|[.]\d+)([eE][+-]?\d+)?\s*"


def command_that_keeps(
    table: SourceTable, path: pathlib.Path, out: pathlib.Path, name: str, values: list[Any] | None
) -> str:
    """A command for a shell that writes some rows of a file to another one.

    Args:
      table: what was read of the file.
      path: the file, or a folder of Parquet files.
      out: the file to be written, not compressed.
      name: the column that decides.
      values: its values in the rows that are kept; None: numbers above zero.
    """
    if ending_of(path)[0] == ".parquet":
        return _of_parquet(table, path, out, name, values)
    code = (_of_delimited if table.is_delimited else _of_json)(table, name, values)
    # UTF-8 mode and surrogateescape pass on bytes that are not UTF-8
    return into(unpacked(path, f"python -X utf8 -c {shlex.quote(code)}"), out)


def _of_delimited(table: SourceTable, name: str, values: list[Any] | None) -> str:
    """Python that reads the rows of CSV or TSV; by the column's position, since blanks around names are no part of them."""
    position = [field.strip() for field in table.header].index(name)
    form = _form(table)
    return (
        f"import csv, re, sys; csv.field_size_limit(2**30); {_input('')}"
        f"rows = filter(None, csv.reader(sys.stdin{form})); "
        f"kept = csv.writer(sys.stdout{form}); kept.writerow(next(rows)); "
        f"kept.writerows(row for row in rows if {_test(f'row[{position}]', values)})"
    )


def _of_json(table: SourceTable, name: str, values: list[Any] | None) -> str:
    """Python that reads JSON lines."""
    value = f"json.loads(line).get({json.dumps(name, ensure_ascii=False)})"
    return (
        f"import json, re, sys; {_input(chr(92) + 'n')}"
        f"sys.stdout.writelines(line for line in sys.stdin if line.strip() and {_test(value, values)})"
    )


def _of_parquet(
    table: SourceTable, path: pathlib.Path, out: pathlib.Path, name: str, values: list[Any] | None
) -> str:
    """The whole command for a file or folder of Parquet."""
    column = json.dumps(name, ensure_ascii=False)
    part = out.with_name(out.name + ".part")
    source, target = (json.dumps(str(file), ensure_ascii=False) for file in (path, part))
    if values is None and is_text(table.columns[name].type):  # which cannot be compared with 0
        rows = (
            f"pq.read_table({source}); "
            f"rows = rows.filter([{_test('value', None)} for value in rows[{column}].to_pylist()])"
        )
    else:
        test = '">", 0' if values is None else f'"in", {_of_python(values)}'
        rows = f"pq.read_table({source}, filters=[({column}, {test})])"
    code = f"import re, pyarrow.parquet as pq; rows = {rows}; pq.write_table(rows, {target})"
    move = f"mv {shlex.quote(str(part))} {shlex.quote(str(out))}"
    return f"python -c {shlex.quote(code)} && {move}"


def _input(newline: str) -> str:
    """Python that makes standard input UTF-8, with or without a mark of the byte order, whose lines end as `open` has it."""
    return f'sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline="{newline}"); '


def _test(value: str, values: list[Any] | None) -> str:
    """A condition of Python on a value: that it is one of these, or a number above zero."""
    if values is not None:
        return f"{value} in {_of_python(values)}"
    return f'(found := re.fullmatch(r"{NUMBER}", str({value}))) is not None and float(found[0]) > 0'


def _of_python(values: list[Any] | None) -> str:
    """Values of JSON or Parquet as a Python literal with double quotes around texts, since the command is within single ones."""
    texts = [
        json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
        for value in values or []
    ]
    return f"[{', '.join(texts)}]"


def _form(table: SourceTable) -> str:
    """Arguments of Python's csv for the dialect that the reader has found."""
    form = "" if table.delimiter == "," else f", delimiter={json.dumps(table.delimiter)}"
    if table.delimiter == "\t" and QUOTED not in table.notes:
        form += ", quoting=csv.QUOTE_NONE, quotechar=None"
    return form
