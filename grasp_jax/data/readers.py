"""Interaction files of every supported format -> `InteractionLog`, and a report of how they were understood."""

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grasp_jax.config import DataConfig
from grasp_jax.config.data import REFUSE, SKIP
from grasp_jax.core.errors import UserError
from grasp_jax.core.words import first_of
from grasp_jax.data.bad_rows import LeftOut, check_share, refused
from grasp_jax.data.columns import DEFAULTS
from grasp_jax.data.file_parts import is_in_parts, is_parquet_folder, parts_of
from grasp_jax.data.log import InteractionLog, Origin, build_log
from grasp_jax.data.read_report import ReadReport, sample_rows

_ENDINGS = ("tsv", "csv", "parquet", "jsonl")
_PACKED = tuple(
    f"{ending}.{packing}" for ending in ("tsv", "csv", "jsonl") for packing in ("gz", "zst")
)
KNOWN_NAMES = ("inter.txt", "inter_time.tsv") + tuple(
    f"interactions.{ending}" for ending in (*_ENDINGS, *_PACKED)
)
_IN_WORDS = "inter.txt, inter_time.tsv, interactions.tsv, interactions.csv, interactions.parquet, interactions.jsonl (.gz, .zst)"
_PAIRS = "one 'user item' a line, whole numbers from 1"


def find_interactions(path: str, filename: str = "") -> pathlib.Path:
    """The interaction file at `path`: the file itself, `filename` inside the folder, or the first of `KNOWN_NAMES` found there.

    A folder whose name ends in `.parquet` is a file in parts, as Spark writes it; so is any folder of such files called `filename`.

    Raises:
      UserError: there is no such folder or file, or no interaction file in the folder.
    """
    root = pathlib.Path(path)
    if root.is_file() or is_parquet_folder(root):
        return root
    if not root.is_dir():
        raise UserError(
            f"config.data.path: {path} does not exist; expected a folder or an interaction file"
        )
    if filename:
        if not ((root / filename).is_file() or is_in_parts(root / filename)):
            raise UserError(
                f"config.data.interactions_file: {root / filename} does not exist; the folder holds {_listing(root)}"
            )
        return root / filename
    if found := known_files(root):
        return found[0]
    raise UserError(
        f"config.data.path: {path} has none of {_IN_WORDS}; it holds {_listing(root)}; {_hint(root)}"
    )


def folder_of(path: str) -> pathlib.Path:
    """The folder with the tables of items and users: `config.data.path`, or its parent if that is a file or a Parquet folder."""
    root = pathlib.Path(path)
    return root if root.is_dir() and not is_parquet_folder(root) else root.parent


def known_files(root: pathlib.Path) -> list[pathlib.Path]:
    """The interaction files of a folder under their default names; the first is the one that is read."""
    return [
        root / name
        for name in KNOWN_NAMES
        if (root / name).is_file() or is_parquet_folder(root / name)
    ]


def find_table(folder: pathlib.Path, filename: str, kind: str) -> pathlib.Path:
    """The table of items or users that a config names; `kind` is "items" or "users".

    Raises:
      UserError: it is not there; names the field and the files of the folder.
    """
    path = folder / filename
    if not path.exists() and folder.is_dir():
        raise UserError(
            f"config.data.{kind}_file: {path}: no such file; the folder holds {_listing(folder)}; name the table of {kind}, or leave the "
            f"field empty; grasp-jax init {shlex.quote(str(folder))} writes a config for the folder"
        )
    return path


def _hint(root: pathlib.Path) -> str:
    """How to read a folder without a file of a known name."""
    if len(parts_of(root)) > 1:
        name = root.resolve().name
        return (
            "name the file with config.data.interactions_file; if they are parts of one table, set config.data.path to the folder above "
            f"and config.data.interactions_file={name}"
        )
    return (
        "name the file with config.data.interactions_file, or run grasp-jax init "
        f"{shlex.quote(str(root))}: it looks for the file and its columns, and prints how to read them"
    )


def read_interactions(
    path: pathlib.Path, config: DataConfig, catalogue: np.ndarray | None = None
) -> tuple[InteractionLog, ReadReport]:
    """Reads one interaction file; the ending says the format.

    Args:
      path: `.txt` (`user item` per line, positive whole numbers, time order), `.tsv`, `.csv` or `.jsonl` (these three also compressed,
        `.gz` or `.zst`), or `.parquet`.
      config: its `name`, `columns`, `min_rating`, `max_missing_text` and `bad_rows` are used.
      catalogue: item ids in row order, from an items table.

    Raises:
      UserError: naming file, row, value and what was expected.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; expected one interaction per line")
    if path.suffix == ".txt":
        if config.min_rating > 0:
            raise UserError(
                f"{path}: config.data.min_rating={config.min_rating}, but a .txt file has no ratings; set it to 0 or give a .tsv"
            )
        pairs, left_out = _read_pairs(path, config.bad_rows)
        log = build_log(
            config.name,
            pairs[:, 0],
            pairs[:, 1],
            catalogue=catalogue,
            max_missing=config.max_missing_text,
            origin=Origin(str(path), left_out=left_out.rows),
        )
        return log, _report_of_pairs(path, pairs, left_out, config.columns.to_dict())
    from grasp_jax.data.dictionary import lean_memory  # need pyarrow, as a .txt file does not
    from grasp_jax.data.interactions import columns_wanted, log_of_table
    from grasp_jax.data.table_files import read_table

    with lean_memory():
        table = read_table(path, columns_wanted(config.columns.to_dict(), config.min_rating))
        return log_of_table(table, config, catalogue)


def _report_of_pairs(
    path: pathlib.Path, pairs: np.ndarray, left_out: LeftOut, columns: Mapping[str, str]
) -> ReadReport:
    given = [
        f"config.data.columns.{purpose}"
        for purpose, name in columns.items()
        if name and name != DEFAULTS.get(purpose)
    ]
    notes = (
        (f"not used: {', '.join(given)}, because a .txt file has no names of columns",)
        if given
        else ()
    )
    sample = sample_rows(pairs[:, 0], pairs[:, 1], None)
    return ReadReport(
        (f"{path} (text, {_PAIRS})",),
        len(pairs) + len(left_out.rows),
        order="as in the file (no time column)",
        sample=sample,
        notes=notes,
        left_out=left_out.reasons,
    )


def _read_pairs(path: pathlib.Path, bad_rows: str) -> tuple[np.ndarray, LeftOut]:
    """[I, 2] int64 of a `user item` file; after any fault the file is read again line by line, to name bad lines or leave them out."""
    try:
        if (pairs := _pairs_by_arrow(path)) is not None:
            return pairs, LeftOut()
        return _read_pairs_slowly(path, bad_rows)
    except OSError as error:
        raise UserError(
            f"{path}: not readable ({error.strerror}); give a file that may be read"
        ) from error


def _pairs_by_arrow(path: pathlib.Path) -> np.ndarray | None:
    """The pairs of a file without a fault, else None."""
    try:
        import pyarrow as pa
        import pyarrow.csv
    except ModuleNotFoundError:  # a bare GPU machine
        return None
    if not _only_digits(path):  # pyarrow takes 0x10 for 16
        return None
    options: dict[str, Any] = {
        "read_options": pa.csv.ReadOptions(column_names=["user", "item"]),
        "parse_options": pa.csv.ParseOptions(delimiter=" ", quote_char=False),
        "convert_options": pa.csv.ConvertOptions(
            column_types={"user": pa.int64(), "item": pa.int64()}
        ),
    }
    try:
        table = pa.csv.read_csv(path, **options)
        pairs = np.stack([table["user"].to_numpy(), table["item"].to_numpy()], axis=1)
        if pairs.dtype.kind == "i" and len(pairs) and (pairs > 0).all():
            return pairs
    except pa.ArrowException:
        pass
    return None


def _only_digits(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return not any(
            block.translate(None, b"0123456789 \t\r\n")
            for block in iter(lambda: file.read(1 << 24), b"")
        )


def _read_pairs_slowly(path: pathlib.Path, bad_rows: str) -> tuple[np.ndarray, LeftOut]:
    pairs, bad = [], []
    fault: UserError | None = None
    list_fault: UserError | None = None
    row = 0  # empty lines are no rows, but a message counts them
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # some editors put it first
            if not raw.decode("ascii", "replace").split():
                continue
            try:
                pairs.append(_pair(f"{path}:{number}", raw, may_be_header=number == 1))
            except UserError as error:
                if bad_rows == REFUSE:
                    raise _refusal(path, error) from error
                bad.append((row, number))
                fault = fault or error
                if _is_item_list(raw.split()):
                    list_fault = list_fault or error
            row += 1
    if list_fault and not _has_line_for_each_item(pairs):
        raise list_fault
    if fault:
        check_share(fault, len(bad), row)
    if not pairs:
        raise UserError(
            f"{path}: no interactions; expected two whole numbers, 'user item', per line"
        )
    what = "which are not two whole numbers from 1, of at most 64 bits"
    reasons = [(what, len(bad), f"line {number:,}") for _, number in bad[:1]]
    left_out = LeftOut(np.array([row for row, _ in bad], np.int64), tuple(reasons))
    return np.asarray(pairs, np.int64), left_out


def _refusal(path: pathlib.Path, fault: UserError) -> UserError:
    """A fault of a line, with the advice to leave such lines out if the others can be read."""
    try:
        _read_pairs_slowly(path, SKIP)
    except UserError:
        return fault
    return refused(fault)


def _has_line_for_each_item(pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether users have two lines or more on average.

    Otherwise a file with a line of several items may have all items of each user in a line: its pairs are the users with one item.
    """
    return len(pairs) >= 2 * len({user for user, _ in pairs}) > 0


def _pair(place: str, raw: bytes, may_be_header: bool) -> tuple[int, int]:
    """User and item of a line that is not empty.

    Raises:
      UserError: it is not two whole numbers from 1, of at most 64 bits.
    """
    try:
        line = raw.decode("ascii")
    except UnicodeDecodeError:
        raise UserError(
            f"{place}: {raw[:60]!r} is not text; expected two whole numbers, 'user item', per line"
        ) from None
    fields = line.split()
    shown = repr(line.strip()[:60])
    if len(fields) != 2:
        several = ""
        if "\t" in line.strip() or "," in line:
            ending = "tsv" if "\t" in line else "csv"
            several = f"; a table with other columns goes in a .{ending} with a header"
        elif _is_item_list(fields):
            several = f"; an item each: '{fields[0]} {fields[1]}', '{fields[0]} {fields[2]}', ..."
        raise UserError(
            f"{place}: {len(fields)} columns in {shown}; expected two, 'user item'{several}"
        )
    if not all(field.isdigit() for field in fields):
        header = (
            "a header has no place here, and "
            if may_be_header and not any(map(_has_digit, fields))
            else ""
        )
        raise UserError(
            f"{place}: {shown} is not two whole numbers; {header}string ids go in a .tsv with a header"
        )
    digits = [field.lstrip("0") for field in fields]
    if "" in digits:
        raise UserError(f"{place}: id 0 in {shown}; ids of this format start at 1")
    # Python refuses to parse numbers of more than 4,300 digits
    if any(len(number) > 19 or int(number) > np.iinfo(np.int64).max for number in digits):
        raise UserError(
            f"{place}: an id in {shown} is beyond 64 bits; string ids go in a .tsv with a header"
        )
    return int(digits[0]), int(digits[1])


def _is_item_list(fields: Sequence[str | bytes]) -> bool:
    """Whether a line may be a user with all items of that user."""
    return len(fields) > 2 and all(field.isdigit() and len(field) < 20 for field in fields)


def _has_digit(field: str) -> bool:
    return any(character.isdigit() for character in field)


def _listing(folder: pathlib.Path) -> str:
    return first_of(sorted(entry.name for entry in folder.iterdir()), 8, 255) or "nothing"
