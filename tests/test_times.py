"""Times in all formats give the same order; a column without a certain order is refused with row and value."""

import datetime
import json
import pathlib
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.logs import read_log
from tests.refusal import assert_names, refusal
from tests.time_tables import COLUMNS, FIRST, NOW, refused, times_of

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
    for some in (["1641742024,5"] * 3, ["1641742024.5", "1641742024,5", "2024-01-02"]):
        comma = refusal(times_of, some)
        assert "decimal mark is a comma" in comma or "two forms" in comma, comma
    refused(["1641742024,5"], "row 1", "decimal mark is a comma; expected a point")
    message = refusal(times_of, [str(FIRST), " "])
    assert_names(message, ("row 2 has no value in column 'when'", "fill it in or drop the row"))
    assert_names(refusal(times_of, [True, False]), ("has type bool", "numbers or dates"))
