"""The first rows of a file as a table, so that a folder of gigabytes is read quickly."""

import dataclasses
import gzip
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line
from grasp_jax.data.delimited import read_delimited
from grasp_jax.data.file_parts import checked_parts, parts_of
from grasp_jax.data.json_lines import read_json_lines
from grasp_jax.data.table_files import UNREADABLE, ending_of
from grasp_jax.data.tables import SourceTable

LOOKED_AT = 16 << 20  # bytes of a text file
ROWS = 200_000  # of a Parquet file
PAIR = ("user", "item")  # what the columns of `inter.txt` are called here
FORMS = {".tsv": "TSV", ".csv": "CSV", ".jsonl": "JSON lines", ".json": "JSON lines"}


@dataclasses.dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Attributes:
      path: the file, or a Parquet folder.
      table: those rows.
      whole: whether these are all rows.
    """

    path: pathlib.Path
    table: SourceTable
    whole: bool

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        return list(self.table.columns)

    @property
    def size(self) -> int:
        """Bytes on disk, of all parts."""
        files = parts_of(self.path) if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files)

    @property
    def rows_in_words(self) -> str:
        """How many rows were read; of several parts only the first, although a run reads them all."""
        parts = len(parts_of(self.path)) if self.path.is_dir() else 1
        if parts > 1:
            return f"{parts:,} files; columns read from the first, {self.table.num_rows:,} rows"
        return f"{'' if self.whole else 'the first '}{self.table.num_rows:,} rows"


def readable(path: pathlib.Path) -> bool:
    """Whether a file has the ending of a table."""
    ending, compression = ending_of(path)
    return (ending in FORMS and path.is_file()) or (ending == ".parquet" and not compression)


def sample(path: pathlib.Path) -> Sample:
    """The first rows.

    Raises:
      UserError: the file is not what its ending says.
    """
    ending, compression = ending_of(path)
    try:
        if ending == ".parquet":
            return _of_parquet(path)
        content, whole = _begin(path, compression)
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable {ending[1:]} table: {one_line(error)}") from error
    form = FORMS[ending]
    if ending in (".json", ".jsonl"):
        table = read_json_lines(path, content, form)
    else:
        table = read_delimited(path, content, form, "\t" if ending == ".tsv" else ",")
    return Sample(path, table, whole)


def sample_pairs(path: pathlib.Path) -> Sample:
    """The first lines of a file `user item`, as columns of these names; lines that a run will refuse are skipped.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        content, whole = _begin(path, "")
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); expected a file") from error
    rows = (line.split() for line in content.decode("ascii", "replace").splitlines())
    pairs = [row for row in rows if len(row) == 2 and all(map(_is_id, row))]
    ids = np.array(pairs, np.int64).reshape(-1, 2)
    columns = {name: pa.chunked_array([pa.array(ids[:, k])]) for k, name in enumerate(PAIR)}
    return Sample(path, SourceTable(path, "text", columns, len(pairs)), whole)


def _is_id(field: str) -> bool:
    """Whether a field is a whole number that fits into 64 bits."""
    return field.isdigit() and len(field) < 19


def _begin(path: pathlib.Path, compression: str) -> tuple[bytes, bool]:
    """The first bytes up to the end of a line, and whether they are the whole file."""
    match compression:
        case ".gz":
            with gzip.open(path) as file:
                content = file.read(LOOKED_AT + 1)
        case ".zst":
            with pa.input_stream(str(path), compression="zstd") as stream:
                content = stream.read(LOOKED_AT + 1)
        case _:
            with path.open("rb") as file:
                content = file.read(LOOKED_AT + 1)
    if len(content) <= LOOKED_AT:
        return content, True
    return content[: content.rfind(b"\n") + 1], False


def _of_parquet(path: pathlib.Path) -> Sample:
    parts = [path] if path.is_file() else checked_parts(path)
    file = pyarrow.parquet.ParquetFile(parts[0])
    batch = next(file.iter_batches(batch_size=ROWS), None)
    table = pa.Table.from_batches([] if batch is None else [batch], file.schema_arrow)
    whole = len(parts) == 1 and table.num_rows == file.metadata.num_rows
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return Sample(path, SourceTable(path, "Parquet", columns, table.num_rows), whole)
