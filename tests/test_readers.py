"""Interactions and items: the same in every format."""

import pathlib
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_jax.data.attributes import read_attributes
from grasp_jax.data.log import build_log
from tests.logs import read_log
from tests.tables import COLUMNS, TABLES, write_table

ROWS = [("b", "x", 3, 5.0), ("a", "y", 2, 4.0), ("a", "z", 1, 1.0), ("a", "x", 2, 3.0)]


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
    assert log.fingerprint == plain.fingerprint
    assert log.timestamps is not None and log.timestamps.tolist() == [101, 103, 104, 100, 102]


def test_fingerprint_sees_the_order_within_a_user() -> None:
    """Would break the identity of data: histories in another order would share a bank and a checkpoint."""
    users, items = np.array([1, 1, 2]), np.array([5, 6, 5])
    first = build_log("first", users, items).fingerprint
    assert build_log("another name", users, items).fingerprint == first
    assert build_log("first", users, items[[1, 0, 2]]).fingerprint != first
    assert build_log("first", users, items + 1).fingerprint != first, "same rows, but other items"


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
