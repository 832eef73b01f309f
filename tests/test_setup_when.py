"""`grasp-jax init` finds the column of times by its name and its values, and never takes the order of a file for it without a word."""

import datetime
import pathlib

import pyarrow as pa
import pyarrow.parquet
import pytest

from grasp_jax.setup.command import write_config
from grasp_jax.setup.look import FolderContents, look
from tests.refusal import assert_names, refusal
from tests.setup_folders import read_by_its_config

HOUR = 3600
START = 1_649_376_000  # midnight of 2022-04-08


def log_of(folder: pathlib.Path, rows: int = 30, **columns: list[object]) -> pathlib.Path:
    """A log whose columns repeat their values."""
    lines = [
        f"u{k % 3},i{k}," + ",".join(str(values[k % len(values)]) for values in columns.values())
        for k in range(rows)
    ]
    text = "\n".join([f"user,item,{','.join(columns)}", *lines]) + "\n"
    (folder / "log.csv").write_text(text)
    return folder


def told_of_times(found: FolderContents) -> str:
    """The only line about the times."""
    (told,) = [line for line in found.undecided if line.startswith("when interactions happened")]
    return told


def days(*names: str) -> list[object]:
    return [f"2024-01-{31 - k:02}{' ' if name else ''}{name}" for k, name in enumerate(names)]


def test_times_of_day_come_before_days(tmp_path: pathlib.Path) -> None:
    """Interactions of one day would be in the order of the file, although a column has milliseconds."""
    times = [1000 * (START + HOUR * k) for k in range(30)]
    log_of(tmp_path, date=[20220408, 20220409], hourmin=[1139], time_ms=[*reversed(times)])
    found = look(tmp_path)
    assert found.columns["timestamp"] == "time_ms"
    (told,) = [line for line in found.undecided if line.startswith("times may also be in")]
    assert told == (
        "times may also be in 'date' (20220408 to 20220409); 'time_ms' (2022-04-08 to 2022-04-09) was chosen, because it has times of day "
        "(config.data.columns.timestamp)"
    )
    _, dataset = read_by_its_config(write_config(tmp_path, str(tmp_path / "a.py")))
    assert dataset.log.timestamps is not None and dataset.log.time_unit == "ms"
    # Without times of day, a date of the calendar comes before a number such as 20220408; else the more reliable name.
    log_of(tmp_path, date=[20220408, 20220409], ts=[START, START + 24 * HOUR])
    assert look(tmp_path).columns["timestamp"] == "ts"
    log_of(tmp_path, updated_at=days("10:30", "11:00"), created_at=days("10:30", "11:00"))
    assert look(tmp_path).columns["timestamp"] == "created_at"
    # A column that no reader takes is named if its name is more reliable than that of the chosen one.
    log_of(tmp_path, timestamp=["soon"], date=days("", ""))
    found = look(tmp_path)
    assert found.columns["timestamp"] == "date"
    assert any("column 'timestamp' was not used as the time" in line for line in found.undecided)


def test_dates_of_an_unknown_name_are_taken(tmp_path: pathlib.Path) -> None:
    """`init` would say that no column has the times, and a run would train in the order of the file."""
    log_of(tmp_path, gekauft=days("", "", ""), remark=["a-1"], timeframe=[700, 300])
    found = look(tmp_path)
    assert found.columns["timestamp"] == "gekauft"
    told = told_of_times(found)
    assert_names(
        told,
        (
            "'gekauft' (2024-01-29 to 2024-01-31, no time of day) was chosen, because its values read as dates",
            "times may also be in 'timeframe' (300 to 700)",
            'set config.data.columns.timestamp = ""',
        ),
    )
    _, dataset = read_by_its_config(write_config(tmp_path, str(tmp_path / "a.py")))
    assert dataset.log.timestamps is not None
    # The same with types: dates of Parquet. Numbers of Parquet may be anything.
    (tmp_path / "log.csv").unlink()
    moments = [datetime.datetime(2024, 1, 31 - k, 10, k) for k in range(9)]
    table = {"user": [1] * 9, "item": [*range(9)], "n": [START + k for k in range(9)], "b": moments}
    pyarrow.parquet.write_table(pa.table(table), tmp_path / "log.parquet")
    assert look(tmp_path).columns["timestamp"] == "b"
    # A column with the name of a time stays first, and others are named.
    log_of(tmp_path, gekauft=days("10:30", "11:00"), date=days("", ""))
    (tmp_path / "log.parquet").unlink()
    found = look(tmp_path)
    assert found.columns["timestamp"] == "date"
    assert any(
        "may also be in 'gekauft' (2024-01-30 to 2024-01-31)" in of for of in found.undecided
    )


def test_numbers_that_could_be_times_are_named(tmp_path: pathlib.Path) -> None:
    """Numbers of ten digits may be ids, so they are not taken; without a word the rows would be in the order of the file."""
    log_of(tmp_path, x=[START + 7 * k for k in range(30)], price=["3.5"], phone=["0900"])
    found = look(tmp_path)
    assert found.columns["timestamp"] == ""
    told = told_of_times(found)
    assert_names(
        told,
        (
            "the rows are taken to be in the order of time",
            "the numbers of 'x' (2022-04-08 to 2022-04-08) could be times: if they are",
            'set config.data.columns.timestamp = "x"',
        ),
    )
    assert "price" not in told and "phone" not in told


@pytest.mark.parametrize(
    ("dates", "why"),
    [
        (["01/02/2024"] * 9, "which may be day and month or month and day"),
        (["soon"] * 9, "'soon'"),
        ([""] * 9, "no value"),
        (["2024-01-02"] * 8 + ["9999-01-01"], "in the future"),
    ],
)
def test_a_column_of_times_that_cannot_be_read_is_refused(
    tmp_path: pathlib.Path, dates: list[str], why: str
) -> None:
    """A run would train in the order of the file although a column says when things happened; only a line would have said so."""
    lines = [f"u{k % 3},i{k},{date}\n" for k, date in enumerate(["", *dates])]
    (tmp_path / "log.csv").write_text("user,item,date\n" + "".join(lines))
    out = tmp_path / "a.py"
    write_config(tmp_path, str(out))
    found = look(tmp_path)
    assert found.columns["timestamp"] == "date"
    assert_names(
        found.undecided[0],
        ("column 'date' looks like the time", "cannot be read", "a run refuses it"),
    )
    assert any(why in line and "which a run refuses" in line for line in found.undecided)
    refusal(read_by_its_config, out)
    text = out.read_text()
    out.write_text(text.replace('timestamp = "date"', 'timestamp = ""'))
    assert read_by_its_config(out)[1].log.num_interactions == 10


def test_dates_of_an_unknown_name_that_cannot_be_read_are_refused(tmp_path: pathlib.Path) -> None:
    """As above, of a column whose values show what it is."""
    log_of(tmp_path, gekauft=["01/02/2024", "02/02/2024"], version=["1.2", "1.3"])
    found = look(tmp_path)
    assert found.columns["timestamp"] == "gekauft"
    assert any("which may be day and month" in line for line in found.undecided)
    log_of(tmp_path, timezone=[-240], date_of_it=["on 3 May"], time_in_words=["morning"])
    assert look(tmp_path).columns["timestamp"] == "date_of_it"
    log_of(tmp_path, timezone=[-240], time_in_words=["morning"])
    (told,) = [line for line in look(tmp_path).undecided if line.startswith("when inter")]
    assert "no column says it" in told


SECONDS = [START + 7 * k for k in range(30)]
MANY = [k * 7 % 50 for k in range(30)]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("puzzle_time", MANY),
        ("session_time", MANY),
        ("order_day", [1, 0]),
        ("up_to_date", [1, 0]),
        ("looked_at", [1, 0]),
    ],
)
def test_a_duration_or_a_flag_is_not_the_order_without_a_word(
    tmp_path: pathlib.Path, name: str, values: list[object]
) -> None:
    """Histories would be in the order of how long something took, and nobody would be told."""
    log_of(tmp_path, **{name: values})
    found = look(tmp_path)
    assert found.columns["timestamp"] == ""
    told = told_of_times(found)
    assert_names(
        told, ("the rows are taken to be in the order of time", f"the numbers of {name!r}")
    )
    # Dates of any name come first, and so do numbers that count from 1970.
    log_of(tmp_path, **{name: values}, recorded=days("10:30", "11:00"))
    found = look(tmp_path)
    assert found.columns["timestamp"] == "recorded"
    assert any(f"times may also be in {name!r}" in line for line in found.undecided)
    log_of(tmp_path, **{name: values}, x=SECONDS)
    found = look(tmp_path)
    assert found.columns["timestamp"] == ""
    assert any('set config.data.columns.timestamp = "x"' in line for line in found.undecided)
    # A usual name is chosen all the same, and the column is still named.
    log_of(tmp_path, **{name: values}, day=[3, 2, 1])
    found = look(tmp_path)
    assert found.columns["timestamp"] == "day"
    assert any(f"times may also be in {name!r}" in line for line in found.undecided)


def test_days_that_begin_with_many_rows_of_0_and_1_are_times(tmp_path: pathlib.Path) -> None:
    """The first hundred rows of a day index are all 0, so it was taken for a flag, and its order was lost."""
    log_of(tmp_path, rows=3000, timestamp=[k // 150 for k in range(3000)])
    assert look(tmp_path).columns["timestamp"] == "timestamp"
    log_of(tmp_path, rows=300, timestamp=[0, 1])
    found = look(tmp_path)
    assert found.columns["timestamp"] == ""
    told = told_of_times(found)
    assert "no column says it for sure" in told and "by its name" not in told


@pytest.mark.parametrize("values", [SECONDS, [20220408, 20220409], days("10:30", "11:00")])
def test_a_word_in_the_name_counts_where_the_values_are_times(
    tmp_path: pathlib.Path, values: list[object]
) -> None:
    """The times of a log would not be found although the name and the values agree."""
    log_of(tmp_path, start_dt=values, x=SECONDS)
    found = look(tmp_path)
    assert found.columns["timestamp"] == "start_dt"
