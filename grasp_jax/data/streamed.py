"""Reads some columns of a large CSV, TSV or Parquet table block by block; other columns are never held in memory.

Ids that are texts are dictionary-encoded on the way; times and ratings that are plain numbers become numbers. This is the fast path for
a table without faults. Anything unusual or faulty returns None, and then `table_files` reads the whole table and names the fault.
"""

import gzip
import io
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from grasp_jax.core.errors import UserError
from grasp_jax.data.delimited import Dialect, begins_with_data, dialect_of, header_notes
from grasp_jax.data.dictionary import DictionaryColumn, Encoder, bytes_scalar
from grasp_jax.data.file_parts import open_parts
from grasp_jax.data.open_marks import QuotedValues, first_open
from grasp_jax.data.tables import Column, SourceTable, is_text

HEAD = 1 << 20  # bytes from which the dialect is determined
# bytes that are parsed at a time; pyarrow reads some blocks ahead, and a row must fit into a block
BLOCK = 1 << 20
LINES = 64  # fewer in the first megabyte means rows too long for a block
ROWS = 1 << 17  # of Parquet at a time
ID, NUMBER, TIME = "id", "number", "time"  # what a column is wanted as

Wanted = Callable[[tuple[str, ...]], Mapping[str, str]]  # names -> name: ID, NUMBER or TIME


class _NotStreamable(Exception):
    """The table cannot be read block by block."""


def stream_delimited(
    path: pathlib.Path, form: tuple[str, str], delimiter: str, wanted: Wanted
) -> SourceTable | None:
    """Some columns of a CSV or TSV file; the others are None.

    Args:
      path: the file.
      form: its format in words, and how it is compressed: ".gz", ".zst" or "".
      delimiter: that of its file ending.
      wanted: chooses the columns; if it chooses none, the result is None.
    """
    try:
        with _opened(path, form[1]) as file:
            head = file.read(HEAD)
            if len(head) == HEAD and head.count(b"\n") < LINES:
                return None
            dialect = dialect_of(path, head, delimiter)
            fields = dialect.fields
            names = tuple(field.strip() for field in fields)
            kinds = wanted(names)
            escapes = dialect.quoted and dialect.delimiter == "\t"
            if not kinds or escapes or len(set(names)) < len(names) or not all(names):
                return None
            if begins_with_data(head, dialect):
                return None
        columns, rows = _parsed(path, form[1], dialect, {names.index(k): kinds[k] for k in kinds})
    except (_NotStreamable, UserError, pa.ArrowException, OSError, EOFError, ValueError):
        return None
    notes = header_notes(dialect, delimiter)
    found = {name: columns.get(place) for place, name in enumerate(names)}
    return SourceTable(
        path, form[0], found, rows, True, notes=notes, header=fields, delimiter=dialect.delimiter
    )


def stream_parquet(
    path: pathlib.Path, form: str, wanted: Wanted, max_rows: int | None = None
) -> SourceTable | None:
    """Some columns of a Parquet file or of a folder of them; the others are None. Stops after `max_rows` rows, if that is given."""

    from pyarrow import dataset  # takes a while, and CSV does not need it

    try:
        source = open_parts(path) if path.is_dir() else dataset.dataset(path, format="parquet")
        names = tuple(source.schema.names)
        kinds = wanted(names)
        if not kinds or len(set(names)) < len(names):
            return None
        readers = {name: _ColumnReader(kind) for name, kind in kinds.items()}
        rows = 0
        for batch in source.to_batches(columns=list(kinds), batch_size=ROWS):
            rows += batch.num_rows
            for name, reader in readers.items():
                reader.add(batch.column(name))
            if max_rows is not None and rows >= max_rows:
                break
        found = {name: readers[name].column() if name in readers else None for name in names}
    except (_NotStreamable, pa.ArrowException, OSError, ValueError):
        return None
    return SourceTable(path, form, found, rows)


class _ColumnReader:
    """Collects the batches of a column, ids dictionary-encoded to save memory."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._encoder: Encoder | None = None
        self._parts: list[pa.Array] = []

    def add(self, values: pa.Array) -> None:
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if self._parts and self._parts[0].type != values.type:
            raise _NotStreamable
        if self._kind == ID and is_text(values.type):
            if values.null_count:  # an empty text is no id either, and it can be encoded
                values = values.fill_null(pa.scalar("", values.type))
            self._encoder = self._encoder or Encoder()
            self._encoder.add(values)
        elif len(values) or not self._parts:
            self._parts.append(values)

    def column(self) -> Column:
        if self._encoder is not None:
            return self._encoder.finish()
        if not self._parts:
            raise _NotStreamable
        parts, self._parts = self._parts, []
        return pa.chunked_array([pa.concat_arrays(parts)])  # one piece, which NumPy can share


def _parsed(
    path: pathlib.Path, compression: str, dialect: Dialect, kinds: Mapping[int, str]
) -> tuple[dict[int, Column], int]:
    """Columns by their position, and the number of rows; reads again if a value shows that a column is not plain numbers."""
    quoted, texts = False, frozenset[int]()
    while True:
        try:
            return _read_once(path, compression, dialect, kinds, quoted, texts)
        except _QuotedFields:
            quoted = True
        except _NoNumber as column:
            texts |= {column.place}


class _QuotedFields(Exception):
    """A quotation mark was found: fields may hold line breaks, so blocks cannot end at any line break."""


class _NoNumber(Exception):
    """A value is not a plain number."""

    def __init__(self, place: int) -> None:
        self.place = place


def _read_once(
    path: pathlib.Path,
    compression: str,
    dialect: Dialect,
    kinds: Mapping[int, str],
    quoted: bool,
    texts: frozenset[int],
) -> tuple[dict[int, Column], int]:
    readers = {place: _ColumnReader(kind) for place, kind in kinds.items()}
    rows = 0
    with _opened(path, compression) as file:
        values_of_file = QuotedValues(file)
        for batch in _batches(path, compression, dialect, kinds, quoted):
            rows += batch.num_rows
            if quoted and first_open(batch, values_of_file, dialect.delimiter):
                raise _NotStreamable
            for place, kind in kinds.items():
                values = batch.column(str(place))
                if kind != ID and place not in texts:
                    values = _numbers(values, kind, place)
                readers[place].add(values)
    if not rows:
        raise _NotStreamable
    columns = {place: reader.column() for place, reader in readers.items()}
    if all(_holds(columns[place], dialect.fields[place]) for place in kinds):
        raise _NotStreamable  # the header may be repeated among the rows
    return columns, rows


def _holds(column: Column, field: str) -> bool:
    """Whether a column of texts may contain this value."""
    if not isinstance(column, DictionaryColumn):
        return not pa.types.is_integer(column.type)
    return bool(pc.any(pc.equal(column.values, bytes_scalar(field.encode()))).as_py())


def _batches(
    path: pathlib.Path, compression: str, dialect: Dialect, kinds: Mapping[int, str], quoted: bool
) -> Iterator[pa.RecordBatch]:
    names = [str(place) for place in range(len(dialect.fields))]
    # a quotation mark that is not closed may be in any column
    chosen = names if quoted else [str(place) for place in kinds]
    with _opened(path, compression) as file:
        source = _QuoteDetector(file, dialect.begin, detect=dialect.quoted and not quoted)
        try:
            reader = pa.csv.open_csv(
                pa.PythonFile(source, mode="r"),
                read_options=pa.csv.ReadOptions(column_names=names, block_size=BLOCK),
                parse_options=pa.csv.ParseOptions(
                    delimiter=dialect.delimiter,
                    quote_char='"' if dialect.quoted else False,
                    newlines_in_values=quoted,
                ),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=chosen,
                    column_types=dict.fromkeys(chosen, pa.binary()),
                    strings_can_be_null=False,
                ),
            )
            yield from reader
        except Exception:
            if source.found:  # which pyarrow may have wrapped
                raise _QuotedFields from None
            raise


class _QuoteDetector(io.RawIOBase):
    """A file from some byte on, which raises `_QuotedFields` at the first quotation mark."""

    def __init__(self, file: IO[bytes], begin: int, detect: bool) -> None:
        self._file, self._detect = file, detect
        self.found = False
        file.read(begin)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        block = self._file.read(size)
        if self._detect and b'"' in block:
            self.found = True
            raise _QuotedFields
        return block


def _numbers(values: pa.Array, kind: str, place: int) -> pa.Array:
    """Plain whole numbers as int64, or numbers as float64, as the readers of whole columns make them.

    Raises:
      _NoNumber: a value is not a plain number.
    """
    try:
        text = pc.cast(values, pa.string())
        if kind == NUMBER:
            return pc.cast(text, pa.float64())
        numbers = pc.cast(text, pa.int64())
    except pa.ArrowInvalid:
        raise _NoNumber(place) from None
    characters = np.frombuffer(values.buffers()[2] or b"", np.uint8)
    if (characters | 0x20 == ord("x")).any():  # pyarrow takes 0x10 for 16
        raise _NoNumber(place)
    return numbers


def _opened(path: pathlib.Path, compression: str) -> Any:
    if compression == ".gz":
        return gzip.open(path)
    if compression == ".zst":
        return pa.input_stream(str(path), compression="zstd")
    return path.open("rb")
