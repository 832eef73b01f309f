"""The command that writes some rows of a table to a new file; it needs no other packages than this project does."""

import json
import pathlib
import shlex
from typing import Any

from grasp_jax.data.delimited import DELIMITERS
from grasp_jax.data.table_files import ending_of
from grasp_jax.data.tables import Table


def command_that_keeps(
    table: Table, path: pathlib.Path, out: pathlib.Path, name: str, values: list[Any] | None
) -> str:
    """A command for a shell that writes some rows of a file to another one.

    Args:
      table: what was read of the file.
      path: the file, or a folder of Parquet files.
      out: the file to be written, not compressed.
      name: the column that decides.
      values: its values in the rows that are kept; None: numbers above zero.
    """
    column = json.dumps(name, ensure_ascii=False)
    ending, compression = ending_of(path)
    if ending == ".parquet":
        condition = (
            f'({column}, ">", 0)' if values is None else f'({column}, "in", {_of_python(values)})'
        )
        source, target = (json.dumps(str(file), ensure_ascii=False) for file in (path, out))
        code = f"import pyarrow.parquet as pq; pq.write_table(pq.read_table({source}, filters=[{condition}]), {target})"
        return f"python -c {shlex.quote(code)}"
    if table.is_delimited:
        test = (
            f"float(row[{column}] or 0) > 0"
            if values is None
            else f"row[{column}] in {_of_python(values)}"
        )
        form = _form(table, ending)
        code = (
            f"import csv, sys; rows = csv.DictReader(sys.stdin{form}); "
            f"kept = csv.DictWriter(sys.stdout, rows.fieldnames{form}); kept.writeheader(); "
            f"kept.writerows(row for row in rows if {test})"
        )
    else:
        value = f"json.loads(line).get({column})"
        test = f"({value} or 0) > 0" if values is None else f"{value} in {_of_python(values)}"
        code = f"import json, sys; sys.stdout.writelines(line for line in sys.stdin if {test})"
    read = {"": "", ".gz": "gzip -dc", ".zst": "zstd -dc"}[compression]
    source, target = shlex.quote(str(path)), shlex.quote(str(out))
    run = f"python -X utf8 -c {shlex.quote(code)}"  # which passes on bytes that are not UTF-8
    return f"{read} {source} | {run} > {target}" if read else f"{run} < {source} > {target}"


def _of_python(values: list[Any] | None) -> str:
    """Values of JSON or Parquet as a Python literal with double quotes around texts, since the command is within single ones."""
    texts = [
        json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
        for value in values or []
    ]
    return f"[{', '.join(texts)}]"


def _form(table: Table, ending: str) -> str:
    """Arguments of Python's csv for the dialect that the reader has found."""
    usual = "\t" if ending == ".tsv" else ","
    said = " ".join(table.notes)
    delimiter = next(
        (d for d, words in DELIMITERS.items() if f"separated by {words}" in said), usual
    )
    form = "" if delimiter == "," else f", delimiter={json.dumps(delimiter)}"
    if delimiter == "\t" and "quotation marks around fields" not in said:
        form += ", quoting=csv.QUOTE_NONE, quotechar=None"
    return form
