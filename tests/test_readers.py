"""The same interactions from every format, and refusals that name file, row, value and what was expected."""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_jax.data.attributes import read_attributes
from grasp_jax.data.log import build_log
from grasp_jax.data.readers import KNOWN_NAMES, find_interactions
from grasp_jax.data.tables import read_table
from tests.logs import read_log
from tests.refusal import assert_names, refusal

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
TABLES = ("tsv", "csv", "jsonl", "parquet")
ROWS = [("b", "x", 3, 5.0), ("a", "y", 2, 4.0), ("a", "z", 1, 1.0), ("a", "x", 2, 3.0)]


def write_table(path: pathlib.Path, columns: dict[str, Sequence[Any]]) -> pathlib.Path:
    """Writes columns in the format that the ending of `path` says."""
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix == ".parquet":
        parquet.write_table(
            pa.table({name: list(values) for name, values in columns.items()}), path
        )
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        )
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(mark.join(map(str, row)) + "\n" for row in [tuple(columns), *rows]))
    return path


def write_rows(folder: pathlib.Path, ending: str) -> pathlib.Path:
    return write_table(
        folder / f"interactions.{ending}", dict(zip(COLUMNS, zip(*ROWS, strict=True), strict=True))
    )


def test_inter_txt_needs_no_pyarrow(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare GPU machine could not train on the paper's data, or would read other pairs than pyarrow."""
    path = tmp_path / "inter.txt"
    path.write_text("3 1\n3 2\n1 2\n\n2 9\n")
    expected = read_log(path, "shop", COLUMNS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = read_log(path, "shop", COLUMNS)
    for name in ("users", "items", "user_ids", "item_ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("ending", TABLES)
def test_every_format_gives_the_log_of_inter_txt(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break if a format lost, renumbered or reordered a row: the fingerprints must be the same to the bit."""
    pairs = [(10, 3), (2, 7), (10, 1), (2, 7), (2, 3)]
    (tmp_path / "inter.txt").write_text("".join(f"{user} {item}\n" for user, item in pairs))
    plain = read_log(tmp_path / "inter.txt", "pairs", {})
    assert plain.user_ids.tolist() == [2, 10] and plain.item_ids.tolist() == [1, 3, 7]
    assert (
        plain.items.tolist() == [2, 2, 1, 1, 0]
        and plain.offsets.tolist() == [0, 3, 5]
        and plain.timestamps is None
    )
    shuffled = [(*pairs[k], 100 + k) for k in (4, 0, 2, 3, 1)]
    columns = dict(zip(("user", "item", "timestamp"), zip(*shuffled, strict=True), strict=True))
    log = read_log(write_table(tmp_path / f"log.{ending}", columns), "pairs", COLUMNS)
    assert log.fingerprint() == plain.fingerprint()
    assert log.timestamps is not None and log.timestamps.tolist() == [101, 103, 104, 100, 102]


def test_fingerprint_sees_the_order_within_a_user() -> None:
    """Would break the identity of data: histories in another order would share a bank and a checkpoint."""
    users, items = np.array([1, 1, 2]), np.array([5, 6, 5])
    first = build_log("first", users, items).fingerprint()
    assert build_log("another name", users, items).fingerprint() == first
    assert build_log("first", users, items[[1, 0, 2]]).fingerprint() != first
    assert build_log("first", users, items + 1).fingerprint() != first, "same rows, but other items"


@pytest.mark.parametrize("ending", TABLES)
def test_string_ids(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break if a format lost string ids, the time order, or the file's order of equal times."""
    log = read_log(write_rows(tmp_path, ending), "small", COLUMNS)
    assert log.user_ids.tolist() == ["a", "b"] and log.item_ids.tolist() == ["x", "y", "z"]
    assert log.items.tolist() == [2, 1, 0, 0] and log.offsets.tolist() == [0, 3, 4]
    columns = {"user": ["007", "é b", "7"], "item": ["x", "x", "y"]}
    log = read_log(write_table(tmp_path / f"odd.{ending}", columns), "odd", COLUMNS)
    assert log.user_ids.tolist() == ["007", "7", "é b"], (
        "leading zeros, blanks and letters with accents are part of an id"
    )


@pytest.mark.parametrize("ending", TABLES)
def test_min_rating(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break if the threshold itself were dropped, or times were not cut along with the rows."""
    log = read_log(write_rows(tmp_path, ending), "small", COLUMNS, min_rating=3.0)
    assert log.user_ids.tolist() == ["a", "b"] and log.item_ids.tolist() == ["x", "y"]
    assert (
        log.items.tolist() == [1, 0, 0]
        and log.timestamps is not None
        and log.timestamps.tolist() == [2, 2, 3]
    )
    assert read_log(
        tmp_path / f"interactions.{ending}", "small", COLUMNS, min_rating=4.5
    ).user_ids.tolist() == ["b"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=120
    )
)
def test_log_equals_a_stable_sort(rows: list[tuple[int, int, int]]) -> None:
    """Would break histories of any shape: grouped by user, by time within a user, by the file's order within a time."""
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    log = build_log("sorted", users, items, times)
    expected = sorted(rows, key=lambda row: (row[0], row[2]))
    assert (
        list(zip(log.user_ids[log.users], log.item_ids[log.items], log.timestamps, strict=True))
        == expected
    )
    untimed = build_log("as in the file", users, items)
    assert untimed.item_ids[untimed.items].tolist() == [
        row[1] for row in sorted(rows, key=lambda row: row[0])
    ]
    assert log.num_interactions == len(rows) == log.lengths.sum() and log.num_users == len(
        set(users.tolist())
    )


def test_items_table_gives_the_row_order(tmp_path: pathlib.Path) -> None:
    """Would break the match of embeddings and items: rows follow the table, items that nobody bought included."""
    path = tmp_path / "items.jsonl"
    path.write_text(
        '{"item": 9, "title": "nine", "tags": ["a"]}\n{"item": 4, "title": null}\n{"item": 6, "title": "six"}\n'
    )
    items = read_attributes(path, "item", "item", "title")
    assert items.ids.tolist() == [9, 4, 6] and list(items.columns["title"]) == ["nine", None, "six"]
    assert items.fields(0) == {"title": "nine", "tags": ["a"]} and items.fields(2) == {
        "title": "six",
        "tags": None,
    }
    (tmp_path / "inter.txt").write_text("1 4\n1 9\n")
    log = read_log(tmp_path / "inter.txt", "small", {}, catalogue=items.ids)
    assert log.item_ids.tolist() == [9, 4, 6] and log.items.tolist() == [1, 0]
    texts = read_log(tmp_path / "inter.txt", "small", {}, catalogue=np.array(["x", "9", "4"]))
    assert texts.items.tolist() == [2, 1], "whole numbers in one file may be strings in the other"


@pytest.mark.parametrize("ending", TABLES)
def test_items_table_in_every_format(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break if one format of the items table lost the order of rows or a column."""
    columns = {"asin": ["q", "p"], "title": ["Hand cream", "Soap"], "price": [2.5, 1.0]}
    items = read_attributes(write_table(tmp_path / f"items.{ending}", columns), "asin", "item")
    price = (
        "2.5" if ending in ("tsv", "csv") else 2.5
    )  # these hold text: a price stays as it is spelt there
    assert items.ids.tolist() == ["q", "p"] and items.fields(0) == {
        "title": "Hand cream",
        "price": price,
    }


def test_find_interactions(tmp_path: pathlib.Path) -> None:
    """Would break if another file of the folder were read than the one that was named, or than the documented order says."""
    for name in ("interactions.jsonl", "inter_time.tsv", "other.csv"):
        (tmp_path / name).write_text("")
    assert find_interactions(str(tmp_path)) == tmp_path / "inter_time.tsv"
    assert find_interactions(str(tmp_path), "other.csv") == tmp_path / "other.csv"
    assert find_interactions(str(tmp_path / "other.csv"), "ignored.csv") == tmp_path / "other.csv"
    (tmp_path / "inter.txt").write_text("")
    assert find_interactions(str(tmp_path)) == tmp_path / "inter.txt"


def test_missing_files_are_named(tmp_path: pathlib.Path) -> None:
    """Would break if a mistyped path gave a traceback, or did not say what the folder holds instead."""
    (tmp_path / "reviews.csv").write_text("")
    nowhere = str(tmp_path / "nowhere")
    assert_names(
        refusal(find_interactions, nowhere),
        ("config.data.path", nowhere, "expected a folder or an interaction file"),
    )
    message = refusal(find_interactions, str(tmp_path), "log.csv")
    assert_names(
        message,
        (
            "config.data.interactions_file",
            str(tmp_path / "log.csv"),
            "does not exist",
            "reviews.csv",
        ),
    )
    message = refusal(find_interactions, str(tmp_path))
    parts = (
        "config.data.path",
        str(tmp_path),
        *KNOWN_NAMES[:6],
        ".gz, .zst",
        "holds reviews.csv",
        "config.data.interactions_file",
    )
    assert_names(message, parts)
    assert_names(
        refusal(read_attributes, tmp_path / "items.jsonl", "item", "item"),
        (str(tmp_path / "items.jsonl"), "no such file"),
    )


BAD_PAIRS = {
    "empty file": (b"", (": the file is empty", "expected one interaction per line")),
    "blank lines": (b"\n \n", (": no interactions", "expected two whole numbers, 'user item'")),
    "letter": (b"1 2\n1 x\n", (":2: '1 x'", "not two whole numbers")),
    "header": (b"user item\n1 2\n", (":1: 'user item'", "not two whole numbers")),
    "negative": (b"1 2\n1 -2\n", (":2: '1 -2'", "not two whole numbers")),
    "fraction": (b"1 2\n1 2.0\n", (":2: '1 2.0'", "not two whole numbers")),
    "zero item": (b"1 2\n\n4 0\n", (":3: id 0 in '4 0'", "ids of this format start at 1")),
    "zero user": (b"0 1\n", (":1: id 0 in '0 1'", "ids of this format start at 1")),
    "three columns": (b"1 2\n1 2 3\n", (":2: 3 columns in '1 2 3'", "expected two, 'user item'")),
    "one column": (b"1 2\n3 4\n5\n", (":3: 1 columns in '5'", "expected two, 'user item'")),
    "commas": (b"1,2\n", (":1: 1 columns in '1,2'", "expected two, 'user item'")),
    "binary": (
        b"1 2\n\xff\xfe 3\n",
        (":2: b'\\xff\\xfe 3", "is not text", "expected two whole numbers, 'user item'"),
    ),
    "id beyond int64": (
        b"1 2\n99999999999999999999 1\n",
        (":2: an id in '" + "9" * 20, "beyond 64 bits"),
    ),
    "hexadecimal": (b"1 2\n0x10 1\n", (":2: '0x10 1'", "not two whole numbers")),
    "null bytes": (b"1 2\n\x00 5\n", (":2: '\\x00 5'", "not two whole numbers")),
    "long line": (
        b"1 2\n" + b"9" * 500 + b"\n",
        (":2: 1 columns in '" + "9" * 60 + "'", "expected two"),
    ),
}


@pytest.mark.parametrize("fault", BAD_PAIRS)
def test_faults_of_inter_txt(tmp_path: pathlib.Path, fault: str) -> None:
    """Would break if a bad line were skipped, or not named by file, line, value and what was expected."""
    content, parts = BAD_PAIRS[fault]
    path = tmp_path / "inter.txt"
    path.write_bytes(content)
    message = refusal(read_log, path, "bad", {})
    assert_names(message, (str(path), *parts))
    assert len(message) < len(str(path)) + 160, "a line of any length is cut in the message"


BAD_TABLES = {
    "empty csv": ("log.csv", b"", ("the file is empty",)),
    "empty parquet": ("log.parquet", b"", ("the file is empty",)),
    "header alone": (
        "log.csv",
        b"user,item\n",
        ("a header (user, item) and no rows", "expected one interaction"),
    ),
    "missing column": (
        "log.csv",
        b"person,item\na,x\n",
        ("no column 'user'", "it has person, item", "config.data.columns"),
    ),
    "null in csv": (
        "log.csv",
        b"user,item\n1,2\n3,\n",
        ("row 2 has no value in column 'item'", "fill it in or drop the row"),
    ),
    "null in tsv": (
        "log.tsv",
        b"user\titem\n1\t2\n3\t4\n\t5\n",
        ("row 3 has no value in column 'user'", "fill it in or drop the row"),
    ),
    "null in jsonl": (
        "log.jsonl",
        b'{"user":"a","item":"x"}\n{"user":"b"}\n',
        ("row 2 has no value in column 'item'", "fill it in"),
    ),
    "null time": (
        "log.csv",
        b"user,item,timestamp\n1,2,3\n1,2,\n",
        ("row 2 has no value in column 'timestamp'",),
    ),
    "empty string id": (
        "log.csv",
        b"user,item\na,x\nb,\n",
        ("row 2 has no value in column 'item'",),
    ),
    "too many fields": (
        "log.csv",
        b"user,item\na,x\nb,y,z\n",
        ("row 2 has 3 fields, the header 2: 'b,y,z'",),
    ),
    "too few fields": (
        "log.tsv",
        b"user\titem\na\tx\nb\n",
        ("row 2 has 1 fields, the header 2: 'b'",),
    ),
    "cut json": (
        "log.jsonl",
        b'{"user":"a","item":"x"}\n{"user":"b"\n',
        ("not a readable JSON lines table: row 2", 'b\'{"user":"b"\''),
    ),
    "json of a list": (
        "log.jsonl",
        b'{"user":"a","item":"x"}\n[1]\n',
        ("row 2 is b'[1]'", "one JSON object a line"),
    ),
    "two types": (
        "log.jsonl",
        b'{"user":"a","item":1}\n{"user":3,"item":2}\n',
        ("row 2 has a number in 'user'", "before it a string"),
    ),
    "binary json": (
        "log.jsonl",
        b'{"user":"a","item":"x"}\n{"user":"b","item":"\xff"}\n',
        ("row 2: b'\\xff\"}' is not UTF-8 text",),
    ),
    "binary header": (
        "log.tsv",
        b"us\xffer\titem\na\tx\n",
        ("the header has b'us\\xffer\\titem'", "not UTF-8 text"),
    ),
    "time of day": (
        "log.csv",
        b"user,item,timestamp\na,x,10:00:00\n",
        ("row 1 has '10:00:00' in", "a number or a date"),
    ),
    "column given twice": (
        "log.csv",
        b"user,user,item\na,x,y\n",
        ("column 'user' occurs twice", "rename one"),
    ),
    "text as parquet": ("log.parquet", b"user,item\n", ("not a readable parquet table",)),
    "binary csv": (
        "log.csv",
        b"user,item\na,x\nb,\xff\xfe\n",
        ("row 2 has b'\\xff\\xfe' in column 'item'", "not UTF-8 text"),
    ),
    "fractions as ids": (
        "log.csv",
        b"user,item\n1.5,2\n",
        ("row 1 has '1.5' in column 'user'", "ids are whole numbers or strings"),
    ),
    "words as time": (
        "log.csv",
        b"user,item,timestamp\n1,2,soon\n",
        ("row 1 has 'soon' in column 'timestamp'", "a number or a date"),
    ),
    "endless time": (
        "log.csv",
        b"user,item,timestamp\n1,2,3.5\n1,3,inf\n",
        ("row 2 has 'inf' in column 'timestamp'", "expected a number"),
    ),
    "unknown ending": (
        "log.xls",
        b"1 2\n",
        ("'.xls' is not supported", "expected .txt, .tsv, .csv, .parquet or .jsonl"),
    ),
    "no ending": (
        "log",
        b"1 2\n",
        ("'' is not supported", "expected .txt, .tsv, .csv, .parquet or .jsonl"),
    ),
}


@pytest.mark.parametrize("fault", BAD_TABLES)
def test_faults_of_tables(tmp_path: pathlib.Path, fault: str) -> None:
    """Would break if a faulty table were read in part, or the message left out the file, the value or what was expected."""
    name, content, parts = BAD_TABLES[fault]
    (tmp_path / name).write_bytes(content)
    assert_names(refusal(read_log, tmp_path / name, "bad", COLUMNS), (str(tmp_path / name), *parts))


def test_null_in_parquet_is_named_by_row(tmp_path: pathlib.Path) -> None:
    """Would break if a null id became the id "None", 0 or NaN."""
    for number, users in enumerate((["a", None], [1, None])):
        path = tmp_path / f"log{number}.parquet"
        parquet.write_table(pa.table({"user": users, "item": ["x", "y"]}), path)
        message = refusal(read_log, path, "bad", COLUMNS)
        assert_names(
            message,
            (str(path), "row 2 has no value in column 'user'", "fill it in or drop the row"),
        )


def test_all_rows_without_a_value_are_counted(tmp_path: pathlib.Path) -> None:
    """Somebody with a thousand such rows would mend one at a time."""
    path = tmp_path / "log.csv"
    mend = "and 2 other rows have none; fill them in or drop these rows"
    path.write_text("user,item\na,x\n,x\nb,y\n,y\n,y\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS), ("row 2 has no value in column 'user'", mend)
    )
    path.write_text("user,item,rating\na,x,\nb,x,5\nb,y,\na,y,\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        ("row 1 has no value in column 'rating'", mend),
    )
    table = pa.table({"user": [None, "a", None, None], "item": ["x", "x", "y", "z"]})
    parquet.write_table(table, tmp_path / "log.parquet")
    assert_names(refusal(read_log, tmp_path / "log.parquet", "bad", COLUMNS), ("row 1", mend))


def test_faults_of_ratings(tmp_path: pathlib.Path) -> None:
    """Would break if min_rating were skipped where ratings are absent, empty or words."""
    path = tmp_path / "log.csv"
    path.write_text("user,item\na,x\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        (str(path), "no column 'rating'", "it has user, item"),
    )
    path.write_text("user,item,rating\na,x,good\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        (str(path), "row 1 has 'good' in column 'rating'", "expected a number"),
    )
    path.write_text("user,item,rating\na,x,5\na,y,\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        (str(path), "row 2 has no value in column 'rating'"),
    )
    path.write_text("user,item,rating\na,x,1\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        ("no interactions were read", "expected at least one"),
    )
    path.write_text("user,item,rating\na,x, 5 \na,y,2\n")
    assert read_log(path, "blanks", COLUMNS, 3.0).item_ids.tolist() == ["x"], (
        "a number among blanks is a number"
    )
    path.write_text("user,item,rating\na,x,2014-01-01\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        (str(path), "row 1", "in column 'rating'", "expected a number"),
    )


def test_faults_of_the_items_table(tmp_path: pathlib.Path) -> None:
    """Would break if an item without text, or with two, went on to the knowledge stage."""
    path = tmp_path / "items.csv"
    for text, parts in {
        "item,title\n": ("a header (item, title) and no rows", "item a row"),
        "item,title\n1,a\n2,b\n1,c\n": ("item id 1 occurs twice", "remove one row"),
        "item,title\n1,a\n,b\n": (
            "row 2 has no value in column 'item'",
            "fill it in or drop the row",
        ),
        "item,name\n1,a\n": ("no column 'title'", "it has item, name"),
        "asin,title\n1,a\n": ("no column 'item'", "it has asin, title"),
    }.items():
        path.write_text(text)
        assert_names(refusal(read_attributes, path, "item", "item", "title"), (str(path), *parts))
    log = tmp_path / "log.csv"
    log.write_text("user,item\na,x\nb,q\nc,q\n")
    message = refusal(read_log, log, "shop", COLUMNS, catalogue=np.array(["y", "x"]))
    missing = f"{log}: row 2: item id q occurs in the interactions but not in the items table"
    parts = (missing, "1 of 2 items", "max_missing_text=0 allows 0", "config.data.items_file")
    assert_names(message, parts)
    message = refusal(read_log, log, "shop", COLUMNS, catalogue=np.array(["q", "x", "q"]))
    assert_names(message, ("item id q occurs twice in the items table", "remove one row"))


def test_rows_are_the_files_also_after_a_filter(tmp_path: pathlib.Path) -> None:
    """Would break the search for the row to mend: dropped ratings must not shift the rows that a message names."""
    path = tmp_path / "log.csv"
    path.write_text("user,item,rating\na,x,1\na,y,5\nb,q,5\n")
    assert f"{path}: row 3: item id q" in refusal(
        read_log, path, "shop", COLUMNS, 3.0, np.array(["x", "y"])
    )
    (tmp_path / "inter.txt").write_text("1 2\n")
    message = refusal(read_log, tmp_path / "inter.txt", "bad", COLUMNS, 3.0)
    assert_names(
        message, (str(tmp_path / "inter.txt"), "config.data.min_rating=3.0", "has no ratings")
    )


def test_ids_beyond_64_bits_in_parquet(tmp_path: pathlib.Path) -> None:
    """Would break with ids that wrapped around to negative numbers."""
    path = tmp_path / "log.parquet"
    parquet.write_table(
        pa.table({"user": pa.array([1, 2**64 - 1], pa.uint64()), "item": [1, 2]}), path
    )
    assert_names(
        refusal(read_log, path, "bad", COLUMNS),
        (str(path), "row 2", str(2**64 - 1), "beyond 64 bits"),
    )


def test_read_table_names_a_missing_file(tmp_path: pathlib.Path) -> None:
    """Would break if a table that vanished between two stages gave a traceback."""
    assert_names(
        refusal(read_table, tmp_path / "gone.csv"), (str(tmp_path / "gone.csv"), "no such file")
    )
    message = refusal(read_log, tmp_path / "gone.txt", "gone", COLUMNS)
    assert_names(message, (str(tmp_path / "gone.txt"), "not readable (No such file"))
    (tmp_path / "folder.csv").mkdir()
    assert_names(
        refusal(read_table, tmp_path / "folder.csv"),
        ("no such file, but a folder", "only .parquet"),
    )


def test_a_folder_of_parts_needs_no_ending(tmp_path: pathlib.Path) -> None:
    """A job's folder would have to be renamed; or a folder of pictures pass for a table."""
    for place, folder in enumerate(("orders", "orders/day=2024-01-31", "orders/day=2024-02-01")):
        (tmp_path / folder).mkdir()
        rows = {"user": [f"u{place}"] * 3, "item": ["x", "y", "z"], "timestamp": [1, 2, 3]}
        write_table(tmp_path / folder / "part-00000.parquet", rows)
    write_table(tmp_path / "orders" / "part-00001.parquet", {"user": ["u9"], "item": ["x"]})
    (tmp_path / "orders" / "part-00001.parquet").rename(tmp_path / "orders" / "_part.parquet")
    path = find_interactions(str(tmp_path), "orders")
    assert read_table(path).num_rows == 9, "a hidden file was read, or a partition was not"
    write_table(tmp_path / "orders" / "part-00001.parquet", rows)
    message = refusal(find_interactions, str(tmp_path / "orders"))
    assert_names(message, ("the folder above", "config.data.interactions_file=orders"))
    (tmp_path / "pictures").mkdir()
    assert_names(refusal(find_interactions, str(tmp_path), "pictures"), ("does not exist",))


def test_a_column_called_at_is_not_passed_over(tmp_path: pathlib.Path) -> None:
    """Orders with ordered_at would be read in the order of the file without a word."""
    rows = {"user": ["u", "u"], "item": ["x", "y"], "ordered_at": ["2024-02-01", "2024-01-01"]}
    message = refusal(read_log, write_table(tmp_path / "log.csv", rows), "shop", COLUMNS)
    assert_names(message, ("'ordered_at' looks like one", "columns.timestamp=ordered_at"))
