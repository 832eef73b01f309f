"""Every spelling of times in texts gives the same moments; what may be two moments is refused, and no form is offered to be left out."""

import datetime
import pathlib

import numpy as np
import pyarrow as pa
import pytest

from tests.logs import read_log
from tests.refusal import assert_names, refusal
from tests.time_tables import COLUMNS, FIRST, refused, times_of

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


def test_a_single_garbled_date_is_a_fault_of_its_row(tmp_path: pathlib.Path) -> None:
    """One slip of a keyboard would stop a run that may leave out bad rows."""
    path = tmp_path / "log.csv"
    rows = [f"u{k},i{k % 7},2023-11-20 10:00" for k in range(200)]
    path.write_text("\n".join(["user,item,timestamp", *rows, "u0,i3,2023-11-2O 10:0O"]))
    assert "bad_rows=skip" in refusal(read_log, path, "log", COLUMNS)
    assert read_log(path, "log", COLUMNS, bad_rows="skip").num_interactions == 200
