"""Ids are text: `007` and `7` are two users. Blanks around an id are no part of it, wherever it comes from.

A column of whole numbers, each in its usual spelling, becomes int64 and sorts as numbers do.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grasp_jax.core.errors import UserError
from grasp_jax.data.bad_rows import BadRows
from grasp_jax.data.dictionary import DictionaryColumn, dictionary_column, int64_array, int64_of
from grasp_jax.data.encoded import Encoded, encoded
from grasp_jax.data.id_lists import column_of_lists, is_list, refuse_lists
from grasp_jax.data.id_text import BLANKS, NOT_IN_IDS
from grasp_jax.data.tables import (
    SourceTable,
    beyond_int64,
    filled_text,
    is_text,
    shortened,
    text_of,
)
from grasp_jax.data.text_bytes import are_plain_ascii, ascii_strings, bytes_of_texts, lexical_order

LONGEST = 512  # characters; NumPy gives every distinct id the size of the longest
# how programs spell a missing value
MISSING_SPELLINGS = {"", "na", "n/a", "nan", "<na>", "null", "none", "nil", "#n/a", "nat", "-", "?"}
_WANTED = "ids are whole numbers or strings"
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")  # in the usual spelling


def id_column(table: SourceTable, name: str, notes: list[str] | None = None) -> np.ndarray:
    """[rows] ids of a table with an id in each row; arguments and errors as of `encoded_ids`."""
    return encoded_ids(table, name, notes).decode(slice(None))


def encoded_ids(table: SourceTable, name: str, notes: list[str] | None = None) -> Encoded:
    """Ids: int64 where every one is a whole number written in the usual way (no leading zero, within 64 bits), else str.

    Args:
      table: where from.
      name: the column.
      notes: what was decided is appended to it, in words for the user.

    Raises:
      BadRows: a row has no id, or an id that has line breaks, is too long, or spells "missing" (`nan`, `NA`, `-1`) among whole numbers.
      UserError: the ids are lists, fractions, not text, or numbers beyond int64: faults of the column, named before those of rows.
    """
    array = table.array(name)
    notes = [] if notes is None else notes
    if isinstance(array, DictionaryColumn):
        return _of_text(table, name, array, notes)
    kind = array.type
    if pa.types.is_integer(kind):
        if kind == pa.uint64():
            high = pc.fill_null(pc.greater(array, pa.scalar(2**63 - 1, pa.uint64())), False)
            if pc.any(high).as_py():
                row = high.to_numpy(zero_copy_only=False).argmax()
                raise beyond_int64(table, name, int(row), array[int(row)])
        table.check_filled(name, array)
        values: np.ndarray = array.to_numpy()
        found = encoded(values.astype(np.int64, copy=False))
        _refuse_minus_one(table, name, found)
        return found
    if is_text(kind):
        return _of_text(table, name, dictionary_column(filled_text(array)), notes)
    known = array.is_valid().to_numpy(zero_copy_only=False)
    if not known.any():
        table.check_filled(name, array)
    row = int(known.argmax()) if len(known) else 0
    first = f" (row {table.row(row)} is {shortened(array[row].as_py())})" if len(array) else ""
    if is_list(kind):
        raise column_of_lists(table, name, kind, first)
    raise UserError(
        f"{table.path}: column {name!r} has type {kind}{first}; {_WANTED}: write it as int64, without rows that lack one, or as strings"
    )


def holds_text(table: SourceTable, name: str) -> bool:
    """Whether the source says that the ids of a column are texts; CSV and TSV have no types."""
    values = table.columns[name]
    if table.is_delimited:
        return False
    if isinstance(values, list):
        return any(isinstance(value, str) for value in values)
    if isinstance(values, DictionaryColumn):
        return True
    return is_text(values.type.value_type if pa.types.is_dictionary(values.type) else values.type)


def _of_text(table: SourceTable, name: str, column: DictionaryColumn, notes: list[str]) -> Encoded:
    """The ids of a column of texts; it works on the distinct values, which are fewer than the rows."""
    if not len(column.values):
        return encoded(np.empty(0, np.int64))
    codes, found = column.codes, pc.cast(column.values, pa.large_binary())
    plain = are_plain_ascii(bytes_of_texts(found))
    longest = pc.max(pc.binary_length(found)).as_py() or 0
    try:
        text = pc.cast(found, pa.large_string())
    except pa.ArrowInvalid:
        rows = found.take(int64_array(codes.astype(np.int64)))
        text_of(table, name, pa.chunked_array([rows]))  # names the row
        raise
    if not plain:
        text = _trimmed(table, name, text, notes)
    refuse_lists(table, name, text, codes)
    if longest > LONGEST:
        _refuse_long(table, name, text, codes)
    if pc.min(pc.binary_length(text)).as_py() == 0:
        empty = pc.equal(text, "").to_numpy(zero_copy_only=False)
        _refuse_fractions(table, name, text, codes)
        raise table.no_value(empty[codes], name)
    if not plain:
        _refuse_control_characters(table, name, text, codes)
    whole = _whole_numbers(text)
    if whole is not None:
        numbers = encoded(whole)
        ids = Encoded(numbers.ids, numbers.codes[codes])
        _refuse_minus_one(table, name, ids)
        return ids
    _refuse_fractions(table, name, text, codes)
    _refuse_missing(table, name, text, codes)
    return _in_order(text, codes)


def _trimmed(table: SourceTable, name: str, text: pa.Array, notes: list[str]) -> pa.Array:
    """Texts without the blanks around them; notes that, and quotation marks around a text of CSV and TSV."""
    # elsewhere a line break is no accident of the format, and is refused
    trimmed = pc.utf8_trim_whitespace(text) if table.is_delimited else pc.utf8_trim(text, BLANKS)
    if not pc.all(pc.equal(trimmed, text)).as_py():
        notes.append(f"blanks around the fields of column {name!r} are dropped")
    if table.is_delimited and pc.any(pc.match_substring_regex(trimmed, '^".*"$')).as_py():
        notes.append(
            f"some fields of column {name!r} stand between quotation marks, which are kept as part of the id"
        )
    return trimmed


def _refuse_long(table: SourceTable, name: str, text: pa.Array, codes: np.ndarray) -> None:
    """Refuses rows `text[codes]` of more than `LONGEST` characters."""
    bad = _rows_where(pc.greater(pc.utf8_length(text), LONGEST), codes)
    if bad is None:
        return
    row = int(bad.argmax())
    shown = text[int(codes[row])].as_py()
    long = f"an id of {len(shown):,} characters in column {name!r}, {shown[:40]!r}..."
    raise BadRows(
        f"{table.path}: row {table.row(row)} has {long}; expected at most {LONGEST}; is it the right column?",
        bad,
        f"with an id of more than {LONGEST} characters in column {name!r}",
    )


def _refuse_control_characters(
    table: SourceTable, name: str, text: pa.Array, codes: np.ndarray
) -> None:
    """Refuses rows `text[codes]` with a line break or another control character."""
    bad = _rows_where(pc.match_substring_regex(text, NOT_IN_IDS), codes)
    if bad is None:
        return
    row = int(bad.argmax())
    shown = shortened(text[int(codes[row])].as_py())
    raise BadRows(
        f"{table.path}: row {table.row(row)} has {shown} in column {name!r}, with a line break or control character in it; "
        "expected an id in one line",
        bad,
        f"with a line break or control character in column {name!r}",
    )


def _rows_where(bad: pa.Array, codes: np.ndarray) -> np.ndarray | None:
    """[rows] bool, the rows whose distinct value is marked in `bad`; None if there is none."""
    if not pc.any(bad).as_py():
        return None
    marked: np.ndarray = bad.to_numpy(zero_copy_only=False)[codes]
    return marked


def _in_order(text: pa.Array, codes: np.ndarray) -> Encoded:
    """Ids whose distinct values are texts, in lexical order; some may be equal since blanks were dropped."""
    texts = bytes_of_texts(text)
    order = lexical_order(texts)
    if are_plain_ascii(texts):
        ids = ascii_strings(texts, order)
    else:
        ids = np.asarray(text.take(int64_array(order)).to_pylist(), dtype=str)
    rank = np.empty(len(order), np.int32)
    differs = ids[1:] != ids[:-1]
    if differs.all():
        rank[order] = np.arange(len(order))
    else:
        first = np.concatenate([[True], differs])
        rank[order] = np.cumsum(first) - 1
        ids = ids[first]
    return Encoded(ids, rank[codes])


def _whole_numbers(text: pa.Array) -> np.ndarray | None:
    """The numbers that the texts spell, or None if one is no number or is not in its usual spelling."""
    if _WHOLE.fullmatch(text[0].as_py()) is None:  # Arrow would name every text that is no number
        return None
    try:
        numbers = pc.cast(text, pa.int64())
    except pa.ArrowInvalid:
        return None
    if not pc.all(pc.equal(pc.cast(numbers, pa.large_string()), text)).as_py():
        return None
    return int64_of(numbers)


def _refuse_fractions(table: SourceTable, name: str, text: pa.Array, codes: np.ndarray) -> None:
    """Refuses whole numbers that a program has written as `7.0` because a value was missing; the rows are `text[codes]`."""
    if not _is_number_or_missing(text[0].as_py()):
        return  # one other value proves that the ids are texts
    whole, missing = _are_whole(text), _are_missing(text)
    fraction = pc.match_substring_regex(text, r"^-?[0-9]+\.[0-9]+$").to_numpy(zero_copy_only=False)
    if fraction.any() and (fraction | whole | missing).all():
        row = int(fraction[codes].argmax())
        shown = text[int(codes[row])].as_py()
        raise UserError(
            f"{table.path}: row {table.row(row)} has {shown!r} in column {name!r}, a number with a fraction; {_WANTED}; "
            "write it without the point (a column with missing values becomes so in pandas: drop those rows, then use int64)"
        )


def _refuse_missing(table: SourceTable, name: str, text: pa.Array, codes: np.ndarray) -> None:
    """Refuses `nan` and other spellings of a missing value among whole numbers; the rows are `text[codes]`."""
    if not _is_number_or_missing(text[0].as_py()):
        return
    whole, missing = _are_whole(text), _are_missing(text)
    if missing.any() and whole.any() and (whole | missing).all():
        row = int(missing[codes].argmax())
        shown = text[int(codes[row])].as_py()
        raise BadRows(
            f"{table.path}: row {table.row(row)} has {shown!r} in column {name!r}, whose other values are whole numbers; "
            "drop the rows without an id, or give that one a name of its own",
            missing[codes],
            f"with {shown!r} or the like in column {name!r}, whose other values are whole numbers",
        )


def _are_whole(text: pa.Array) -> np.ndarray:
    """[n] bool, which texts are whole numbers in the usual spelling."""
    found: np.ndarray = pc.match_substring_regex(text, f"^({_WHOLE.pattern})$").to_numpy(
        zero_copy_only=False
    )
    return found


def _are_missing(text: pa.Array) -> np.ndarray:
    """[n] bool, which texts spell a missing value."""
    spellings = pa.array(sorted(MISSING_SPELLINGS), pa.large_string())
    found: np.ndarray = pc.is_in(pc.utf8_lower(text), spellings).to_numpy(zero_copy_only=False)
    return found


def _is_number_or_missing(value: str) -> bool:
    """Whether a value is a number or the spelling of a missing one."""
    return _NUMBER.fullmatch(value) is not None or value.lower() in MISSING_SPELLINGS


def _refuse_minus_one(table: SourceTable, name: str, found: Encoded) -> None:
    """If -1 is the only negative id, it means "unknown". Ids that are hashes are negative half of the time."""
    negative = found.ids[found.ids < 0]
    if len(negative) == 1 and negative[0] == -1 and len(found.ids) > 1:
        unknown = found.codes == 0  # the lowest
        raise BadRows(
            f"{table.path}: row {table.row(int(unknown.argmax()))} has -1 in column {name!r}, whose other ids are not negative; "
            "-1 often means unknown: drop those rows, or give that one another id",
            unknown,
            f"with -1 in column {name!r}, whose other ids are not negative",
        )
