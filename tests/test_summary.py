"""The summary of the data: a few lines that count what was left out and name what was given but not used."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from grasp_jax.config import Config, DataConfig
from grasp_jax.data.attributes import SourceTexts, read_attributes
from grasp_jax.data.dataset import Dataset, load_dataset
from grasp_jax.data.log import build_log
from grasp_jax.data.read_report import ReadReport
from grasp_jax.data.summary import MOST_LINES
from tests.logs import read_log
from tests.refusal import assert_names, refusal

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
LOG = """user,item,timestamp,rating,device
ann,i1,1700000000,5,phone
ann,i2,1700086400,1,phone
ann,i3,1700172800,4,phone
ann,i4,1700259200,4,phone
bob,i1,1700000000,5,laptop
bob,i3,1700000000,5,laptop
cat,i2,1700000000,2,laptop
"""


def data_section(folder: pathlib.Path, **fields: object) -> DataConfig:
    return DataConfig().with_fields({"path": str(folder), **fields})


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "interactions.csv").write_text(LOG)
    (tmp_path / "items.csv").write_text("item,title\ni1,Soap\ni2,Balm\ni3,Oil\ni9,Brush\n")
    return tmp_path


def test_a_stranger_sees_what_was_read(folder: pathlib.Path) -> None:
    """Would break the one place where a wrong column, order or file is seen before hours of training."""
    (folder / "users.csv").write_text("user,age\nann,30\nzoe,40\n")
    (folder / "inter.jsonl").write_text("")
    (folder / "interactions.jsonl").write_text("")
    dataset = load_dataset(
        data_section(
            folder,
            items_file="items.csv",
            users_file="users.csv",
            min_rating=2.0,
            max_missing_text=0.5,
        )
    )
    lines = dataset.summary()
    text = "\n".join(lines)
    assert_names(
        text,
        (
            f"read: {folder / 'interactions.csv'} (CSV)",
            "7 rows: 3 users, 5 items",
            "user is 'user', item is 'item', timestamp is 'timestamp', rating is 'rating'",
            "not read: device",
            "order: by column 'timestamp', 2023-11-14 to 2023-11-17; interactions of a user at the same time (1)",
            "ann, i1, 2023-11-14 22:13:20",
            "1 rows rated below 2; their items still count as seen",
            "1 item was never bought",
            "1 item is not in the items table: it has no text, and is recommended unless config.recommend.listed_only=True: i4",
            "2 users are not in the users table",
            "2 users have fewer than 3 interactions: not tested (training needs 2)",
            "1 of its rows are of users without interactions",
            "not read: interactions.jsonl",
        ),
    )
    assert len(lines) <= MOST_LINES and all(len(line) <= 200 for line in lines)
    told = text.replace(str(folder), "").replace("2023", "")
    assert "phone" not in told and "30" not in told, "nothing personal but ids and times"


def test_the_first_item_without_text_is_named(folder: pathlib.Path) -> None:
    """Somebody would have to join both tables to find the item that theirs lacks."""
    (folder / "items.csv").write_text("item,title\ni2,Balm\n")
    section = data_section(folder, items_file="items.csv", max_missing_text=0.9)
    lines = load_dataset(section).summary()
    told = (
        "  3 items are not in the items table: they have no text, and are recommended unless "
        "config.recommend.listed_only=True, and config.data.max_missing_text=0.9 allows 3; the first is i1"
    )
    assert told in lines
    kept = load_dataset(section).summary(listed_only=True)
    assert (
        told.replace(
            "recommended unless config.recommend.listed_only=True",
            "not recommended (config.recommend.listed_only)",
        )
        in kept
    )
    (folder / "items.csv").write_text("item,title\ni1,Soap\ni2,Balm\ni3,Oil\ni4,Wax\n")
    assert not any("no text" in line for line in load_dataset(section).summary())


def test_the_order_of_the_file_is_said(tmp_path: pathlib.Path) -> None:
    """Would break what a user most needs to know: that nothing but the place in the file says what came first."""
    (tmp_path / "interactions.csv").write_text("user,item\nu,i\nu,j\nu,k\n")
    assert (
        "  order: as in the file (no time column)" in load_dataset(data_section(tmp_path)).summary()
    )
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\nu,i,2\nu,j,1\nu,k,3\n")
    assert (
        "  order: by column 'timestamp', 1 to 3" in load_dataset(data_section(tmp_path)).summary()
    )
    config = data_section(tmp_path)
    config = config.with_fields({"columns.timestamp": ""})
    lines = load_dataset(config).summary()
    assert (
        "  order: as in the file (config.data.columns.timestamp is empty)" in lines
        and "  not read: timestamp" in lines
    )
    (tmp_path / "inter.txt").write_text("1 5\n1 6\n1 7\n")
    config = config.with_fields({"columns.user": "client"})
    text = "\n".join(load_dataset(config).summary())
    assert_names(
        text,
        (
            "inter.txt (text",
            "order: as in the file",
            "not used: config.data.columns.user",
            "not read: interactions.csv",
        ),
    )


@pytest.mark.parametrize(
    ("times", "noted"),
    [([0, 1, 1, 0], "2 different numbers"), ([7, 7, 7, 7], "one number"), ([1, 2, 3, 4], "")],
)
def test_a_column_called_a_time_that_holds_few_numbers(
    tmp_path: pathlib.Path, times: list[int], noted: str
) -> None:
    """Histories would be in the order of a flag or of the rows, because of a name; the number of each row in a user is an order."""
    rows = [f"{user},i{k},{time}" for user in "uvw" for k, time in enumerate(times)]
    (tmp_path / "interactions.csv").write_text("\n".join(["user,item,looked_at", *rows]))
    config = data_section(tmp_path).with_fields({"columns.timestamp": "looked_at"})
    said = [line for line in load_dataset(config).summary() if "'looked_at' holds" in line]
    assert len(said) == bool(noted)
    for line in said:
        assert len(line) < 200
        is_open = f"{noted}, so the order of {3 * (4 - len({*times}))} interactions is open"
        assert_names(line, (is_open, "config.data.columns.timestamp='' takes that of the rows"))
    frame = {"user": ["u"] * 4, "item": [*"abcd"], "looked_at": times}
    lines = Dataset.from_frames(frame, columns={"timestamp": "looked_at"}).summary()
    told = "columns={'timestamp': ''} takes that of the rows"
    assert any(told in line for line in lines) == bool(noted)


def test_other_sources_have_a_summary(tmp_path: pathlib.Path) -> None:
    """Would break a start on made data that looks like a start on one's own."""
    config = DataConfig().with_fields(
        {"source": "synthetic", "synthetic.num_users": 50, "synthetic.num_items": 100}
    )
    lines = load_dataset(config).summary()
    assert "synthetic shop" in lines[0] and "50 users, 100 items" in lines[1]


def test_a_summary_is_short_whatever_was_decided() -> None:
    """Would break the screen: a table of many oddities must not push the statistics out of sight."""
    log = build_log("short", np.array([1, 1, 2]), np.array([1, 2, 3]), catalogue=np.arange(9))
    report = ReadReport(
        ("a", "b"),
        3,
        (("user", "u"),),
        tuple(f"column{k}" for k in range(50)),
        "as in the file",
        ("1, 1",),
        3,
        2.0,
        1,
        1,
        tuple(f"note {k}" for k in range(30)),
    )
    lines = Dataset(log, SourceTexts(), report).summary()
    assert (
        len(lines) <= MOST_LINES
        and max(map(len, lines)) <= 200
        and "and 42 more" in "\n".join(lines)
    )


def test_items_without_a_row_get_an_empty_text(folder: pathlib.Path) -> None:
    """Would break a nightly run for one new item, or give an item the text of another."""
    dataset = load_dataset(data_section(folder, items_file="items.csv", max_missing_text=0.25))
    assert dataset.log.item_ids.tolist() == ["i1", "i2", "i3", "i9", "i4"], (
        "the table's rows first, the rest behind them"
    )
    assert (
        dataset.texts.items is not None
        and dataset.texts.items.ids.tolist() == dataset.log.item_ids.tolist()
    )
    assert (
        dataset.texts.items.columns == {"title": ["Soap", "Balm", "Oil", "Brush", None]}
        and dataset.report.without_text == 1
    )
    message = refusal(
        load_dataset, data_section(folder, items_file="items.csv", max_missing_text=0.24)
    )
    parts = (
        "interactions.csv: row 4: item id i4",
        "1 of 4 items",
        "config.data.max_missing_text=0.24 allows 0",
        "add them there",
        "no longer sold, raise that field (their number grows every day); config.recommend.listed_only=True",
    )
    assert_names(message, parts)
    assert_names(
        refusal(load_dataset, data_section(folder, items_file="items.csv")),
        ("row 4", "max_missing_text=0.05"),
    )


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_the_share_without_text_is_a_share(share: float) -> None:
    """Would break with a limit that is none: 5 for 5 percent lets a table of other items pass."""
    message = refusal(Config.from_dict, {"data.max_missing_text": share})
    assert_names(message, ("config.data.max_missing_text", repr(share), "a share from 0 to 1"))


def test_low_ratings_are_seen_and_not_trained_on(tmp_path: pathlib.Path) -> None:
    """Would break recommendations: an item that a user hated would be recommended to them."""
    path = tmp_path / "log.csv"
    path.write_text("user,item,rating\na,x,5\na,y,1\na,y,1\nb,y,5\nb,q,1\nc,x,1\na,z,5\nb,z,2\n")
    log = read_log(path, "rated", COLUMNS, 3.0)
    assert (
        log.user_ids.tolist() == ["a", "b"]
        and log.item_ids.tolist() == ["x", "y", "z"]
        and log.num_interactions == 3
    )
    assert log.low_rated is not None and log.low_rated.dtype == np.int32
    assert log.low_rated.tolist() == [[0, 1], [1, 2]], "pairs of known users and items, each once"
    path.write_text("user,item,rating\na,x,5\nb,y,5\na,z,5\n")
    plain = read_log(path, "rated", COLUMNS, 3.0)
    assert (
        plain.low_rated is None
        and plain.fingerprint == read_log(path, "rated", COLUMNS).fingerprint
    )
    assert plain.fingerprint != log.fingerprint
    catalogue = read_log(path, "rated", COLUMNS, 3.0, np.array(["z", "y", "x"]))
    assert catalogue.low_rated is None


def test_low_ratings_with_an_items_table(tmp_path: pathlib.Path) -> None:
    """Would break the rows of low-rated pairs where the table gives the order, or has other spellings of whole numbers."""
    path = tmp_path / "log.csv"
    path.write_text("user,item,rating\n1,5,5\n1,6,1\n2,6,1\n")
    for catalogue in (np.array([6, 5]), np.array(["6", "5", "B1"])):
        log = read_log(path, "rated", COLUMNS, 3.0, catalogue)
        assert (
            log.low_rated is not None
            and log.low_rated.tolist() == [[0, 0]]
            and log.items.tolist() == [1]
        )


def test_the_title_may_have_another_name(tmp_path: pathlib.Path) -> None:
    """Would break prompts, which ask for "title", or lose a column of that name."""
    path = tmp_path / "items.csv"
    path.write_text("item,name,title\ni,Soap,Dr\n")
    table = read_attributes(path, "item", "item", "name")
    assert table.columns == {
        "title": ["Soap"],
        "other_title": ["Dr"],
    } and "'other_title'" in " ".join(table.notes)
    assert read_attributes(path, "item", "item", "title").columns == {
        "name": ["Soap"],
        "title": ["Dr"],
    }
    assert read_attributes(path, "name", "item", "name").columns == {
        "item": ["i"],
        "title": ["Soap"],
        "other_title": ["Dr"],
    }
    path.write_text("item,name\ni,Soap\n")
    message = refusal(read_attributes, path, "item", "item", "title")
    assert_names(
        message, (str(path), "no column 'title'", "it has item, name", "config.data.title_column")
    )
    assert_names(
        refusal(read_attributes, path, "asin", "item", "name"),
        ("no column 'asin'", "set config.data.items_id_column"),
    )
    assert_names(
        refusal(read_attributes, path, "id", "user"),
        ("no column 'id'", "it has item, name", "set config.data.users_id_column"),
    )


def test_a_rating_column_that_is_not_used_is_named(folder: pathlib.Path) -> None:
    """A researcher would not learn that one star counts as much as five, or which field changes that."""
    assert (
        "  not read: rating (every rating counts: config.data.min_rating is 0), device"
        in load_dataset(data_section(folder)).summary()
    )
    config = data_section(folder)
    config = config.with_fields({"columns.rating": "stars"})
    assert_names(refusal(load_dataset, config), ("no column 'stars'", "config.data.columns.rating"))


def test_a_column_of_events_that_is_not_used_is_named() -> None:
    """Views would be trained on as purchases, and among many other columns nothing would say so."""
    frame = pd.DataFrame({"user": ["ann", "ann", "bob"], "item": ["i1", "i2", "i1"]})
    frame[[f"field{k}" for k in range(9)]] = 0
    frame["event_type"] = ["view", "purchase", "cart"]
    (line,) = (
        line for line in Dataset.from_frames(frame).summary() if line.startswith("  not read")
    )
    assert line.startswith(
        "  not read: event_type (every row counts, whatever is in this column), field0, "
    )
