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

from grasp_jax.config import Config, check_workdir
from grasp_jax.config.data import REFUSE, SKIP
from grasp_jax.data import bad_rows, table_files
from grasp_jax.data.dataset import Dataset, load_dataset
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.read_report import ReadReport
from grasp_jax.workdir import claim, data_change
from tests.logs import read_interactions
from tests.refusal import assert_names, refusal
from tests.tables import COLUMNS, write_table

Row = tuple[Any, ...]
TIME = 1_700_000_000
LATE = 99_999_999_999  # seconds since 1970, in the year 5138
# what may be wrong with a row, by the format: a user, an item, a time and a rating; 7 stands for a value that is all right
EMPTY: list[Row] = [("", 7, 7, 7), (7, "", 7, 7), ("", "", 7, 7)]
NULL: list[Row] = [(None, 7, 7, 7), (7, None, 7, 7), (7, 7, None, 7), (7, 7, 7, None)]
WRONG: list[Row] = [(7, 7, 0, 7), (7, 7, 7, float("nan"))]
WORDS: list[Row] = [(7, 7, "soon", 7), (7, 7, 7, "good")]
BLANK: list[Row] = [(" ", 7, 7, 7), (7, 7, "", 7), (7, 7, 7, "")]
STRANGE: list[Row] = [("a\nb", 7, 7, 7), (7, "x" * 600, 7, 7)]
FAULTS = {
    "csv": [*EMPTY, *WRONG, *WORDS, *BLANK],
    "tsv": [*EMPTY, *WRONG, *WORDS, *BLANK],
    "jsonl": [*EMPTY, *NULL, *WRONG, WORDS[1], *STRANGE],
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
    what = "which are not two whole numbers from 1, of at most 64 bits"
    assert report.left_out == ((what, 2, "line 3"),)
    catalogue = np.array([5, 6])
    said = refusal(read_interactions, path, "pairs", COLUMNS, 0.0, catalogue, 0.0, SKIP)
    assert_names(said, ("row 6: item id 8",))


@pytest.mark.parametrize(
    "lines", ["1 5\n2 6\n3 7\n4 7 8\n", "1 5\n1 6\n2 6\n3 7\n4 7 8\n", "1 5 6\n"]
)
def test_a_file_of_lists_is_no_file_of_pairs(tmp_path: pathlib.Path, lines: str) -> None:
    """Of a file with all items of a user in a line, all users with several items would be left out."""
    path = tmp_path / "inter.txt"
    path.write_text(lines)
    number, line = len(lines.splitlines()), lines.splitlines()[-1].split()
    for what in (REFUSE, SKIP):
        said = refusal(read_interactions, path, "pairs", COLUMNS, 0.0, None, 0.0, what)
        user, *items = line
        assert_names(said, (f":{number}: 3 columns", f"'{user} {items[0]}', '{user} {items[1]}'"))
        assert "config.data.bad_rows" not in said


def test_a_line_with_several_items_in_a_file_of_pairs(tmp_path: pathlib.Path) -> None:
    """One line that a faulty program wrote would stop the run, although a row has two numbers and `skip` leaves bad rows out."""
    path = tmp_path / "inter.txt"
    path.write_text("1 5\n1 6\n2 6 7 8\n2 6\n2 7\n1 6 7\n")
    said = refusal(read_interactions, path, "pairs", COLUMNS)
    assert_names(said, (":3: 4 columns", "config.data.bad_rows=skip leaves such rows out"))
    log, report = read_interactions(path, "pairs", COLUMNS, bad_rows=SKIP)
    assert log.lengths.tolist() == [2, 2] and report.rows == 6
    what = "which are not two whole numbers from 1, of at most 64 bits"
    assert report.left_out == ((what, 2, "line 3"),)


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


BEYOND = pa.array([5, 2**63, None, 7], pa.uint64())
FLOATS = pa.array([None, 1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("ending", "users", "parts"),
    [
        ("csv", ["", "1.0", "2.0", "4"], ("row 2 has '1.0'", "without the point")),
        ("parquet", FLOATS, ("has type double (row 2 is '1.0')", "write it as int64")),
        ("frame", FLOATS, ("has type double (row 2 is '1.0')", "write it as int64")),
        ("parquet", BEYOND, ("row 2: user '9223372036854775808'", "write the column as text")),
        ("jsonl", [5, 2**63, None, 7], ("row 2: user '9223372036854775808'", "as text")),
        ("jsonl", [None, 5, 7, "a7"], ("row 4 has a string in 'user'", "a number", "one kind")),
        ("jsonl", ["a7", None, ["b"], "c"], ("row 3 has a list in 'user'", "one kind")),
    ],
)
def test_faults_of_a_column_of_ids_are_no_matter_of_rows(
    tmp_path: pathlib.Path, ending: str, users: Any, parts: tuple[str, ...]
) -> None:
    """Half of the users would be left out because their numbers are large, or somebody be told to leave out rows, and then be refused."""
    columns = {"user": users, "item": ["x", "y", None, "z"] if ending != "csv" else list("xyxz")}
    source: Any = columns
    if ending == "frame":
        source = pa.table(columns)
    elif ending == "parquet":
        source = tmp_path / "interactions.parquet"
        parquet.write_table(pa.table(columns), source)
    else:
        source = write_table(tmp_path / f"interactions.{ending}", columns)
    for what in (REFUSE, SKIP):
        said = refusal(read, source, bad_rows=what)
        assert_names(said, parts)
        assert "config.data.bad_rows" not in said


def test_times_in_the_future_are_refused_and_not_left_out(tmp_path: pathlib.Path) -> None:
    """The log would be another one next week, though no file has changed, and a stored log not the one that the reader gives."""
    for late in (LATE, "5138-11-16"):
        times = (
            [0, TIME, TIME, late]
            if late == LATE
            else ["1970-01-01", "2024-01-01", "2024-01-02", late]
        )
        columns = {"user": list("abcd"), "item": list("wxyz"), "timestamp": times}
        path = write_table(tmp_path / "interactions.csv", columns)
        for what in (REFUSE, SKIP):
            said = refusal(read, path, bad_rows=what)
            assert_names(said, ("row 4", "5138-11-16", "in the future"))
            assert "config.data.bad_rows" not in said


@pytest.mark.parametrize("few", [1, 3])
def test_two_forms_of_times_are_a_fault_of_the_column(tmp_path: pathlib.Path, few: int) -> None:
    """After a change of the format the newest rows would be left out, as if their times could not be read."""
    times = [*map(str, range(TIME, TIME + 7)), *["2024-01-31 10:00:00"] * few, "soon"]
    columns = {"user": ["a"] * len(times), "item": ["x"] * len(times), "timestamp": times}
    path = write_table(tmp_path / "interactions.csv", columns)
    for what in (REFUSE, SKIP):
        said = refusal(read, path, bad_rows=what)
        assert_names(said, ("row 8 has '2024-01-31 10:00:00'", f"row 1 '{TIME}'", "two forms"))
        assert "config.data.bad_rows" not in said


OF_LATER_ROWS = {  # lines, the first of which can be left out, and what a message says of the others
    "zones": (
        "a,i,soon\na,i,2024-01-02\nb,i,2024-01-03T00:00Z\n",
        ("row 2 has '2024-01-02'", "row 3 '2024"),
    ),
    "day or month": (
        "a,i,soon\na,i,13/01/2024\nb,i,01/13/2024\n",
        ("row 3 has '01/13", "row 2 '13/01"),
    ),
    "units": (
        f"a,i,soon\na,i,{TIME}\nb,i,{TIME}\nb,i,{TIME}000\n",
        (f"row 4 has '{TIME}000'", "mixed"),
    ),
    "late": (f"a,i,soon\na,i,{TIME}\nb,i,{LATE}\n", (f"row 3 has '{LATE}'", "in the future")),
    "open mark": (',i,5\na,i,5\nb,i,"6\nb,i,7"\n', ("row 3 has '6", "a quotation mark")),
}


@pytest.mark.parametrize("case", OF_LATER_ROWS)
def test_faults_behind_left_out_rows_name_the_row_of_the_file(
    tmp_path: pathlib.Path, case: str
) -> None:
    """Who looks for a fault would look in another row, by as many as were left out before it; `grasp-jax init` would name it too."""
    lines, parts = OF_LATER_ROWS[case]
    (tmp_path / "interactions.csv").write_text(f"user,item,timestamp\n{lines}")
    assert_names(refusal(Dataset.read, tmp_path, bad_rows=SKIP), parts)
    assert "config.data.bad_rows" not in refusal(Dataset.read, tmp_path)


def test_a_part_is_named_for_a_row_behind_left_out_ones(tmp_path: pathlib.Path) -> None:
    """A wrong file of a Parquet folder would be looked at."""
    folder = tmp_path / "interactions.parquet"
    folder.mkdir()
    rows: list[Row] = [(None, "i1", TIME, 1.0), ("a", "i1", TIME, 1.0), ("a", "i2", TIME, 1.0)]
    parquet.write_table(table_of(rows), folder / "a.parquet")
    parquet.write_table(table_of([("b", "i1", TIME, None), *rows[1:]]), folder / "b.parquet")
    report = Dataset.read(folder, bad_rows=SKIP, min_rating=0.5).report
    assert report.left_out[1][2] == "row 4 (row 1 of b.parquet)"
    parquet.write_table(table_of([("b", "i1", LATE, None), *rows[1:]]), folder / "b.parquet")
    said = refusal(Dataset.read, folder, bad_rows=SKIP)
    assert f"row 4 has '{LATE}'" in said


def test_one_reason_is_told_once(tmp_path: pathlib.Path) -> None:
    """Words and `nan` as ratings would be two lines of the summary with the same text and different numbers."""
    path = tmp_path / "interactions.csv"
    path.write_text("user,item,rating\na,x,5\na,y,nan\nb,x,good\nb,y,4\nb,z,inf\nc,x,1\n")
    found = read(path, bad_rows=SKIP, min_rating=1.0).report.left_out
    assert found == (("without a number in column 'rating'", 3, "row 2"),)


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
        assert "config.data.bad_rows" not in said, "which would not help"


@pytest.mark.parametrize("bad", [2, 3, 4])
def test_at_most_half_of_the_rows_are_left_out(tmp_path: pathlib.Path, bad: int) -> None:
    """A wrong column would pass for a small log, or for an empty one; or a run be told to leave out what it may not."""
    path = tmp_path / "interactions.csv"
    pairs = tmp_path / "inter.txt"
    path.write_text(
        "user,item,timestamp\n,y,5\n" + "a,x,soon\n" * (bad - 1) + "b,z,6\n" * (4 - bad)
    )
    pairs.write_text("x 1\n" * bad + "1 5\n" * (4 - bad))
    for source, fault in ((path, "'soon' in column 'timestamp'"), (pairs, ":1: 'x 1'")):
        if bad == 2:
            log, _ = read_interactions(source, "log", COLUMNS, 0.0, None, 0.0, SKIP)
            assert log.num_interactions == 2
            continue
        said = refusal(read_interactions, source, "log", COLUMNS, 0.0, None, 0.0, SKIP)
        assert_names(
            said, (fault, f"would leave out {bad} of 4 rows", "at most half", "right column")
        )
    if bad > 2:
        assert "config.data.bad_rows" not in refusal(read_interactions, path, "log", COLUMNS)


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
    good = [("a", "y", TIME, 1.0), ("b", "x", TIME, 1.0)] * 3
    parquet.write_table(pa.concat_tables([parquet.read_table(path), table_of(good)]), path)

    def whole(*arguments: Any) -> None:
        raise AssertionError("the whole table was read")

    monkeypatch.setattr(table_files, "_read_parquet", whole)
    log, report = read_interactions(path, "log", COLUMNS, bad_rows=SKIP)
    assert log.num_interactions == 6
    assert [count for _, count, _ in report.left_out] == [3, 3]
    said = refusal(read_interactions, path, "log", COLUMNS)
    assert_names(said, ("3 in column 'user' (the first is row 1)", "3 in column 'timestamp'"))


def test_a_run_may_continue_without_the_rows_that_it_refused(tmp_path: pathlib.Path) -> None:
    """Who follows the message on a day with one bad row would be told to use another workdir, and train again."""
    folder = tmp_path / "data"
    folder.mkdir()
    workdir = tmp_path / "run"
    options: dict[str, Any] = {"data.path": str(folder)}
    rows = [f"u{k % 5},i{k % 7}\n" for k in range(35)]
    (folder / "interactions.csv").write_text("user,item\n" + "".join(rows))
    config = Config.from_dict(options)
    claim(workdir, config, load_dataset(config.data).log)
    (folder / "interactions.csv").write_text("user,item\n,i1\n" + "".join(rows))
    assert "config.data.bad_rows=skip" in refusal(load_dataset, config.data)
    skips = Config.from_dict({**options, "data.bad_rows": SKIP})
    check_workdir(skips, workdir)
    assert not data_change(workdir, load_dataset(skips.data).log)
    (folder / "interactions.csv").write_text("user,item\n" + "".join(["u9,\n", *rows[1:]]))
    assert "has changed" in data_change(workdir, load_dataset(skips.data).log), "other rows"
    assert_names(refusal(Config.from_dict, {"data.bad_rows": "drop"}), ("refuse", "skip", "drop"))


def test_sources_without_such_rows_say_that_the_field_has_no_effect() -> None:
    """Somebody would believe that reviews without an item were left out."""
    small: dict[str, Any] = {"num_users": 20, "num_items": 100}
    assert any(
        "bad_rows=skip is not used" in line
        for line in Dataset.synthetic(**small, bad_rows=SKIP).summary()
    )
    assert not any("bad_rows" in line for line in Dataset.synthetic(**small).summary())
