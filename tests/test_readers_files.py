"""Which file is read: the one that is named, or the first that a folder holds, or all parts of a folder."""

import pathlib
import shlex

import pytest

from grasp_jax.data.attributes import read_attributes
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.readers import KNOWN_NAMES, find_interactions
from grasp_jax.data.table_files import read_table
from grasp_jax.setup.sample import sample
from tests.logs import read_log
from tests.refusal import assert_names, refusal
from tests.tables import COLUMNS, write_table


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
        f"grasp-jax init {shlex.quote(str(tmp_path))}",  # or a newcomer with MovieLens would have to find four arguments
    )
    assert_names(message, parts)
    assert_names(
        refusal(read_attributes, tmp_path / "items.jsonl", "item", "item"),
        (str(tmp_path / "items.jsonl"), "no such file"),
    )


def test_a_missing_table_of_items_names_the_field_and_the_folder(tmp_path: pathlib.Path) -> None:
    """With a config for other data, a newcomer would read of a file and not learn which field names it."""
    (tmp_path / "interactions.csv").write_text("user,item\n1,2\n")
    for field in ("items_file", "users_file"):
        assert_names(
            refusal(Dataset.read, tmp_path, **{field: "gone.jsonl"}),
            (f"config.data.{field}", "gone.jsonl: no such file", "interactions.csv", "init"),
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


@pytest.mark.parametrize("bad_rows", ["refuse", "skip"])
def test_a_part_without_a_needed_column_is_refused(tmp_path: pathlib.Path, bad_rows: str) -> None:
    """A day whose job renamed a column would be lost: its rows would be read as rows without a user."""
    log = tmp_path / "interactions.parquet"
    log.mkdir()
    first = {"user": ["a", "b"], "item": ["x", "y"], "channel": ["web", "app"]}
    second = {"customer": ["c", "d"], "item": ["x", "y"]}
    for name, columns in (("2026-01", first), ("2026-02", second)):
        write_table(log / f"{name}.parquet", columns)
    message = refusal(Dataset.read, tmp_path, bad_rows=bad_rows)
    assert_names(message, ("2026-02.parquet", "no column 'user'", "customer, item", "rename"))
    columns = {
        "user": second["customer"],
        "item": second["item"],
    }  # an unneeded column may come and go
    write_table(log / "2026-02.parquet", columns)
    assert Dataset.read(tmp_path, bad_rows=bad_rows).log.num_users == 4


def test_a_part_of_the_items_without_titles_is_refused(tmp_path: pathlib.Path) -> None:
    """Its items would be read as items without a title."""
    write_table(tmp_path / "interactions.csv", {"user": ["a", "a"], "item": ["x", "y"]})
    (tmp_path / "items.parquet").mkdir()
    for name, title, item in (("1", "title", "x"), ("2", "name", "y")):
        write_table(
            tmp_path / "items.parquet" / f"{name}.parquet", {"item": [item], title: ["Oil"]}
        )
    message = refusal(Dataset.read, tmp_path, items_file="items.parquet")
    assert_names(message, ("2.parquet", "no column 'title'", "item, name"))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("2024/01/part-00000.parquet", ("rename the folder", "2024 to", "part=2024", "a copy")),
        ("000000_0", ("rename it", "ends in .parquet", "a copy")),
        ("notes.txt", ("NAME=VALUE; move it out",)),
    ],
)
def test_a_file_that_is_no_part_is_refused(
    tmp_path: pathlib.Path, name: str, remedy: tuple[str, ...]
) -> None:
    """A copy of the parts in a folder among them would be read as further rows: every purchase twice, and nobody told. Or a user would be
    told to move away a file that holds rows.
    """
    folder = tmp_path / "interactions.parquet"
    (folder / name).parent.mkdir(parents=True)
    rows = {"user": ["u1"] * 3, "item": ["x", "y", "z"], "timestamp": [1, 2, 3]}
    write_table(folder / "part-00000.parquet", rows)
    if name == "notes.txt":
        (folder / name).touch()
    else:
        write_table(tmp_path / "another.parquet", rows).rename(folder / name)
    for read in (read_table, sample, lambda path: Dataset.read(path.parent)):
        assert_names(refusal(read, folder), (str(folder / name), "not a part", *remedy))
    (folder / name).rename(tmp_path / "moved")
    (folder / "day=1" / "_temporary").mkdir(parents=True)  # of a job that was stopped
    write_table(folder / "day=1" / "_temporary" / "part-00000.parquet", rows)
    assert read_table(folder).num_rows == Dataset.read(tmp_path).log.num_interactions == 3
