"""`Dataset` from files, frames and the synthetic shop: equal to the bit, refused with the same words, ids unchanged."""

import dataclasses
import os
import pathlib
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from grasp_jax.config import Config, DataConfig, resolve_source
from grasp_jax.core.errors import UserError
from grasp_jax.data.dataset import Dataset, load_dataset
from grasp_jax.data.split import make_split
from grasp_jax.trials.run import open_run
from tests.refusal import assert_names, refusal

INTERACTIONS = {
    "uid": ["b", "a", "a", "a", "7", "b"],
    "item": pd.Categorical(["x", "y", "z", "x", "x", "w"]),
    "timestamp": pd.to_datetime(
        ["2024-01-03", "2024-01-02", "2024-01-01", "2024-01-02", "2024-01-05", "2024-01-04"]
    ),
    "rating": [5.0, 4.0, 1.0, 3.0, 5.0, 5.0],
}
ITEMS = {
    "item": ["z", "y", "x", "w"],
    "title": ["Soap", None, "Oil", "Wax"],
    "price": [1.5, np.nan, 2, 3],
    "tags": [["a", "b"], None, [], ["c"]],
}
USERS = {"user": ["a", "b"], "age": [30, 40]}
OPTIONS: dict[str, Any] = {"columns": {"user": "uid"}, "min_rating": 2.0, "name": "shop"}


class Stream:
    """A table of some other library, which hands out texts as views, as polars does."""

    def __init__(self, frame: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        columns = {}
        for name, values in zip(table.column_names, table.columns, strict=True):
            if pa.types.is_dictionary(values.type):
                parts = [
                    pa.DictionaryArray.from_arrays(
                        part.indices, part.dictionary.cast(pa.string_view())
                    )
                    for part in values.chunks
                ]
                values = pa.chunked_array(parts)
            elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                values = values.cast(pa.string_view())
            columns[name] = values
        self.table = pa.table(columns)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def polars(frame: pd.DataFrame) -> Any:
    return pytest.importorskip("polars").from_arrow(
        pa.Table.from_pandas(frame, preserve_index=False)
    )


FORMS = {
    "pandas": lambda frame: frame,
    "pandas, of part of the rows": lambda frame: (
        pd.concat([frame, frame]).iloc[: len(frame)].set_index(np.arange(len(frame))[::-1])
    ),
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "batches": lambda frame: pa.Table.from_pandas(frame, preserve_index=False).to_reader(2),
    "another": Stream,
    "lists": lambda frame: {name: frame[name].tolist() for name in frame},
    "arrays": lambda frame: {name: frame[name].to_numpy() for name in frame},
    "series": lambda frame: dict(frame.items()),
    "polars": polars,
}


@pytest.fixture
def files(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with the three tables as Parquet."""
    for name, columns in {"interactions": INTERACTIONS, "items": ITEMS, "users": USERS}.items():
        pd.DataFrame(columns).to_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


@pytest.mark.parametrize("form", FORMS)
def test_frames_are_as_their_files(files: pathlib.Path, form: str) -> None:
    """Would break runs that go from a notebook to the command line: another order, another id, another text."""
    expected = Dataset.read(
        files, items_file="items.parquet", users_file="users.parquet", **OPTIONS
    )
    before = sorted(files.rglob("*"))
    interactions, items, users = (
        FORMS[form](pd.DataFrame(columns)) for columns in (INTERACTIONS, ITEMS, USERS)
    )
    found = Dataset.from_frames(interactions, items, users, **OPTIONS)
    assert (
        found.fingerprint == expected.fingerprint
        and found.log.time_unit == expected.log.time_unit == "us"
    )
    for name in ("user_ids", "item_ids", "items", "offsets", "timestamps", "low_rated"):
        np.testing.assert_array_equal(getattr(found.log, name), getattr(expected.log, name))
        assert getattr(found.log, name).dtype == getattr(expected.log, name).dtype
    for kind in ("items", "users"):
        one, other = getattr(found.texts, kind), getattr(expected.texts, kind)
        assert one.columns == other.columns and one.ids.tolist() == other.ids.tolist()
    assert (found.report.used, found.report.low_rated, found.report.sample) == (
        expected.report.used,
        expected.report.low_rated,
        expected.report.sample,
    )
    assert sorted(files.rglob("*")) == before


def test_what_a_dataset_tells(files: pathlib.Path) -> None:
    """Would break the first look: one line by its name, and the report of the command line by `summary`."""
    dataset = Dataset.read(files, items_file="items.parquet", users_file="users.parquet", **OPTIONS)
    assert (
        repr(dataset)
        == "Dataset('shop': 3 users, 4 items, 5 interactions, 3 columns of items and 1 of users)"
    )
    assert f"read: {files / 'interactions.parquet'} (Parquet)" in dataset.summary()
    frame = pd.DataFrame(INTERACTIONS).rename(columns={"uid": "user"})
    assert Dataset.from_frames(frame).summary()[0] == "read: interactions frame (pandas)"
    assert repr(Dataset.from_frames(frame)).endswith("6 interactions, no texts)")
    assert any(
        "(by_hand) is not read" in line
        for line in Dataset.from_frames(frame.rename_axis("by_hand")).summary()
    )
    untimed = Dataset.from_frames(frame[["user", "item"]])
    assert "  order: as in the frame (no time column)" in untimed.summary()


def test_a_dataset_is_what_the_command_line_reads(files: pathlib.Path) -> None:
    """Would break `Recommender.fit`, which is handed either."""
    config = DataConfig().with_fields(
        {"path": str(files), "name": "shop", "min_rating": 2.0, "columns.user": "uid"}
    )
    by_flags, by_name = (
        load_dataset(config),
        Dataset.read(os.fspath(files), items_file="", users_file="", **OPTIONS),
    )
    assert by_name.fingerprint == by_flags.fingerprint and by_name.report == by_flags.report
    assert by_name.data == by_flags.data == config, "columns that are not named keep their default"
    by_file = Dataset.read(files / "interactions.parquet", items_file="", users_file="", **OPTIONS)
    assert by_file.fingerprint == by_flags.fingerprint


@pytest.mark.parametrize(
    ("given", "held"),
    [
        (["7", "8"], ["7", "8"]),
        ([7, 8], [7, 8]),
        (["007", "8"], ["007", "8"]),
        (pd.Categorical(["7", "8"]), ["7", "8"]),
    ],
)
def test_ids_stay_as_they_were_given(given: Any, held: list[Any]) -> None:
    """Would break a join of recommendations with the user's own frame: the number 7 is not the text "7"."""
    dataset = Dataset.from_frames(pd.DataFrame({"user": given, "item": given}))
    assert dataset.user_ids.tolist() == held and dataset.item_ids.tolist() == held
    table = pa.table({"user": ["7", "8"], "item": [1, 2]})
    mixed = Dataset.from_frames(table)
    assert (
        mixed.user_ids.tolist() == ["7", "8"]
        and mixed.item_ids.tolist() == [1, 2]
        and mixed.log.user_ids.tolist() == [7, 8]
    )


def test_ids_of_files_stay_as_they_were_given(tmp_path: pathlib.Path) -> None:
    """As of frames; CSV does not say what is a number, and there whole numbers are numbers."""
    (tmp_path / "interactions.jsonl").write_text(
        '{"user": "7", "item": 1}\n{"user": "8", "item": 2}\n'
    )
    dataset = Dataset.read(tmp_path)
    assert dataset.user_ids.tolist() == ["7", "8"] and dataset.item_ids.tolist() == [1, 2]
    (tmp_path / "log.csv").write_text("user,item\n7,x\n8,y\n")
    dataset = Dataset.read(tmp_path / "log.csv")
    assert dataset.user_ids.tolist() == [7, 8] and dataset.item_ids.tolist() == ["x", "y"]


ZONES = [pd.Timestamp("2024-01-01 10:00"), pd.Timestamp("2024-01-01 10:00", tz="Asia/Tokyo")]
REFUSED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "no id": (
        {"user": ["a", "b", None], "item": [1, 2, 3]},
        ("interactions frame: row 3 has no value in column 'user'", "drop the row"),
    ),
    "NaN": (
        pd.DataFrame({"user": [1, 2, np.nan], "item": [1, 2, 3]}),
        ("interactions frame: column 'user' has type double", "without rows that lack one"),
    ),
    "kinds": (
        {"user": ["a", 1], "item": [1, 2]},
        ("interactions frame: row 2 has a number in 'user'", "before it a string"),
    ),
    "objects": (
        pd.DataFrame({"user": ["a", 1], "item": [1, 2]}),
        ("interactions frame: row 2 has a number in 'user'",),
    ),
    "fractions": (
        {"user": [1.5, 2.0], "item": [1, 2]},
        ("interactions frame: column 'user' has type double", "row 1 is '1.5'"),
    ),
    "time": (
        {"user": [1, 2], "item": [1, 2], "timestamp": ["2024-01-01", "soon"]},
        (
            "interactions frame: row 2 has 'soon' in column 'timestamp'",
            "expected a number or a date",
        ),
    ),
    "moments with and without a zone": (
        pd.DataFrame({"user": [1, 2], "item": [1, 2], "timestamp": pd.Series(ZONES, dtype=object)}),
        ("interactions frame: row 1 has '2024-01-01 10:00:00'", "without a time zone", "row 2"),
    ),
    "listed moments with and without a zone": (
        {"user": [1, 2], "item": [1, 2], "timestamp": ZONES[::-1]},
        ("interactions frame: row 2 has '2024-01-01 10:00:00'", "without a time zone", "row 1"),
    ),
    "no column": (
        {"uid": [1], "item": [1]},
        ("interactions frame: no column 'user'", "it has uid, item", "columns={'user': NAME}"),
    ),
    "no columns": ({}, ("interactions frame: no column 'user'",)),
    "no rows": (
        pd.DataFrame({"user": [], "item": []}),
        ("interactions frame: no interactions were read",),
    ),
    "twice": (
        pd.DataFrame([[1, 2, 3]], columns=["user", "user", "item"]),
        ("interactions frame: column 'user' occurs twice",),
    ),
    "lengths": (
        {"user": [1, 2], "item": [1]},
        ("interactions frame: column 'item' has 1 rows, column 'user' 2",),
    ),
    "objects of no kind": (
        {"user": [object()], "item": [1]},
        ("interactions frame: column 'user' is not readable", "or drop it"),
    ),
    "a column of nothing": (
        {"user": 5, "item": [1]},
        ("interactions frame: column 'user' is not readable",),
    ),
    "a list": (
        [1, 2],
        (
            "interactions frame: an object of type list",
            "expected a pandas, polars or pyarrow table",
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_frames_are_refused_by_frame_and_row(case: str) -> None:
    """Would end in a traceback out of another library, which says nothing of the frame."""
    frame, parts = REFUSED[case]
    assert_names(refusal(Dataset.from_frames, frame), parts)


def test_bad_texts_are_refused_by_frame_and_row() -> None:
    """A message says whether it is about the frame of items or that of users."""
    log = {"user": [1, 2], "item": ["x", "y"]}
    refused = [
        (
            {"items": {"item": ["x", "x"], "title": ["a", "b"]}},
            ("items frame: item id x occurs twice",),
        ),
        (
            {"items": {"item": ["x"], "title": ["a"]}},
            ("interactions frame: row 2: item id y", "config.data.max_missing_text=0.05"),
        ),
        (
            {"items": {"item": ["x", "y"]}},
            ("items frame: no column 'title'", "title_column=NAME"),
        ),
        ({"users": {"user": [], "age": []}}, ("users frame: the users table has no rows",)),
        ({"path": "folder"}, ("config.data.path: given with frames", "leave it out")),
        ({"source": "amazon"}, ("config.data.source: given with frames",)),
    ]
    for options, parts in refused:
        assert_names(refusal(Dataset.from_frames, log, **options), parts)
    for options in (
        {"colums": {"user": "uid"}},
        {"columns": {"usr": "uid"}},
        {"min_rating": "high"},
    ):
        assert_names(refusal(Dataset.from_frames, log, **options), ("config.data",))
    assert_names(refusal(Dataset.read), ("config.data.path is empty",))


def test_ratings_that_are_all_too_low_are_named() -> None:
    """The message would be that no interactions were read, and send people to their file instead of the field."""
    log = {"user": [1, 2], "item": ["x", "y"], "rating": [1.0, 3.0]}
    parts = ("config.data.min_rating=9", "'rating'", "is 3", "lower that field")
    assert_names(refusal(Dataset.from_frames, log, min_rating=9.0), parts)


def test_other_libraries_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break where pandas or polars is not installed: only who hands over a frame of theirs needs them."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    assert (
        Dataset.from_frames(pa.table({"user": [1, 2], "item": ["x", "y"]})).log.num_interactions
        == 2
    )
    assert Dataset.from_frames({"user": [1, 2], "item": ["x", "y"]}).log.num_interactions == 2


def test_the_synthetic_shop() -> None:
    """Would break the five lines that need no data of one's own, or let its users' texts tell what the split hides."""
    shop = Dataset.synthetic(
        num_users=40, num_items=120, seed=1, mean_length=5.0, name="five lines"
    )
    assert (
        repr(shop).startswith("Dataset('five lines': 40 users, 120 items,")
        and shop.texts.of_users is not None
    )
    fields = {"num_users": 40, "num_items": 120, "seed": 1, "mean_length": 5.0}
    assert Dataset.read(source="synthetic", synthetic=fields).fingerprint == shop.fingerprint
    timed = shop.with_split("time", "2024-02-01", "2024-03-01")
    assert (
        timed.fingerprint == shop.fingerprint
        and timed.texts.of_users != shop.texts.of_users
        and shop.data.split == "leave_one_out"
    )
    split = make_split(timed.data, timed.log)
    assert split.mode == "time" and len(split.test.evaluated)
    frame = pd.DataFrame(INTERACTIONS)
    assert Dataset.from_frames(frame, **OPTIONS).with_split("none").data.split == "none"


def test_a_run_splits_a_given_dataset_as_its_config_says(tmp_path: pathlib.Path) -> None:
    """Would train on what a run by time holds back, where the dataset was read with another split in mind."""
    shop = Dataset.synthetic(num_users=40, num_items=120)
    config = Config().with_fields(
        {"data.source": "synthetic", "data.split": "time", "eval.num_negatives": 10}
    )
    run = open_run(dataclasses.replace(config, data=shop.with_split("time").data), tmp_path, shop)
    assert run.split.mode == "time" and run.fingerprint == run.split.fingerprint != shop.fingerprint
    assert (
        run.dataset.texts.of_users == shop.with_split("time").texts.of_users != shop.texts.of_users
    )


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"path": "folder", "source": "synthetic"}, ("config.data.path: 'folder'", "leave out")),
        (
            {"source": "auto", "users_file": "u.csv"},
            ("config.data.users_file: 'u.csv'", "path too"),
        ),
        (
            {"path": "folder", "source": "amazon", "items_file": "own.csv"},
            ("config.data.items_file: 'own.csv'", "raw Amazon dumps", "leave it out"),
        ),
    ],
)
def test_files_that_a_source_does_not_read_are_refused(
    options: dict[str, Any], parts: tuple[str, ...]
) -> None:
    """Python would train on the synthetic shop where a folder was named, or without the table that was named."""
    assert_names(refusal(Dataset.read, **options), parts)
    assert_names(refusal(resolve_source, Config().with_fields({"data": options})), parts)


def test_tables_lie_in_the_folder_or_next_to_the_file(tmp_path: pathlib.Path) -> None:
    """The texts would be lost without a word where the file was named, or be looked for in a folder that nobody named."""
    log = pd.DataFrame({"user": ["a"] * 3, "item": ["x", "y", "z"]})
    (tmp_path / "logs").mkdir()
    (tmp_path / "parts.parquet").mkdir()
    log.to_csv(tmp_path / "logs" / "i.csv", index=False)
    log.to_csv(tmp_path / "log.csv", index=False)
    log.to_parquet(tmp_path / "parts.parquet" / "part-0.parquet")
    (tmp_path / "items.csv").write_text("item,title\nx,Oil\ny,Wax\nz,Soap\n")
    for path in (tmp_path / "log.csv", tmp_path / "parts.parquet"):
        assert Dataset.read(path).titles == ["Oil", "Wax", "Soap"]
        assert Dataset.read(path, items_file="").texts.items is None
    assert Dataset.read(tmp_path, interactions_file="logs/i.csv").titles[0] == "Oil"


@pytest.mark.parametrize(
    ("table", "content", "reason"),
    [
        ("items.csv", "product,title\nx,Oil\n", "no column 'item'"),
        ("items.csv", "item,title\nq,Oil\n", "item id x occurs in the interactions but not in"),
        ("users.csv", "person,age\na,30\n", "no column 'user'"),
        ("users.csv", "user,age\nq,30\n", "none of the users"),
    ],
)
def test_a_table_next_to_a_file_that_does_not_fit_is_left_out(
    tmp_path: pathlib.Path, table: str, content: str, reason: str
) -> None:
    """A file would be refused for a table that nobody named, or take texts of another file's users."""
    tmp_path = tmp_path / ("long" * 40)  # a line of the summary is cut at 200 characters
    tmp_path.mkdir()
    log, fitting = tmp_path / "log.csv", {"items.csv": "users.csv", "users.csv": "items.csv"}[table]
    log.write_text("user,item\na,x\na,y\na,z\n")
    alone = Dataset.read(log)
    (tmp_path / table).write_text(content)
    (tmp_path / fitting).write_text(
        {"users.csv": "user,age\na,30\n", "items.csv": "item,title\nz,Oil\ny,Wax\nx,Soap\n"}[
            fitting
        ]
    )
    dataset = Dataset.read(log)
    (note,) = [line for line in dataset.summary() if "is not used" in line]
    assert_names(note, (table, reason))
    used = {"items.csv": dataset.texts.items, "users.csv": dataset.texts.users}
    assert used[table] is None and used[fitting] is not None
    settings = {"items.csv": dataset.data.items_file, "users.csv": dataset.data.users_file}
    assert settings == {table: "", fitting: fitting}
    if table == "items.csv":
        assert dataset.fingerprint == alone.fingerprint
    else:
        assert dataset.titles == ["Oil", "Wax", "Soap"]
    field = f"{table.removesuffix('.csv')}_file"
    if reason != "none of the users":
        assert_names(refusal(Dataset.read, log, **{field: table}), (reason,))
    log.write_text("user,thing\na,x\n")
    assert_names(refusal(Dataset.read, log), ("log.csv", "no column 'item'"))


def test_a_fingerprint_of_ids_that_are_objects() -> None:
    """The addresses of the ids would count, so that the same data have another fingerprint each time."""
    log = Dataset.from_frames({"user": ["a", "a", "b"], "item": ["ox", "oy", "ox"]}).log

    def with_ids(ids: list[str]) -> str:
        own = np.array(["".join(list(name)) for name in ids], object)  # strings of its own
        return dataclasses.replace(log, item_ids=own).fingerprint

    assert with_ids(["ox", "oy"]) == log.fingerprint != with_ids(["ox", "ow"])


def test_tables_of_a_folder_are_found(tmp_path: pathlib.Path) -> None:
    """The five lines of the README would refuse a method with text, though the folder holds the items' titles."""
    (tmp_path / "interactions.csv").write_text("user,item\na,x\na,y\na,z\nb,x\nb,y\nb,z\n")
    (tmp_path / "items.csv").write_text("item,title\nx,Soap\ny,Oil\nz,Wax\n")
    shop = Dataset.read(tmp_path)
    assert shop.titles == ["Soap", "Oil", "Wax"] and shop.data.items_file == "items.csv"
    assert Dataset.read(tmp_path, items_file="").texts.items is None
    (tmp_path / "items.csv").write_text("item,title,brand\nx,Soap,Acme\ny,,Acme\nz,Wax,Acme\n")
    assert Dataset.read(tmp_path).titles == ["Soap", "y", "Wax"], "people need to see something"
    (tmp_path / "items.csv").write_text("item,title\nx,Soap\ny,Oil\nz,Wax\n")
    (tmp_path / "items.jsonl").write_text('{"item": "x", "title": "Balm"}\n')
    assert Dataset.read(tmp_path).texts.items is None, "which of the two is meant?"
    assert Dataset.read(tmp_path, items_file="items.csv").titles == shop.titles


def test_blanks_around_ids_are_dropped_as_in_files() -> None:
    """A user would be two in frames and one in CSV, and the service would not find the one with the blank."""
    users, items = [" lead", "lead", "trail "], ["x", " y", "x"]
    dataset = Dataset.from_frames({"user": users, "item": items})
    assert dataset.user_ids.tolist() == ["lead", "trail"]
    assert dataset.item_ids.tolist() == ["x", "y"]
    assert any("blanks around the fields of column 'user'" in line for line in dataset.summary())


def test_a_table_in_place_of_a_folder_is_refused() -> None:
    """A notebook would show an error of Python that names no way out."""
    with pytest.raises(UserError, match=r"a dict; expected a folder or a file.*from_frames"):
        Dataset.read({"user": [1], "item": [2]})  # type: ignore[arg-type]
