"""Times in all formats give the same order; a column without a certain order is refused with row and value."""

import datetime
import json
import pathlib
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from grasp_jax.data.tables import Table
from grasp_jax.data.time_values import Times
from grasp_jax.data.times import time_column
from tests.logs import read_log
from tests.refusal import assert_names, refusal

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
NOW = datetime.datetime(2024, 6, 1, tzinfo=datetime.UTC).timestamp()


def times_of(values: Any, kind: pa.DataType | None = None) -> Times:
    """Of a column `when` of a table, on the first of June 2024."""
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    return time_column(
        Table(pathlib.Path("log.csv"), "CSV", {"when": pa.chunked_array([array])}, len(array)),
        "when",
        NOW,
    )


def refused(values: Any, *parts: str) -> None:
    assert_names(refusal(times_of, values), ("log.csv: row ", "'when'", *parts))


DAYS = [datetime.date(2014, 1, 2), datetime.date(2014, 1, 1)] * 2
MOMENTS = [datetime.datetime(day.year, day.month, day.day, 10, 30) for day in DAYS]
SECOND = 1_000_000  # microseconds
NOON = (1388534400 + 37800) * SECOND  # 2014-01-01 10:30 UTC
DAY = 86400 * SECOND
TIMES = {
    "int64": (pa.array([7, 5, 7, 5]), [5, 5, 7, 7]),
    "uint32": (pa.array([7, 5, 7, 5], pa.uint32()), [5, 5, 7, 7]),
    "float64": (pa.array([7.5, -5.25, 7.5, -5.25]), [-5.25, -5.25, 7.5, 7.5]),
    "date32": (pa.array(DAYS, pa.date32()), [1388534400 * SECOND] * 2 + [1388620800 * SECOND] * 2),
    "date64": (pa.array(DAYS, pa.date64()), [1388534400 * SECOND] * 2 + [1388620800 * SECOND] * 2),
    "timestamp ms": (pa.array(MOMENTS, pa.timestamp("ms")), [NOON, NOON, NOON + DAY, NOON + DAY]),
    "timestamp ns": (
        pa.array(MOMENTS, pa.timestamp("ns")),
        [1000 * NOON] * 2 + [1000 * (NOON + DAY)] * 2,
    ),
    "with a zone": (
        pa.array(MOMENTS, pa.timestamp("us", tz="UTC")),
        [NOON, NOON, NOON + DAY, NOON + DAY],
    ),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_every_type_order_rows_and_ties_keep_the_files_order(
    tmp_path: pathlib.Path, kind: str
) -> None:
    """Would break the order of histories for one type of time column, or shuffle interactions of one day."""
    times, expected = TIMES[kind]
    path = tmp_path / "log.parquet"
    parquet.write_table(
        pa.table({"user": ["u"] * 4, "item": ["d", "c", "b", "a"], "timestamp": times}), path
    )
    log = read_log(path, "times", COLUMNS)
    assert log.item_ids[log.items].tolist() == ["c", "a", "d", "b"]
    assert log.timestamps is not None and log.timestamps.tolist() == expected


@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_dates_written_as_text(tmp_path: pathlib.Path, ending: str) -> None:
    """Would break if ISO dates in a text table were taken for strings, or ordered as such."""
    rows = [
        ("user", "item", "timestamp"),
        ("1", "5", "2014-01-02"),
        ("1", "6", "1999-12-31"),
        ("1", "7", "2014-01-01"),
    ]
    path = tmp_path / f"log.{ending}"
    path.write_text("".join(("\t" if ending == "tsv" else ",").join(row) + "\n" for row in rows))
    log = read_log(path, "dates", COLUMNS)
    assert log.item_ids[log.items].tolist() == [6, 7, 5]
    assert log.timestamps is not None and log.timestamps.tolist() == [
        day * SECOND for day in (946598400, 1388534400, 1388620800)
    ]


def test_order_within_a_second(tmp_path: pathlib.Path) -> None:
    """Would break the order of histories where times are finer than a second."""
    path = tmp_path / "log.csv"
    path.write_text(
        "user,item,timestamp\na,later,2014-01-01T10:00:00.9\na,first,2014-01-01T10:00:00.1\n"
    )
    log = read_log(path, "fine", COLUMNS)
    assert log.item_ids[log.items].tolist() == ["first", "later"]


FIRST = 1700471600  # 2023-11-20 09:13:20 UTC
SPELT = {
    "seconds": ("{0}", "s", 1),
    "with a point": ("{0}.000000", "s", 1),
    "exponent": ("{0}e0", "s", 1),
    "blanks": (" {0} ", "s", 1),
    "milliseconds": ("{0}000", "ms", 1000),
    "microseconds": ("{0}000000", "us", 10**6),
    "nanoseconds": ("{0}000000000", "ns", 10**9),
    "zulu": ("{1:%Y-%m-%dT%H:%M:%S}Z", "us", 10**6),
    "no zone": ("{1:%Y-%m-%d %H:%M:%S}", "us", 10**6),
    "slashes": ("{1:%Y/%m/%d %H:%M:%S}", "us", 10**6),
    "utc": ("{1:%Y-%m-%d %H:%M:%S} UTC", "us", 10**6),
    "gmt": ("{1:%Y-%m-%d %H:%M:%S} GMT", "us", 10**6),
    "offset without a colon": ("{1:%Y-%m-%d %H:%M:%S}+0000", "us", 10**6),
    "offset with blanks": ("{1:%Y-%m-%d %H:%M:%S} +00:00", "us", 10**6),
    "short offset": ("{1:%Y-%m-%d %H:%M:%S}+00", "us", 10**6),
    "micro": ("{1:%Y-%m-%d %H:%M:%S}.000000", "us", 10**6),
    "comma": ("{1:%Y-%m-%d %H:%M:%S},000", "us", 10**6),
    "dots": ("{1:%d.%m.%Y %H:%M:%S}", "us", 10**6),
    "month first": ("{1:%m/%d/%Y %H:%M:%S}", "us", 10**6),
    "day first": ("{1:%d/%m/%Y %H:%M:%S}", "us", 10**6),
    "hour of one digit": ("{1:%m/%d/%Y %-H:%M:%S}", "us", 10**6),
    "hour of one digit, year first": ("{1:%Y-%m-%d %-H:%M:%S}", "us", 10**6),
    "month and day of one digit": ("{1:%Y-%-m-%-d %-H:%M:%S}", "us", 10**6),
    "slashes, nothing padded": ("{1:%Y/%-m/%-d %-H:%M:%S}", "us", 10**6),
    "AM and PM": ("{1:%-m/%-d/%Y %-I:%M:%S %p}", "us", 10**6),
    "comma, narrow blank": ("{1:%-m/%-d/%Y, %-I:%M:%S\u202f%p}", "us", 10**6),
    "AM and PM, year first, zone": ("{1:%Y-%m-%d %I:%M:%S%p} UTC", "us", 10**6),
    "C, with a zone": ("{1:%a %b %d %H:%M:%S} +0000 {1:%Y}", "us", 10**6),
    "C, day padded with a blank": ("{1:%a %b %e %H:%M:%S %Y}", "us", 10**6),
    "name of the month": ("{1:%d-%b-%Y %-H:%M:%S}", "us", 10**6),
    "mail": ("{1:%a, %-d %B %Y %H:%M:%S} GMT", "us", 10**6),
}


@pytest.mark.parametrize("spelling", SPELT)
def test_every_spelling_gives_the_same_moments(spelling: str) -> None:
    """Would break the order of histories for one spelling of time, or put moments elsewhere."""
    pattern, unit, per_second = SPELT[spelling]
    seconds = [FIRST, FIRST - 86_400 * 12, FIRST + 3600]
    texts = [
        pattern.format(second, datetime.datetime.fromtimestamp(second, datetime.UTC))
        for second in seconds
    ]
    for kind in (
        pa.string(),
        pa.large_string(),
        pa.binary(),
        pa.dictionary(pa.int8(), pa.string()),
    ):
        found = times_of(texts if kind != pa.binary() else [text.encode() for text in texts], kind)
        assert found.unit == unit and found.values.tolist() == [
            second * per_second for second in seconds
        ]
    assert found.span() == "2023-11-08 to 2023-11-20"


def test_offsets_and_fractions_of_a_second() -> None:
    """Would break the order of moments in several zones, or of two within a millisecond."""
    texts = [
        "2023-11-20T18:13:20+09:00",
        "2023-11-20 04:13:20-05:00",
        "2023-11-20 09:13:20.5Z",
        "2023-11-20 14:58:20+0545",
    ]
    assert [value - 10**6 * FIRST for value in times_of(texts).values.tolist()] == [
        0,
        0,
        500_000,
        0,
    ]
    assert "shown in UTC" in times_of(texts).note and not times_of(texts[2:3]).note
    nanos = times_of(["2023-11-20 09:13:20.000000001", "2023-11-20 09:13:20.00000002"])
    assert nanos.unit == "ns" and [value - 10**9 * FIRST for value in nanos.values.tolist()] == [
        1,
        20,
    ]
    parquet_nanos = times_of(
        pa.array([10**9 * FIRST + 1, 10**9 * FIRST], pa.timestamp("ns", tz="Asia/Tokyo"))
    )
    assert "shown in UTC" in parquet_nanos.note  # or a reader would take them for the file's own
    assert parquet_nanos.unit == "ns" and parquet_nanos.values.tolist() == [
        10**9 * FIRST + 1,
        10**9 * FIRST,
    ]
    refused(
        ["2023-11-20T09:13:20Z", "2023-11-20T09:13:20"], "row 2", "without a time zone", "row 1"
    )


def test_the_forms_of_public_data_sets() -> None:
    """Online Retail would lose its mornings; Goodreads, Foursquare and MIND would be read in the order of the file."""
    spelt = {
        ("12/1/2010 8:26", "12/13/2010 10:26"): ("2010-12-01 08:26:00", "2010-12-13 10:26:00"),
        ("1/11/2000 12:00:00 AM", "1/13/2000 12:00:00 PM"): (
            "2000-01-11 00:00:00",
            "2000-01-13 12:00:00",
        ),
        ("11/15/2019 8:55:22 AM", "11/15/2019 8:55:22 p.m."): (
            "2019-11-15 08:55:22",
            "2019-11-15 20:55:22",
        ),
        ("11/15/2019 0:05 AM", "11/15/2019 13:05 PM"): (
            "2019-11-15 00:05:00",
            "2019-11-15 13:05:00",
        ),
        ("Wed Mar 22 11:37:04 -0700 2017", "Tue Apr 03 18:00:09 +0000 2012"): (
            "2017-03-22 18:37:04",
            "2012-04-03 18:00:09",
        ),
        ("2010-1-1", "2010-10-12"): ("2010-01-01 00:00:00", "2010-10-12 00:00:00"),
        ("01-Dec-2010", "2-MAY-2011"): ("2010-12-01 00:00:00", "2011-05-02 00:00:00"),
    }
    for texts, moments in spelt.items():
        for swapped in (1, -1):  # the form must not depend on the first row
            assert tuple(times_of(texts[::swapped]).shown()) == moments[::swapped]
    assert "month, day, year" in times_of(["12/1/2010 8:26", "12/13/2010 10:26"]).note
    assert "shown in UTC" in times_of(["Wed Mar 22 11:37:04 -0700 2017"]).note
    morning = times_of(["2010-12-01 8:26:00.25", "2010-12-01T08:26:00,5"])
    assert np.diff(morning.values).tolist() == [250_000]


def test_new_forms_that_may_mean_two_times_are_refused() -> None:
    """Would break histories silently: mornings and evenings, or days and months, would be taken for each other."""
    refused(["1/11/2019 8:26", "1/11/2019 9:30 PM"], "row 1", "no row tells which")
    refused(["1/15/2019 8:26", "1/15/2019 9:30 PM"], "row 1", "'1/15/2019 8:26'", "row 2", "AM")
    assert len(times_of(["1/15/2019", "1/15/2019 9:30 PM"]).values) == 2, "a day has no half"
    refused(["1/15/2019 13:26 AM", "1/15/2019 9:30 AM"], "row 1", "no calendar or clock")
    refused(["01-Dec-2010", "2010-12-02"], "row 2", "row 1", "two forms of times")
    refused(["30-Feb-2010"], "row 1", "'30-Feb-2010'", "no calendar")
    refused(["Wed Mar 22 11:37:04 PDT 2017"], "row 1", "a form that is not read")
    refused(["2023-11-20 23:59", "2023-11-20 24:05"], "row 2", "hour 24", "the next")


@pytest.mark.parametrize("unread", ["{0}/20.11.23", "1{0}h26 20.11.23", "24:0{0} 2023-11-20"])
def test_dates_of_an_unknown_form_are_not_offered_to_be_left_out(
    tmp_path: pathlib.Path, unread: str
) -> None:
    """Each morning, or all rows after a change of the form, would be lost by the remedy that the message names."""
    path = tmp_path / "log.csv"
    rows = [f"u{k},i,2023-11-2{k} 10:00" for k in range(5)]
    rows += [f"u{k},j,{unread.format(k)}" for k in range(3)]
    path.write_text("\n".join(["user,item,timestamp", *rows]))
    parts = (f"{path}: row 6 has", "'timestamp'", "3 of 8 rows", "a form that is not read")
    for bad_rows in ("refuse", "skip"):
        message = refusal(read_log, path, "log", COLUMNS, bad_rows=bad_rows)
        assert_names(message, (*parts, "write dates as"))
        assert "bad_rows" not in message
    path.write_text("\n".join(["user,item,timestamp", *rows[:5], "u,i,soon", "u,i,2023-02-30"]))
    assert "bad_rows=skip" in refusal(read_log, path, "log", COLUMNS)


def test_numbers_of_every_type() -> None:
    """Would break one type of numbers: unsigned ones wrap, decimals are objects, texts in JSON are texts."""
    for kind in (pa.uint64(), pa.int64(), pa.uint32(), pa.float64()):
        found = times_of([FIRST, FIRST - 1], kind)
        assert found.unit == "s" and found.values.tolist() == [FIRST, FIRST - 1]
    assert times_of([Decimal(FIRST), Decimal(FIRST - 1)]).values.tolist() == [FIRST, FIRST - 1]
    refused(pa.array([2**64 - 1, 2**63], pa.uint64()), "in the future")


def test_dates_in_json(tmp_path: pathlib.Path) -> None:
    """Would break JSON lines, whose dates are strings, or whose numbers are."""
    path = tmp_path / "log.jsonl"
    for first, second in (
        ("2023-11-20T09:13:20Z", "2023-11-20T09:13:19Z"),
        (str(FIRST), str(FIRST - 1)),
        (FIRST, FIRST - 0.5),
    ):
        rows = [
            {"user": 1, "item": item, "timestamp": when} for item, when in ((5, first), (6, second))
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        log = read_log(path, "json", COLUMNS)
        assert log.item_ids[log.items].tolist() == [6, 5]
    path.write_text(
        '{"user": 1, "item": 5, "timestamp": 3}\n{"user": 1, "item": 6, "timestamp": "4"}\n'
    )
    assert_names(
        refusal(read_log, path, "json", COLUMNS),
        (str(path), "row 2 has a string in 'timestamp'", "before it a number"),
    )


def test_small_numbers_are_an_order() -> None:
    """Would break data whose times are counters or days since 1970, to which no calendar applies."""
    for values in ([3, 1, 2], [16_000, 12_000, 0], [-5, 7, 3], [20231120, 20231119, 20231121]):
        found = times_of(values)
        assert found.unit == "" and found.values.tolist() == values
    assert times_of([16_000, 12_000]).span() == "12000 to 16000"


def test_numbers_that_no_clock_shows_are_refused() -> None:
    """Would break histories silently: a missing time as 0 or -1 comes first, milliseconds among seconds come last."""
    refused([FIRST, FIRST * 1000, FIRST], "row 2", str(FIRST * 1000), "about 17004716", "mixed")
    refused([FIRST * 1000, FIRST, FIRST * 1000], "row 2", f"'{FIRST}'", "mixed")
    refused([FIRST, 0, FIRST], "row 2", "'0'", "1970-01-01, before 1990")
    refused([FIRST, -FIRST, FIRST], "row 2", "before 1990")
    refused([FIRST, 500_000_000, FIRST], "row 2", "1985-11-05, before 1990")
    refused([FIRST, int(NOW) + 2 * 86_400, FIRST], "row 2", "2024-06-03, in the future")
    refused([15_000, 15_001, FIRST], "row 3", "mixed units")
    refused([1.5, float("nan"), 2.5], "row 2", "nan", "finite")
    assert times_of([FIRST, int(NOW) + 3600]).unit == "s", "a clock may be an hour ahead"


def test_dates_that_no_calendar_has_are_refused() -> None:
    """Would break with a traceback, with a date of another day, or with the file's order for a column that is half words."""
    refused(["2023-11-20", "2023-02-30"], "row 2", "'2023-02-30'", "no calendar")
    refused(["2023-11-20 10:00", "2023-11-20 25:00"], "row 2", "no calendar or clock")
    refused(["2023-11-20", "1970-01-01"], "row 2", "before 1990")
    refused(["2023-11-20", "9999-12-31"], "row 2", "in the future")
    refused(
        pa.array([datetime.date(2023, 11, 20), datetime.date(1970, 1, 1)]), "row 2", "before 1990"
    )
    refused(pa.array([FIRST, 10**14], pa.timestamp("s")), "row 2", "in the future")
    for word in ("yesterday", "NULL", "NaN", "inf", "0x10", "20 Nov 23", "20.11.23"):
        refused(
            [str(FIRST), str(FIRST), word],
            "row 3",
            repr(word),
            "expected a number or a date such as",
        )
    refused(["soon", "later"], "row 1", "'soon'")
    message = refusal(times_of, [str(FIRST), " "])
    assert_names(message, ("row 2 has no value in column 'when'", "fill it in or drop the row"))
    assert_names(refusal(times_of, [True, False]), ("has type bool", "numbers or dates"))


def test_days_and_months_are_told_apart_by_the_column() -> None:
    """Would break with American dates read as European ones: 05/12 is in May or in December."""
    found = times_of(["05/12/2023", "13/05/2023"])
    assert np.diff(found.values).tolist() == [
        (datetime.date(2023, 5, 13) - datetime.date(2023, 12, 5)).days * 86_400 * 10**6
    ]
    assert "day, month, year" in found.note
    assert (
        "month, day, year" in times_of(["5/12/2023 3:04".replace(" 3", " 03"), "05/13/2023"]).note
    )
    refused(["05/12/2023", "06/12/2023"], "row 1", "'05/12/2023'", "no row tells which")
    refused(
        ["13/12/2023", "12/13/2023"],
        "row 2",
        "'12/13/2023'",
        "row 1",
        "month first and the day first",
    )


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
