"""Reads files of tables: TSV, CSV, JSON lines (each also compressed) and Parquet, by the ending of their names."""

import gzip
import pathlib
import zlib

import pyarrow as pa
import pyarrow.parquet

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line
from grasp_jax.data.delimited import read_delimited
from grasp_jax.data.file_parts import checked_parts, is_in_parts, open_parts
from grasp_jax.data.json_lines import read_json_lines
from grasp_jax.data.streamed import Wanted, stream_delimited, stream_parquet
from grasp_jax.data.tables import SourceTable, repeated_column

COMPRESSIONS = (".gz", ".zst")
_FORMS = {
    ".tsv": "TSV",
    ".csv": "CSV",
    ".jsonl": "JSON lines",
    ".json": "JSON lines",
    ".parquet": "Parquet",
}
UNREADABLE = (  # what libraries raise of a file that is not what its ending says
    pa.ArrowException,
    OSError,
    EOFError,
    zlib.error,
    ValueError,
)


def ending_of(path: pathlib.Path) -> tuple[str, str]:
    """('.csv', '.gz') of `log.csv.gz`; the second is empty where the file is not compressed; '.parquet' of a folder of parts."""
    if is_in_parts(path):
        return ".parquet", ""
    if path.suffix in COMPRESSIONS:
        return pathlib.PurePath(path.stem).suffix, path.suffix
    return path.suffix, ""


def read_table(path: pathlib.Path, wanted: Wanted | None = None) -> SourceTable:
    """Reads `.tsv`, `.csv`, `.jsonl`/`.json` (one object a line), each also `.gz` or `.zst`, or `.parquet` (a folder of parts as well).

    Args:
      path: the file, or the folder of parts.
      wanted: chooses the columns that are needed (`streamed.Wanted`), so that others are not kept in memory; None: all.

    Raises:
      UserError: the file is missing, of another ending, or not what its ending says.
    """
    ending, compression = ending_of(path)
    if ending not in _FORMS or (ending == ".parquet" and compression):
        raise UserError(
            f"{path}: ending {path.suffix!r} is not supported; expected .txt, .tsv, .csv, .parquet or .jsonl "
            "(.tsv, .csv and .jsonl also as .gz or .zst)"
        )
    if not (path.is_file() or (ending == ".parquet" and path.is_dir())):
        raise UserError(
            f"{path}: no such file"
            + (", but a folder; only .parquet may be one" if path.is_dir() else "")
        )
    form = _FORMS[ending] + (f", {compression[1:]}" if compression else "")
    delimiter = "\t" if ending == ".tsv" else ","
    try:
        if ending == ".parquet":
            form = _form_of_parquet(path)
            found = wanted and stream_parquet(path, form, wanted)
            return found or _read_parquet(path, form)
        if wanted and ending in (".tsv", ".csv"):
            found = stream_delimited(path, (form, compression), delimiter, wanted)
            if found is not None:
                return found
        content = _content(path, compression)
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable {ending[1:]} table: {one_line(error)}") from error
    if ending in (".jsonl", ".json"):
        return read_json_lines(path, content, form)
    return read_delimited(path, content, form, delimiter)


def _content(path: pathlib.Path, compression: str) -> bytes:
    match compression:
        case ".gz":
            with gzip.open(path) as file:
                return file.read()
        case ".zst":
            with pa.input_stream(str(path), compression="zstd") as stream:
                content: bytes = stream.read()
                return content
    return path.read_bytes()


def _form_of_parquet(path: pathlib.Path) -> str:
    """The format in words; errors as of `checked_parts`."""
    if path.is_file():
        return "Parquet"
    return f"Parquet, {len(checked_parts(path))} parts in the order of their names"


def _read_parquet(path: pathlib.Path, form: str) -> SourceTable:
    if path.is_file():
        names = pa.parquet.ParquetFile(path).schema_arrow.names
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise repeated_column(path, repeated[0])
    table = open_parts(path).to_table() if path.is_dir() else pa.parquet.read_table(path)
    return SourceTable(
        path, form, dict(zip(table.column_names, table.columns, strict=True)), table.num_rows
    )
