"""A time column that is not configured is named and never overlooked; durations and other moments are none."""

import pathlib

import pytest

from grasp_jax import Dataset
from grasp_jax.data.time_names import TIME_NAMES, is_time_name
from tests.logs import read_log
from tests.refusal import assert_names, refusal
from tests.time_tables import COLUMNS


def test_a_missing_time_column_is_never_silent(tmp_path: pathlib.Path) -> None:
    """Would break histories silently: a misspelt or differently named time column meant the order of the file."""
    path = tmp_path / "log.csv"
    for name in ("event_time", "Time", "timestamp:float", "unixReviewTime", "Created At", "DATE"):
        path.write_text(f"user,item,{name}\n1,5,2\n1,6,1\n")
        parts = (
            str(path),
            "no column 'timestamp'",
            f"config.data.columns.timestamp={name}",
            "columns.timestamp=''",
            f"user, item, {name}",
        )
        assert_names(refusal(read_log, path, "log", COLUMNS), parts)
        log = read_log(path, "log", COLUMNS | {"timestamp": name})
        assert log.item_ids[log.items].tolist() == [6, 5]
        log = read_log(path, "log", COLUMNS | {"timestamp": ""})
        assert log.item_ids[log.items].tolist() == [5, 6] and log.timestamps is None
    path.write_text("user,item,price\n1,5,2\n1,6,1\n")
    assert read_log(path, "log", COLUMNS).timestamps is None
    message = refusal(read_log, path, "log", COLUMNS | {"timestamp": "tmie"})
    assert_names(
        message,
        (
            str(path),
            "no column 'tmie'",
            "it has user, item, price",
            "config.data.columns.timestamp",
        ),
    )


TIMES = (
    *("time_stamp", "transaction_date", "TRANSACTION_DT", "review_date", "purchaseDate"),
    *("utc_time", "utcTimestamp", "eventdate", "date_added", "start_time", "last_watch_dt"),
    *("order_purchase_timestamp", "eventTimestamp", "UTCTime", "Order Date", "order-date"),
    *(
        "purchasedAt",
        "viewed_at",
        "created_at",
        "created_utc",
        "eventTS",
        "order_day",
        "transactionDate:token",
    ),
)
OTHERS = (
    *("play_time", "watch_time", "play_time_ms", "watchTime", "duration", "timezone", "times"),
    *("timezoneOffset", "time_zone", "utc_offset", "day_of_week", "order_hour_of_day", "days"),
    *("birth_date", "releaseDate", "delivery_time", "shipping_limit_date", "time_spent"),
    *("update", "candidate", "runtime", "lifetime", "timeframe", "cat", "at", "format", "data"),
    *("same_day", "up_to_date", "one_time_purchase", "time_bin", "norm_time", "session_time"),
    *("engagement_time", "exposureTime", "reaction_time", "page_time", "video_time", "lap_time"),
    *("best_time", "show_time", "meal_time", "opening_time", "closing_time", "working_time"),
    *("bed_time", "prime_time", "releasedAt", "delivered_at", "expires_at", "registered_at"),
    *("published_at", "born_at"),
)


@pytest.mark.parametrize("name", TIMES)
def test_a_column_whose_name_has_a_word_of_time_is_named(tmp_path: pathlib.Path, name: str) -> None:
    """Tmall, Goodreads and Ta Feng would be read in the order of the file, without a word."""
    path = tmp_path / "log.csv"
    path.write_text(f"user,item,{name}\nann,A,2024-03-03\nann,B,2024-01-01\n")
    parts = (str(path), "no column 'timestamp'", f"config.data.columns.timestamp={name},")
    assert_names(refusal(Dataset.read, path), (*parts, "columns.timestamp=''"))
    log = Dataset.read(path, columns={"timestamp": name}).log
    assert log.item_ids[log.items].tolist() == ["B", "A"]


@pytest.mark.parametrize("name", OTHERS)
def test_durations_and_other_moments_are_no_times_of_interactions(
    tmp_path: pathlib.Path, name: str
) -> None:
    """Histories would be in the order of how long people watched, or a log in the order of time could not be read at once."""
    path = tmp_path / "log.csv"
    path.write_text(f"user,item,{name}\nann,A,9\nann,B,7\n")
    data = Dataset.read(path)
    assert data.log.item_ids[data.log.items].tolist() == ["A", "B"]
    assert any("no time column" in line for line in data.summary())


def test_several_columns_of_times_are_all_named(tmp_path: pathlib.Path) -> None:
    """The first of the file would be advised, which may be another moment than that of the interaction."""
    path = tmp_path / "log.csv"
    path.write_text(
        "user,item,date_added,valid_day,ts,date_updated\nann,A,3,1,2,2\nann,B,1,1,3,2\n"
    )
    parts = ("'ts' looks like one, and so may date_added, date_updated;", "timestamp=ts, or")
    assert_names(refusal(Dataset.read, path), parts)
    assert all(is_time_name(name) for name in TIME_NAMES)
