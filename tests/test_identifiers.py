"""Ids are text, or whole numbers if all are written as such; two users never become one, and a missing value never becomes a user."""

import decimal
import json
import pathlib
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from grasp_jax.data.id_text import rows_by_text, trimmed
from grasp_jax.data.log import InteractionLog, rows_of
from tests.logs import read_log
from tests.refusal import assert_names, refusal

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
ENDINGS = ("csv", "tsv", "jsonl", "parquet")


def write(folder: pathlib.Path, ending: str, users: list[Any]) -> pathlib.Path:
    """A log of these users, each with item "x"; CSV and TSV hold the texts as they are."""
    path = folder / f"log.{ending}"
    if ending == "parquet":
        parquet.write_table(pa.table({"user": users, "item": ["x"] * len(users)}), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps({"user": user, "item": "x"}) + "\n" for user in users))
    else:
        mark = "\t" if ending == "tsv" else ","
        path.write_text(f"user{mark}item\n" + "".join(f"{user}{mark}x\n" for user in users))
    return path


def read(folder: pathlib.Path, ending: str, users: list[Any]) -> InteractionLog:
    return read_log(write(folder, ending, users), "ids", COLUMNS)


def test_ids_are_found_as_they_were_read(tmp_path: pathlib.Path) -> None:
    """A request for one user would be answered with the history of another, or with that of nobody."""
    log = read(tmp_path, "parquet", ["lead", "lead\u2028", " \x85 "])
    names = {log.user_ids[row]: text for text, row in log.user_rows.items()}
    assert names == {"lead": "lead", "lead\u2028": "lead\u2028", "\x85": "\x85"}
    assert trimmed("\t\u3000lead\u2028\xa0\r\n") == "lead\u2028"
    # of a model from an earlier version
    assert rows_by_text(np.array(["lead", " lead", " b"])) == {"lead": 0, "b": 2}


@pytest.mark.parametrize("ending", ENDINGS)
def test_ids_are_not_numbers(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break with users merged (7 and 007), renamed (0100000001), or turned into numbers (0x1, 12E4, 1_000)."""
    for users in (
        ["7", "007", "0007"],
        ["0100000001"],
        ["0x1", "1"],
        ["12E4"],
        ["NA", "null", "nan"],
        ["1", "x"],
        ["+1"],
        ["6,846"] * 2,
    ):
        if ending in ("csv", "tsv") and "," in users[0]:
            users = ['"6,846"', "7"] if ending == "csv" else users
        log = read(tmp_path, ending, users)
        assert log.user_ids.tolist() == sorted({user.strip('"') for user in users}), users


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_whole_numbers_are_held_as_such(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break the row order of existing data, whose ids sort as numbers, and their fingerprints."""
    log = read(tmp_path, ending, [10, 9, 0, -7, -1, 2**63 - 1])
    assert log.user_ids.dtype == np.int64 and log.user_ids.tolist() == [-7, -1, 0, 9, 10, 2**63 - 1]
    log = read(tmp_path, ending, ["18446744073709551616", "5"])
    assert log.user_ids.tolist() == ["18446744073709551616", "5"], "beyond 64 bits they are text"


KINDS = {
    "category": pa.dictionary(pa.int8(), pa.string()),
    "large category": pa.dictionary(pa.int32(), pa.large_string()),
    "view": pa.string_view(),
    "large": pa.large_string(),
    "bytes": pa.binary(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_strings_of_parquet(tmp_path: pathlib.Path, kind: str) -> None:
    """Would break files that pandas, Polars or Spark wrote: each has a type of its own for strings."""
    values: list[Any] = [b"u2", b"u1", b"u2"] if kind == "bytes" else ["u2", "u1", "u2"]
    array = (
        pa.array(values, KINDS[kind])
        if "category" not in kind
        else pa.array(values).cast(KINDS[kind])
    )
    parquet.write_table(pa.table({"user": array, "item": array}), tmp_path / "log.parquet")
    log = read_log(tmp_path / "log.parquet", "ids", COLUMNS)
    assert log.user_ids.tolist() == log.item_ids.tolist() == [
        "u1",
        "u2",
    ] and log.lengths.tolist() == [1, 2]


@pytest.mark.parametrize(
    "values",
    [[1.0, 2.0], [1.0, float("nan")], [decimal.Decimal(7), decimal.Decimal(8)], [True, False]],
    ids=str,
)
def test_numbers_with_a_fraction_are_no_ids(tmp_path: pathlib.Path, values: list[Any]) -> None:
    """Would break with user 3 and user 3.0 in two files, or with a user called nan."""
    path = tmp_path / "log.parquet"
    parquet.write_table(pa.table({"user": pa.array(values), "item": ["x", "y"]}), path)
    assert_names(
        refusal(read_log, path, "ids", COLUMNS),
        (str(path), "column 'user' has type", "row 1", "int64", "strings"),
    )


def test_missing_values_among_numbers_are_no_users(tmp_path: pathlib.Path) -> None:
    """Would break with one user of all rows that lack one: nan, NA and -1 among whole numbers, 1.0 for 1."""
    for users, parts in {
        ("1", "NA", "2"): ("row 2 has 'NA'", "other values are whole numbers"),
        ("1", "2", "nan"): ("row 3 has 'nan'", "drop the rows"),
        ("1.0", "2.0"): ("row 1 has '1.0'", "without the point"),
        ("1", "2.0", ""): ("row 2 has '2.0'", "without the point"),
        ("5", "-1", "6"): ("row 2 has -1", "means unknown"),
    }.items():
        assert_names(
            refusal(read_log, write(tmp_path, "csv", list(users)), "ids", COLUMNS),
            ("log.csv", "'user'", *parts),
        )
    message = refusal(read_log, write(tmp_path, "parquet", [5, -1]), "ids", COLUMNS)
    assert_names(message, ("log.parquet", "row 2 has -1"))


def test_json_ids(tmp_path: pathlib.Path) -> None:
    """Would break with "3" and 3 as one user, a date as a number, or ids that no file can hold."""
    assert read(tmp_path, "jsonl", ["2024-01-01", "10:00"]).user_ids.tolist() == [
        "10:00",
        "2024-01-01",
    ]
    for users, parts in (
        (["a", 3], ("row 2 has a number in 'user'", "before it a string")),
        ([1.5, 2], ("'user' has type double", "whole numbers or strings")),
        ([[1], [2]], ("'user' holds lists", "explode('user'")),
        ([2**64, 1], ("row 1", "beyond int64")),
        (["\ud800"], ("row 1", "surrogate")),
    ):
        assert_names(
            refusal(read_log, write(tmp_path, "jsonl", users), "ids", COLUMNS),
            ("log.jsonl", *parts),
        )


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_very_long_id_is_refused(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break with gigabytes: NumPy gives each id the room of the longest."""
    path = write(tmp_path, ending, ["u"] * 3000 + ["q" * 20_000])
    tracemalloc.start()
    message = refusal(read_log, path, "ids", COLUMNS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert_names(
        message, (str(path), "row 3001", "20,000 characters", "q" * 40 + "'", "at most 512")
    )
    assert len(message) < len(str(path)) + 240 and peak < 20e6
    assert read(tmp_path, ending, ["é" * 512]).user_ids.tolist() == ["é" * 512], (
        "characters, not bytes"
    )


def test_ids_are_in_one_line(tmp_path: pathlib.Path) -> None:
    """Would break with ids that --users cannot name, or that NumPy cuts off at their end; an open quotation mark looks so, too."""
    for user in ("a\nb", "a\0", "\tb\r"):
        message = refusal(read_log, write(tmp_path, "jsonl", ["u", user]), "ids", COLUMNS)
        assert_names(message, ("log.jsonl", "row 2", "'user'", "control character"))
    path = tmp_path / "log.csv"
    path.write_text('user,item\nu,"i\n5"\n')
    assert_names(
        refusal(read_log, path, "ids", COLUMNS),
        (str(path), "row 1 has 'i\\n5' in column 'item'", "quotation mark"),
    )


@pytest.mark.parametrize("letters", [False, True])
def test_rows_of_ids_are_those_of_a_dictionary(letters: bool) -> None:
    """Attributes would be given to the wrong users, or to users that a table lacks; also ids with accents, and empty tables."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(2000)
    names = np.array([f"é{n}ß" * (n % 3 + 1) for n in numbers]) if letters else numbers
    known, ids = names[:900], names[rng.permutation(2000)]
    place = {name: row for row, name in enumerate(known.tolist())}
    expected = [place.get(name, -1) for name in ids.tolist()]
    np.testing.assert_array_equal(rows_of(known, ids), expected)
    np.testing.assert_array_equal(rows_of(known, known), np.arange(900))
    assert (rows_of(known[:0], ids) == -1).all() and not len(rows_of(known, ids[:0]))
