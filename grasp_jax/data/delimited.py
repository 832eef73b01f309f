"""Reads CSV and TSV in their common dialects, every column as the bytes between delimiters: no type is inferred.

The dialect (delimiter, quoting, blanks around names) is detected from the header. The table's notes say what was detected; an ambiguous
file is refused.
"""

import csv
import dataclasses
import pathlib
import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line
from grasp_jax.data.columns import listed
from grasp_jax.data.header import (
    FIRST_ROWS,
    ROLES,
    are_numbers,
    is_data,
    may_be_header,
    refuse_first_line_of_data,
    signs_of,
)
from grasp_jax.data.open_marks import refuse_open_marks
from grasp_jax.data.rewriting import as_utf8, rewritten
from grasp_jax.data.tables import SourceTable, first_texts, shortened

DELIMITERS = {",": "','", "\t": "tabs", ";": "';'", "|": "'|'"}
QUOTED = "quotation marks around fields are no part of them"  # a note on a TSV; fields of a CSV always may have them
SAMPLED_LINES = 50  # lines from which the quoting of a TSV is determined
BLOCK = 4 << 20  # bytes; a row must fit
LARGEST_BLOCK = 1 << 30


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The dialect of a CSV or TSV file.

    Attributes:
      delimiter: between fields.
      quoted: whether quotation marks around a field are no part of it.
      fields: the header's fields, without quotation marks.
      begin: where the first row starts, in bytes.
    """

    delimiter: str
    quoted: bool
    fields: tuple[str, ...]
    begin: int


def read_delimited(path: pathlib.Path, content: bytes, form: str, delimiter: str) -> SourceTable:
    """The table of a file's bytes.

    Args:
      path: the file, for messages.
      content: its bytes, decompressed.
      form: its format in words.
      delimiter: that of the file ending; another one is used if the header has only that.

    Raises:
      UserError: no text, no header, no rows, a row of another length than the header, a quotation mark that hides rows, or the header again
        among the rows.
    """
    dialect = dialect_of(path, content, delimiter)
    fields = [*dialect.fields]
    row = _fields(_line(content, dialect.begin)[0].decode("utf-8", "replace"), dialect)
    trailing = len(row) == len(fields) + 1 and row[-1] == "" and fields[-1] != ""
    if trailing:
        fields.append("")
    parsed = _parse(path, content, dialect, len(fields))
    # of a file with \" within quotation marks, the bytes of a value cannot be looked up
    if dialect.quoted and not _escapes(content, dialect):
        refuse_open_marks(path, content, parsed, dialect.fields, dialect.delimiter)
    notes = [*header_notes(dialect, delimiter)]
    first = [first_texts(column, FIRST_ROWS) or [] for column in parsed.columns]
    # else a row is data, and may well be there twice, as one of numbers may be anyway
    if not are_numbers(fields) and may_be_header(fields, first):
        _refuse_second_header(path, parsed, dialect.fields)
    columns: dict[str, pa.ChunkedArray] = {}
    repeated = set()
    for position, (field, column) in enumerate(zip(fields, parsed.columns, strict=True)):
        name = field.strip()
        if not name:
            if trailing and position == len(fields) - 1:
                _refuse_filled(path, column, len(dialect.fields))
                notes.append("every row ends with a delimiter that the header lacks")
            else:
                notes.append(f"column {position + 1} has no name and is not read")
            continue
        if name in columns:
            repeated.add(name)
        else:
            columns[name] = column
    return SourceTable(
        path,
        form,
        columns,
        parsed.num_rows,
        True,
        frozenset(repeated),
        tuple(notes),
        header=dialect.fields,
        delimiter=dialect.delimiter,
    )


def refuse_data_as_header(
    table: SourceTable, wanted: tuple[str, ...], roles: tuple[str, ...] = ROLES
) -> None:
    """Raises UserError if the first line of a CSV or TSV is data; arguments as of `header.refuse_first_line_of_data`."""
    first = {name: first_texts(values, FIRST_ROWS) for name, values in table.columns.items()}
    columns = [first.get(field.strip()) for field in table.header]
    refuse_first_line_of_data(table.path, (table.header, table.delimiter), columns, wanted, roles)


def begins_with_data(content: bytes, dialect: Dialect) -> bool:
    """Whether the first line of a file is surely no header; `content` may be its first bytes."""
    width, begin = len(dialect.fields), dialect.begin
    rows: list[list[str]] = []
    while len(rows) < FIRST_ROWS and begin < len(content):
        raw, begin = _line(content, begin)
        rows.append(_fields(raw.decode("utf-8", "replace"), dialect))
    columns = [*zip(*(row for row in rows if len(row) == width), strict=True)]
    fields = [field.strip() for field in dialect.fields]
    return bool(columns) and is_data(fields, signs_of(fields, columns))


def header_notes(dialect: Dialect, delimiter: str) -> tuple[str, ...]:
    """What was detected from a header, in words for the user; `delimiter` is that of the file ending."""
    notes = {
        f"fields are separated by {DELIMITERS[dialect.delimiter]}": dialect.delimiter != delimiter,
        QUOTED: dialect.quoted and dialect.delimiter == "\t",
        "blanks around column names are dropped": any(
            field != field.strip() for field in dialect.fields
        ),
    }
    return tuple(note for note, holds in notes.items() if holds)


def dialect_of(path: pathlib.Path, content: bytes, delimiter: str) -> Dialect:
    """Detects the dialect of a file from its header and, for TSV, the first rows.

    Raises:
      UserError: the file is not text, or has no header.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        line = rewritten(path, "iconv -f UTF-16 -t UTF-8")
        raise UserError(f"{path}: the file is UTF-16; save it as UTF-8: {line}")
    if content.startswith((b"\x1f\x8b", b"(\xb5/\xfd", b"PK\x03\x04")):
        raise UserError(
            f"{path}: the file is compressed, or a spreadsheet; end its name in .csv.gz or .csv.zst, or save the spreadsheet as CSV"
        )
    begin = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    while begin < len(content) and content[begin : begin + 1] in (b"\n", b"\r"):
        begin += 1
    start, (raw, begin) = begin, _line(content, begin)
    try:
        header = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        shown = raw[max(0, error.start - 10) : error.start + 10]
        remedy = as_utf8(path, content, start + error.start)
        raise UserError(
            f"{path}: the header has {shown!r}, which is not UTF-8 text; {remedy}"
        ) from None
    if "\0" in header:
        raise UserError(
            f"{path}: the header has a zero byte; expected a text file with names of columns in its first line"
        )
    if not header.strip():
        raise UserError(
            f"{path}: the file has no header; expected names of columns in its first line"
        )
    if delimiter not in header:
        delimiter = max(DELIMITERS, key=lambda other: (header.count(other), other == delimiter))
    open_dialect = Dialect(delimiter, delimiter != "\t", (), begin)
    if delimiter == "\t" and _is_quoted(header, content, begin):
        open_dialect = dataclasses.replace(open_dialect, quoted=True)
    if open_dialect.quoted and header.count('"') % 2:
        raise UserError(
            f"{path}: the header {shortened(header)} has a quotation mark that is not closed"
        )
    return dataclasses.replace(open_dialect, fields=tuple(_fields(header, open_dialect)))


def _is_quoted(header: str, content: bytes, begin: int) -> bool:
    """Whether a TSV is written as R writes it: some name, or every sampled value of some column, stands between quotation marks."""
    if any(_between_quotes(field) for field in header.split("\t")):
        return True
    rows = []
    for _ in range(SAMPLED_LINES):
        raw, begin = _line(content, begin)
        if not raw:
            break
        rows.append(raw.decode("utf-8", "replace").split("\t"))
    return bool(rows) and any(
        all(map(_between_quotes, column)) for column in zip(*rows, strict=False)
    )


def _between_quotes(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == '"'


def _line(content: bytes, begin: int) -> tuple[bytes, int]:
    """The line that starts at a byte, without its end, and where the next one starts."""
    found = _LINE_END.search(content, begin)
    return (
        (content[begin:], len(content))
        if found is None
        else (content[begin : found.start()], found.end())
    )


_LINE_END = re.compile(rb"\r\n|\n|\r")


def _fields(line: str, dialect: Dialect) -> list[str]:
    if not dialect.quoted or '"' not in line:
        return line.split(dialect.delimiter)
    try:
        return next(csv.reader([line], delimiter=dialect.delimiter))
    except csv.Error:  # a field beyond csv's limit
        return line.split(dialect.delimiter)


def _parse(path: pathlib.Path, content: bytes, dialect: Dialect, width: int) -> pa.Table:
    rows = memoryview(content)[dialect.begin :]
    if not bytes(rows[:4096]).strip() and not bytes(rows).strip():
        raise UserError(
            f"{path}: a header ({listed(dialect.fields)}) and no rows; expected one interaction or item a row"
        )
    bad: list[pa.csv.InvalidRow] = []

    def remember(row: pa.csv.InvalidRow) -> str:
        bad.append(row)
        return "error"

    escape = "\\" if _escapes(content, dialect) else False
    parse = pa.csv.ParseOptions(
        delimiter=dialect.delimiter,
        quote_char='"' if dialect.quoted else False,
        escape_char=escape,
        newlines_in_values=dialect.quoted and b'"' in content,
    )
    names = [str(position) for position in range(width)]  # the header's may repeat
    # Bytes, for what no one reads need not be text; an empty field is an empty one, and NA is an id like any other.
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False
    )
    threads, block = True, BLOCK
    while True:
        read = pa.csv.ReadOptions(column_names=names, use_threads=threads, block_size=block)
        try:
            return pa.csv.read_csv(
                pa.BufferReader(pa.py_buffer(rows)),
                read_options=read,
                parse_options=parse,
                convert_options=convert,
            )
        except pa.ArrowInvalid as error:
            if bad:
                raise UserError(_of_another_length(path, bad[0])) from None
            if "straddling" in str(error) and block < min(LARGEST_BLOCK, 2 * len(content)):
                block *= 16
            elif threads:  # once more without threads, which forget the row
                _refuse_other_than_utf8(path, rows)  # whose bytes pyarrow could not hand over
                threads = False
                parse.invalid_row_handler = remember
            else:
                raise UserError(f"{path}: not a readable table: {one_line(error)}") from error


def _escapes(content: bytes, dialect: Dialect) -> bool:
    """Whether a backslash stands before a quotation mark within quotation marks, as R writes it."""
    return dialect.quoted and dialect.delimiter == "\t" and b'\\"' in content


def _refuse_other_than_utf8(path: pathlib.Path, rows: memoryview) -> None:
    try:
        str(rows, "utf-8")
    except UnicodeDecodeError as error:
        row = bytes(rows[: error.start]).count(b"\n") + 1
        shown = bytes(rows[max(0, error.start - 10) : error.start + 10])
        remedy = as_utf8(path, rows, error.start)
        raise UserError(
            f"{path}: row {row} has {shown!r}, which is not UTF-8 text; {remedy}"
        ) from None


def _of_another_length(path: pathlib.Path, row: pa.csv.InvalidRow) -> str:
    names_of_rows = (
        "; the first field may be R's name of the row: write.table(..., row.names = FALSE)"
    )
    hint = (
        names_of_rows if row.number == 1 and row.actual_columns == row.expected_columns + 1 else ""
    )
    shown = repr(row.text[:60])
    return f"{path}: row {row.number} has {row.actual_columns} fields, the header {row.expected_columns}: {shown}{hint or '; mend the row'}"


def _refuse_filled(path: pathlib.Path, column: pa.ChunkedArray, width: int) -> None:
    lengths = pc.binary_length(column)
    if pc.max(lengths).as_py():
        row = pc.index(pc.greater(lengths, 0), True).as_py()
        raise UserError(
            f"{path}: row {row + 1} has {width + 1} fields, the header {width}; name all columns in the header"
        )


def _refuse_second_header(path: pathlib.Path, parsed: pa.Table, fields: tuple[str, ...]) -> None:
    """Joined files repeat it, and would make a user called "user"."""
    same = None
    for position, field in enumerate(fields):
        equal = pc.equal(parsed.column(position), pa.scalar(field.encode(), pa.binary()))
        same = equal if same is None else pc.and_(same, equal)
        if not pc.any(same).as_py():
            return
    row = pc.index(same, True).as_py()
    raise UserError(
        f"{path}: row {row + 1} is the header again ({listed(fields)}), as in files that were joined; drop that line"
    )
