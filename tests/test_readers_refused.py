"""Faulty interactions and items are refused in one line with file, row, value and what was expected."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from grasp_jax.data.attributes import read_attributes
from tests.logs import read_log
from tests.refusal import assert_names, refusal
from tests.tables import COLUMNS, write_table

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
    "id of thousands of digits": (
        b"1 2\n" + b"9" * 5000 + b" 1\n",
        (":2: an id in '" + "9" * 20, "beyond 64 bits"),
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
    assert len(message) < len(str(path)) + 200, "a line of any length is cut in the message"


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
    remedy = "and 2 other rows have none; fill them in or drop these rows"
    path.write_text("user,item\na,x\n,x\nb,y\n,y\n,y\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS), ("row 2 has no value in column 'user'", remedy)
    )
    path.write_text("user,item\na,x\n,x\n,y\n")
    assert "and 1 other row has none" in refusal(read_log, path, "bad", COLUMNS)
    path.write_text("user,item,rating\na,x,\nb,x,5\nb,y,\na,y,\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        ("row 1 has no value in column 'rating'", remedy),
    )
    table = pa.table({"user": [None, "a", None, None], "item": ["x", "x", "y", "z"]})
    parquet.write_table(table, tmp_path / "log.parquet")
    assert_names(refusal(read_log, tmp_path / "log.parquet", "bad", COLUMNS), ("row 1", remedy))


def test_rows_without_a_value_are_counted_in_all_columns(tmp_path: pathlib.Path) -> None:
    """Somebody would drop the rows without a user, run again, and only then hear of the rows without an item or a time."""
    told = (
        "rows without a value (an empty text is none): 2 in column 'user' (the first is row 2), 1 in column 'item' (the first is row 4), "
        "1 in column 'timestamp' (the first is row 3); fill them in or drop these rows; config.data.bad_rows=skip leaves such rows out"
    )
    rows = [
        ("a", "x", 1),
        (None, "x", 2),
        ("", "y", None),
        ("b", "", 3),
        ("b", "y", 4),
        ("c", "y", 5),
    ]
    columns = {name: [row[k] for row in rows] for k, name in enumerate(("user", "item"))}
    times = [row[2] for row in rows]
    parquet.write_table(pa.table({**columns, "timestamp": times}), tmp_path / "log.parquet")
    lines = [",".join("" if value is None else str(value) for value in row) for row in rows]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,timestamp", *lines, ""]))
    for name in ("log.parquet", "log.csv"):
        assert refusal(read_log, tmp_path / name, "bad", COLUMNS) == f"{tmp_path / name}: {told}"
    # Another fault in a later column must not hide the rows without a value.
    (tmp_path / "log.csv").write_text("user,item,timestamp\n,x,soon\na,y,soon\n")
    said = refusal(read_log, tmp_path / "log.csv", "bad", COLUMNS)
    assert_names(said, ("row 1 has no value in column 'user'",))


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
        (str(path), "row 1 has 'good' in column 'rating'", "expected a finite number"),
    )
    path.write_text("user,item,rating\na,x,5\na,y,\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        (str(path), "row 2 has no value in column 'rating'"),
    )
    path.write_text("user,item,rating\na,x,1\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        (str(path), "config.data.min_rating=3", "the highest in column 'rating' is 1"),
    )
    path.write_text("user,item,rating\na,x, 5 \na,y,2\n")
    assert read_log(path, "blanks", COLUMNS, 3.0).item_ids.tolist() == ["x"], (
        "a number among blanks is a number"
    )
    path.write_text("user,item,rating\na,x,2014-01-01\n")
    assert_names(
        refusal(read_log, path, "bad", COLUMNS, 3.0),
        (str(path), "row 1", "in column 'rating'", "expected a finite number"),
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
        (str(path), "row 2", str(2**64 - 1), "beyond int64"),
    )


def test_a_column_called_at_is_not_passed_over(tmp_path: pathlib.Path) -> None:
    """Orders with ordered_at would be read in the order of the file without a word."""
    rows = {"user": ["u", "u"], "item": ["x", "y"], "ordered_at": ["2024-02-01", "2024-01-01"]}
    message = refusal(read_log, write_table(tmp_path / "log.csv", rows), "shop", COLUMNS)
    assert_names(message, ("'ordered_at' looks like one", "columns.timestamp=ordered_at"))


def test_a_json_number_that_no_float_holds(tmp_path: pathlib.Path) -> None:
    """A whole number of hundreds of digits, next to fractions, would end in a traceback."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"user": 1.5, "item": 1}\n{"user": ' + "1" * 400 + ', "item": 2}\n')
    assert_names(refusal(read_log, path, "bad", COLUMNS), (str(path), "row 2", "beyond int64"))
