"""A column with several ids in a row is refused, since a whole history would be one item; texts with blanks are ids."""

import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.logs import read_interactions, read_log
from tests.refusal import assert_names, refusal

COLUMNS = {"user": "user", "item": "item", "timestamp": "", "rating": ""}
RANDOM = np.random.default_rng(0)
HISTORIES = [RANDOM.integers(0, 40, RANDOM.integers(3, 12)).tolist() for _ in range(60)]
BOOKS = [f"{k % 3}14241{k:03}" + "0X4"[k % 3] for k in range(20)] + [
    f"B00{k}YQ6{k % 10}O" for k in range(20, 40)
]


def lists(begin: str, between: str, form: str = "") -> list[str]:
    """Each history in one text, as the fields of a TSV."""
    return [between.join(f"{begin}{item:{form}}" for item in items) for items in HISTORIES]


def write(folder: pathlib.Path, items: list[str], column: str = "item") -> pathlib.Path:
    """A log of these items, each of a user of its own."""
    other = "user" if column == "item" else "item"
    path = folder / "log.tsv"
    rows = (f"{item}\tx{place}\n" for place, item in enumerate(items))
    path.write_text(f"{column}\t{other}\n" + "".join(rows))
    return path


LISTS = {
    "of the news": (lists("N552", " ", "02"), ".str.split()"),
    "with clicks": ([text.replace(" ", "-1 ") + "-0" for text in lists("N", " ")], ".str.split()"),
    "of numbers": (lists("", " "), ".str.split()"),
    "of long numbers": ([text[:32] for text in lists("0706016", " ", "03")], ".str.split()"),
    "with commas": (lists("B0000", ",", "05"), ".str.split(',')"),
    "with both": (lists("i", ", "), "regex=True)"),
    "of Python": ([f"[{text}]" for text in lists("", ", ")], ".map(ast.literal_eval)"),
    "of tuples": ([f"({text})" for text in lists("", ", ")], ".map(ast.literal_eval)"),
    "of ids in brackets": ([f"[{text}]" for text in lists("n", ", ")], ".str.findall("),
    "of words": (["['tea', 'jam']", "['tea']", "['oil', 'tea']"], ".map(ast.literal_eval)"),
    "of one length": ([" ".join(text.split()[:3]) for text in lists("N552", " ", "02")], "split()"),
    "of Amazon": (
        [" ".join(BOOKS[int(k)] for k in text.split()) for text in lists("", " ")],
        ".str.split()",
    ),
    "of numbers and of one length": (
        [" ".join(map(str, (items * 7)[:20])) for items in HISTORIES],
        ".str.split()",
    ),
    "of NumPy": ([f"[{text}]" for text in lists("n", " ")], ".str.findall("),
    "longer than an id": (
        [" ".join([text] * 40) for text in lists("N552", " ", "02")],
        ".str.split()",
    ),
    "5 or 6 of one width": (
        [" ".join(str(10 + (k * n) % 89) for n in range(3, 8 + k % 2)) for k in range(200)],
        ".str.split()",
    ),
    **{
        f"{size} or {size + 1}, most after 10": (
            [
                " ".join(
                    map(
                        str,
                        [10 + (k % 5 == 0) * k % 89, *RANDOM.integers(10, 99, size - 1 + k % 2)],
                    )
                )
                for k in range(200)
            ],
            ".str.split()",
        )
        for size in (5, 6, 7)
    },
    "with gaps": (["", *lists("N552", " ", "02")], ".str.split()"),
}


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("column", ["item", "user"])
def test_lists_of_ids_are_refused(tmp_path: pathlib.Path, case: str, column: str) -> None:
    """Would break with a run over histories as items: nearly each is unique, and the metrics look excellent."""
    items, call = LISTS[case]
    path = write(tmp_path, items, column)
    message = refusal(read_interactions, path, "log", COLUMNS, bad_rows="skip")
    row = items.index(next(text for text in items if text)) + 1
    expected = (f"{path}: row {row} has ", f"in column {column!r}, several ids at once", call)
    assert_names(message, (*expected, "expected one id", f"frame.explode({column!r})"))
    assert ("pandas: import ast; frame[" in message) == ("ast." in call)


TEXTS = {
    "titles": ["The Matrix", "2 Fast 2 Furious", "Ocean's 11", "Alien 3 and 4", "12 Angry Men"] * 3,
    "titles of numbers": ["1 2 3", "3 2 1", "2 1 3", "The Matrix"],
    "thousands": [f"{k % 9 + 1} {k:03} {(k * 7) % 999:03}" for k in range(50)],
    "phones": [f"06 {k:02} {k * 7 % 99:02} {k * 3 % 99:02} {k + 7:02}" for k in range(50)],
    "French phones": [f"33 6 {k % 5 + 12} {k % 7 + 12} {k % 6 + 12} {k + 12}" for k in range(50)],
    **{
        f"phones with and without {code}": [
            f"{'06' if k % 5 else code} {k % 99:02} {k * 7 % 99:02} {k * 3 % 97:02} {k * 5 % 98:02}"
            for k in range(200)
        ]
        for code in ("33 6", "0033 6", "+33 6")
    },
    "numbers of persons": [
        f"{k % 2 + 1} {k % 9 + 76} {k % 12 + 10} {k % 9 + 76} {k % 7 + 240} {k + 240} {k + 10}"
        for k in range(50)
    ],
    "IBANs": [f"BE{k % 9 + 20} {k % 7:04} {k % 6:04} {k:04}" for k in range(50)],
    "compartments": [f"C{k % 9 + 10}|C{k % 7 + 10}|C{k % 8 + 10}" for k in range(500)],
    "times": [f"2024 {k % 12 + 1:02} {k % 28 + 1:02} {k % 24:02} {k:02} 00" for k in range(50)],
    "coordinates": [" ".join(str(k * n % 120) for n in (1, 3, 5, 7, 11, 13)) for k in range(50)],
    "coordinates with points": [
        " ".join(f"{k * n % 90 + 10}.856613" for n in (1, 3, 5, 7, 11, 13)) for k in range(50)
    ],
    "shop, shelf, box": [f"S{k % 3} S1{k % 7} S2{k:02}" for k in range(50)],
    "dates": [f"2024 {k % 12 + 1:02} {k % 28 + 1:02}" for k in range(50)],
    "addresses": [f"{k} Main St Apt {k % 7} 9411{k % 9}" for k in range(50)],
    "graphics cards": ["RTX 3080 Ti 12 GB", "RTX 3080 10 GB", "RTX 4090 24 GB"] * 3,
    "pairs": [f"N{k % 9} N{k % 7}" for k in range(50)],
    "a single list": [*(f"N{k}" for k in range(50)), "N1 N2 N3 N4 N5 N6 N7"],
    "names in brackets": [f"(Smith{k}, John)" for k in range(9)],
    "one name in brackets": ["[Foo, Bar]"],
    "titles in brackets": ["[Foo, Bar]", "[Bar, Foo]", "[Foo, Jam]"],
    "a single value": ["12345 12345 12345"] * 9,
    "two lists": ["[1, 2]", "[2, 1]"],
    "words": ["milk bread eggs", "bread milk jam", "eggs jam milk"],
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts_with_blanks_are_ids(tmp_path: pathlib.Path, case: str) -> None:
    """Would break a log whose ids are titles, numbers in groups, or composed of several codes."""
    log = read_log(write(tmp_path, TEXTS[case]), "log", COLUMNS)
    assert log.item_ids.tolist() == sorted(set(TEXTS[case]))


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_columns_of_lists(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break with the advice to write lists as int64 or strings, which cannot work."""
    path = tmp_path / f"log.{ending}"
    events = [[{"aid": k, "ts": 5}] for k in range(3)]
    for items, parts in (
        (
            [[1, 2], [3], [4, 5]],
            ("(row 1 is '[1, 2]')", "frame.explode('item', ignore_index=True)"),
        ),
        (events, ("pandas.json_normalize(frame.pop('item'))", "makes columns of aid, ts")),
    ):
        rows = {"user": ["a", "b", "c"], "item": items}
        if ending == "parquet":
            parquet.write_table(pa.table(rows), path)
        else:
            lines = (
                json.dumps({"user": u, "item": i}) for u, i in zip(*rows.values(), strict=True)
            )
            path.write_text("\n".join(lines))
        message = refusal(read_log, path, "log", COLUMNS)
        assert_names(message, (f"{path}: column 'item' holds lists", *parts, "one id, with a row"))
        assert "int64" not in message
