"""Rows that cannot be used: refused with a line that says how to leave them out, or left out, counted and named."""

import dataclasses
import pathlib
import random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from grasp_jax.config import Config, check_workdir, identity, save_config
from grasp_jax.config.data import REFUSE, SKIP
from grasp_jax.data import bad_rows, tables
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.readers import read_interactions
from grasp_jax.data.summary import ReadReport
from tests.refusal import assert_names, refusal
from tests.tables import COLUMNS, write_table

Row = tuple[Any, ...]
TIME = 1_700_000_000
LATE = 99_999_999_999  # seconds since 1970, in the year 5138
# what may be wrong with a row, by the format: a user, an item, a time and a rating; 7 stands for a value that is all right
EMPTY: list[Row] = [("", 7, 7, 7), (7, "", 7, 7), ("", "", 7, 7)]
NULL: list[Row] = [(None, 7, 7, 7), (7, None, 7, 7), (7, 7, None, 7), (7, 7, 7, None)]
WRONG: list[Row] = [(7, 7, 0, 7), (7, 7, LATE, 7), (7, 7, 7, float("nan"))]
WORDS: list[Row] = [(7, 7, "soon", 7), (7, 7, 7, "good")]
BLANK: list[Row] = [(" ", 7, 7, 7), (7, 7, "", 7), (7, 7, 7, "")]
STRANGE: list[Row] = [("a\nb", 7, 7, 7), (7, "x" * 600, 7, 7)]
FAULTS = {
    "csv": [*EMPTY, *WRONG, *WORDS, *BLANK],
    "tsv": [*EMPTY, *WRONG, *WORDS, *BLANK],
    "jsonl": [*EMPTY, *NULL, *WRONG, *WORDS, (["a"], 7, 7, 7), (7, 7, 2**70, 7), *STRANGE],
    "parquet": [*EMPTY, *NULL, *WRONG, *STRANGE],
    "parts": [*EMPTY, *NULL, *WRONG, *STRANGE],
    "frame": [*EMPTY, *NULL, *WRONG, *STRANGE],
}


def good_rows(count: int, rng: random.Random, whole: bool) -> list[Row]:
    """Users, items, times with ties, ratings; ids are whole numbers or texts."""
    name = str if whole else "k{}".format
    return [
        (name(rng.randrange(9)), name(rng.randrange(20)), TIME + rng.randrange(50), rng.random())
        for _ in range(count)
    ]


def table_of(rows: list[Row]) -> pa.Table:
    users, items, times, ratings = (list(column) for column in zip(*rows, strict=True))
    columns = {"user": pa.array(users, pa.string()), "item": pa.array(items, pa.string())}
    columns |= {"timestamp": pa.array(times, pa.int64()), "rating": pa.array(ratings, pa.float64())}
    return pa.table(columns)


def written(folder: pathlib.Path, kind: str, rows: list[Row]) -> pathlib.Path | pa.Table:
    """The rows in a format; a folder of parts has three."""
    folder.mkdir()
    if kind == "frame":
        return table_of(rows)
    if kind == "parquet":
        parquet.write_table(table_of(rows), folder / "interactions.parquet")
    elif kind == "parts":
        (folder / "interactions.parquet").mkdir()
        third = -(-len(rows) // 3)
        for part in range(3):
            of_part = table_of(rows)[part * third : (part + 1) * third]
            parquet.write_table(of_part, folder / "interactions.parquet" / f"part-{part}.parquet")
    else:
        columns = dict(zip(COLUMNS, (list(one) for one in zip(*rows, strict=True)), strict=True))
        return write_table(folder / f"interactions.{kind}", columns)
    return folder / "interactions.parquet"


def read(source: pathlib.Path | pa.Table, **options: Any) -> Dataset:
    if isinstance(source, pa.Table):
        return Dataset.from_frames(source, **options)
    return Dataset.read(source, **options)


def assert_same_log(found: InteractionLog, expected: InteractionLog) -> None:
    for field in dataclasses.fields(InteractionLog):
        own, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            assert own.dtype == other.dtype, field.name
            np.testing.assert_array_equal(own, other)
        else:
            assert own == other, field.name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_left_is_what_a_cleaned_source_gives(
    tmp_path: pathlib.Path, kind: str, seed: int
) -> None:
    """A row too many or too few would be left out, or ids and times of a bad row change what is made of the others."""
    rng = random.Random(f"{kind}{seed}")
    clean = good_rows(200, rng, whole=seed == 1)
    dirty: list[Row] = list(clean)
    for fault in FAULTS[kind]:
        for _ in range(rng.randrange(1, 4)):
            whole = good_rows(1, rng, whole=seed == 1)[0]
            row = tuple(own if bad == 7 else bad for bad, own in zip(fault, whole, strict=True))
            dirty.insert(rng.randrange(len(dirty)), row)
    of_dirty = written(tmp_path / "dirty", kind, dirty)
    of_clean = written(tmp_path / "clean", kind, clean)
    found, expected = (
        read(source, bad_rows=SKIP, min_rating=0.3) for source in (of_dirty, of_clean)
    )
    assert_same_log(found.log, expected.log)
    assert found.fingerprint == expected.fingerprint and expected.report.left_out == ()
    assert found.report.low_rated == expected.report.low_rated > 0
    assert sum(count for _, count, _ in found.report.left_out) == len(dirty) - len(clean)
    assert found.report.rows == len(dirty)
    said = refusal(read, of_dirty, min_rating=0.3)
    assert said.endswith("; config.data.bad_rows=skip leaves such rows out")


def test_every_reason_is_told_with_its_number_and_its_first_row(tmp_path: pathlib.Path) -> None:
    """Somebody would train on half of the log and not know it, or not find the rows that were left out."""
    folder = tmp_path / "interactions.parquet"
    folder.mkdir()
    rows = [(f"u{k % 3}", f"i{k}", TIME + k, 1.0) for k in range(10)]
    first = [rows[0], (None, "i1", TIME, 1.0), *rows[2:]]
    second = [("u1", "", TIME, 1.0), *rows[1:4], (None, None, 0, 1.0), ("u2", "i9", 0, 1.0)]
    for name, held in (("a", first), ("b", second)):
        parquet.write_table(table_of(held), folder / f"{name}.parquet")
    dataset = Dataset.read(folder, bad_rows=SKIP)
    assert dataset.report.left_out == (
        ("without a value in column 'user'", 2, "row 2 (row 2 of a.parquet)"),
        ("without a value in column 'item'", 1, "row 11 (row 1 of b.parquet)"),
        ("with a time before 1990 in column 'timestamp'", 1, "row 16 (row 6 of b.parquet)"),
    )
    assert_names(
        "\n".join(dataset.summary()),
        (
            "  16 rows: 3 users, 10 items",
            "  left out: 2 of 16 rows, without a value in column 'user'; the first is row 2 (row 2 of a.parquet)",
            "  left out: 1 of 16 rows, with a time before 1990 in column 'timestamp'; the first is row 16",
        ),
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_of_ratings_that_is_not_read(tmp_path: pathlib.Path, ending: str) -> None:
    """A column that is named and has no effect would end in a traceback, for it is not there when rows are left out."""
    columns = {"user": ["a", "", "b"], "item": ["x", "y", "z"], "stars": [1, 2, 3]}
    path = write_table(tmp_path / f"interactions.{ending}", columns)
    dataset = Dataset.read(path, bad_rows=SKIP, columns={"rating": "stars"})
    assert dataset.log.num_interactions == 2 and dataset.report.left_out[0][1] == 1
    assert "row 2 has no value" in refusal(Dataset.read, path, columns={"rating": "stars"})


def test_many_reasons_stay_few_lines() -> None:
    """A log with ten kinds of faults would push the rest of the summary off the screen, or a reason be dropped without a sign."""
    left_out = tuple((f"with fault {k}", k + 1, f"row {k}") for k in range(9))
    log = Dataset.from_frames({"user": ["a"], "item": ["x"]})
    report = ReadReport(rows=99, left_out=left_out)
    lines = [line for line in dataclasses.replace(log, report=report).summary() if "left" in line]
    assert len(lines) == 4 and lines[0].startswith("  left out: 1 of 99 rows, with fault 0")
    assert "with fault 4" in lines[3] and lines[3].endswith(" ...")


def test_a_file_of_pairs(tmp_path: pathlib.Path) -> None:
    """The field would be without effect for one format, and a later message name a row that is another one."""
    path = tmp_path / "inter.txt"
    path.write_text("1 5\n\n1 x\n1 6\n2\n2 6\n2 8\n")
    said = refusal(read_interactions, path, "pairs", COLUMNS)
    assert_names(said, (":3: '1 x'", "config.data.bad_rows=skip leaves such rows out"))
    log, report = read_interactions(path, "pairs", COLUMNS, bad_rows=SKIP)
    assert log.items.tolist() == [0, 1, 1, 2] and report.rows == 6
    assert report.left_out == (("which are not two whole numbers", 2, "line 3"),)
    catalogue = np.array([5, 6])
    said = refusal(read_interactions, path, "pairs", COLUMNS, 0.0, catalogue, 0.0, SKIP)
    assert_names(said, ("row 6: item id 8",))


def test_messages_about_later_rows_name_the_row_of_the_file(tmp_path: pathlib.Path) -> None:
    """Who looks for an unknown item would look in another row, by as many as were left out before it."""
    (tmp_path / "interactions.csv").write_text(
        "user,item,rating\n,i1,5\na,i1,5\na,i1,1\n,i1,5\na,i2,5\n"
    )
    (tmp_path / "items.csv").write_text("item,title\ni1,Soap\n")
    for rating in (0.0, 2.0):
        options: dict[str, Any] = {"items_file": "items.csv", "min_rating": rating}
        said = refusal(Dataset.read, tmp_path, bad_rows=SKIP, **options)
        assert_names(said, ("row 5: item id i2",))


@pytest.mark.parametrize("places", [[0], [5], [0, 1, 2], [2, 3, 7], [1, 9], list(range(1, 10))])
def test_rows_of_the_source(places: list[int]) -> None:
    """Each message after the first fault would name a wrong row."""
    left = np.setdiff1d(np.arange(10), places)
    found = bad_rows.source_rows(np.arange(len(left)), np.array(places))
    assert found.tolist() == left.tolist()


def test_unknown_ids_among_numbers(tmp_path: pathlib.Path) -> None:
    """`-1` and `nan`, which programs write for an unknown user, would become people with a long history."""
    path = tmp_path / "interactions.csv"
    for unknown in ("-1", "nan"):
        path.write_text(f"user,item\n1,5\n{unknown},5\n2,6\n{unknown},6\n")
        log, report = read_interactions(path, "log", COLUMNS, bad_rows=SKIP)
        assert log.user_ids.tolist() == [1, 2]
        (reason,) = report.left_out
        assert reason[1:] == (2, "row 2") and unknown in reason[0]
    path.write_text("user,item\n1.0,5\n,5\n2.0,6\n")
    # Ids that a program has spoilt are no matter of single rows.
    assert "number with a fraction" in refusal(
        read_interactions, path, "log", COLUMNS, 0.0, None, 0.0, SKIP
    )


@pytest.mark.parametrize(
    "row", ['"b,y,3\n{},w,3', 'b,"y,3\nc,{},3', 'b,y,"3\nc,z,{}', ',"y,3\nc,{},3', '"b,y,3\n{},,3']
)
def test_an_open_quotation_mark_is_refused_all_the_same(tmp_path: pathlib.Path, row: str) -> None:
    """The rows behind it, which the mark makes a part of one value, would be lost and not be counted."""
    path = tmp_path / "interactions.csv"
    path.write_text(f"user,item,timestamp\na,x,3\n{row.format('z' + chr(34))}\ne,v,3\n")
    for what in (REFUSE, SKIP):
        said = refusal(read_interactions, path, "log", COLUMNS, 0.0, None, 0.0, what)
        assert_names(said, ("row 2", "look for a quotation mark that is not closed"))
        assert "bad_rows" not in said, "which would not help"


def test_no_row_is_left(tmp_path: pathlib.Path) -> None:
    """A wrong column would pass for an empty log, or end in a traceback."""
    path = tmp_path / "interactions.csv"
    path.write_text("user,item,timestamp\na,x,soon\n,y,later\n")
    said = refusal(read_interactions, path, "log", COLUMNS, 0.0, None, 0.0, SKIP)
    assert_names(
        said, ("'soon' in column 'timestamp'", "with config.data.bad_rows=skip no row is left")
    )


def test_frames_with_missing_values() -> None:
    """The rows of a frame of pandas that lack a value are NaN there, not null."""
    frame = pd.DataFrame({"user": ["a", None, "b", "b"], "item": ["x", "y", np.nan, "z"]})
    dataset = Dataset.from_frames(frame, bad_rows=SKIP)
    assert dataset.user_ids.tolist() == ["a", "b"] and dataset.item_ids.tolist() == ["x", "z"]
    assert dataset.report.left_out == (
        ("without a value in column 'user'", 1, "row 2"),
        ("without a value in column 'item'", 1, "row 3"),
    )


def test_a_missing_id_is_no_reason_to_read_all_columns(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row without a user would make a log of gigabytes be read with all its columns, and only four are needed."""
    path = tmp_path / "interactions.parquet"
    parquet.write_table(table_of([(None, "x", TIME, 1.0), ("a", "x", None, 1.0)] * 3), path)
    good = [("a", "y", TIME, 1.0), ("b", "x", TIME, 1.0)]
    parquet.write_table(pa.concat_tables([parquet.read_table(path), table_of(good)]), path)

    def whole(*arguments: Any) -> None:
        raise AssertionError("the whole table was read")

    monkeypatch.setattr(tables, "_read_parquet", whole)
    log, report = read_interactions(path, "log", COLUMNS, bad_rows=SKIP)
    assert log.num_interactions == 2
    assert [count for _, count, _ in report.left_out] == [3, 3]
    said = refusal(read_interactions, path, "log", COLUMNS)
    assert_names(said, ("3 in column 'user' (the first is row 1)", "3 in column 'timestamp'"))


def test_the_field_is_part_of_what_a_run_is(tmp_path: pathlib.Path) -> None:
    """Runs on other rows would pass for runs of one config; and all earlier workdirs for those of another."""
    skips = Config.from_dict({"data.bad_rows": SKIP})
    assert "data.bad_rows" not in identity(Config())
    assert identity(skips)["data.bad_rows"] == SKIP
    save_config(Config(), tmp_path)
    said = refusal(check_workdir, skips, tmp_path)
    assert_names(said, ("data.bad_rows is 'refuse' there and 'skip' here",))
    assert_names(refusal(Config.from_dict, {"data.bad_rows": "drop"}), ("refuse", "skip", "drop"))


def test_sources_without_such_rows_say_that_the_field_has_no_effect() -> None:
    """Somebody would believe that reviews without an item were left out."""
    small: dict[str, Any] = {"num_users": 20, "num_items": 100}
    assert any(
        "bad_rows=skip is not used" in line
        for line in Dataset.synthetic(**small, bad_rows=SKIP).summary()
    )
    assert not any("bad_rows" in line for line in Dataset.synthetic(**small).summary())
