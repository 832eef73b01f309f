"""`grasp-jax init` looks at all rows: how many a run can read, what is wrong with others, and which column has the times."""

import pathlib

import pyarrow as pa
import pyarrow.parquet
import pytest

from grasp_jax.setup import rows
from grasp_jax.setup import sample as samples
from grasp_jax.setup.command import write_config
from grasp_jax.setup.look import look
from grasp_jax.setup.write import python_call
from tests.refusal import assert_names
from tests.setup_folders import parts, read_by_its_config


def test_every_part_is_checked_for_rows_that_a_run_refuses(tmp_path: pathlib.Path) -> None:
    """Somebody would hear of a row without an item in the second part only when training starts, and then of one without a user."""
    folder = parts(tmp_path / "logs" / "orders")
    for part, name, bad in (("part-00001", "sku", ""), ("part-00003", "customer_id", None)):
        table = pyarrow.parquet.read_table(folder / f"{part}.parquet").to_pydict()
        table[name][3] = bad
        pyarrow.parquet.write_table(pa.table(table), folder / f"{part}.parquet")
    out = tmp_path / "a.py"
    write_config(tmp_path / "logs", str(out))
    found = look(tmp_path / "logs")
    assert found.lines[-1] == "rows: 38 of 40 have a user, an item and a time that can be read"
    (told,) = [line for line in found.undecided if "rows that a run refuses" in line]
    assert_names(
        told,
        (
            "1 of 40 rows, without a value in column 'sku'; the first is row 14 (row 4 of part-00001.parquet)",
            "1 of 40 rows, without a value in column 'customer_id'; the first is row 34 (row 4 of part-00003.parquet)",
            'config.data.bad_rows = "skip"',
        ),
    )
    # The line that leaves these rows out stands in the config already.
    text = out.read_text()
    out.write_text(text.replace("# config.data.bad_rows", "config.data.bad_rows"))
    assert out.read_text() != text and max(map(len, text.splitlines())) <= 140
    assert read_by_its_config(out)[1].log.num_interactions == 38


def test_a_large_log_is_checked_in_part(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A billion rows would be read before a config is written; or nobody be told that most of them were not."""
    folder = parts(tmp_path / "logs" / "orders")
    monkeypatch.setattr(rows, "MOST_ROWS", 15)
    table = pyarrow.parquet.read_table(folder / "part-00003.parquet").to_pydict()
    table["sku"][3] = None
    pyarrow.parquet.write_table(pa.table(table), folder / "part-00003.parquet")
    line = look(tmp_path / "logs").lines[-1]
    assert line.startswith("rows: the first 20 rows have a user, an item and a time")
    assert line.endswith("; a run reads all rows")
    (tmp_path / "logs" / "orders" / "part-00003.parquet").write_bytes(b"PAR1")
    (refused,) = [line for line in look(tmp_path / "logs").undecided if "refuses" in line]
    assert "not a readable parquet" in refused
    (tmp_path / "text").mkdir()
    lines = "".join(f"u{k % 3},i{k % 7}\n" for k in range(200))
    (tmp_path / "text" / "log.csv").write_text("user,item\n" + lines + ",i1\n")
    monkeypatch.setattr(samples, "LOOKED_AT", 100)
    assert (
        look(tmp_path / "text").lines[-1]
        == "rows: 200 of 201 have a user and an item that can be read"
    )
    monkeypatch.setattr(rows, "MOST_BYTES", 100)
    assert "rows: the first " in look(tmp_path / "text").lines[-1]


def test_pairs_are_checked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample passes over lines that a run refuses, so nobody would hear of them."""
    (tmp_path / "inter.txt").write_text("1 1\n1 x\n1 3\n2 1\n2 3\n2 2\n")
    found = look(tmp_path)
    assert found.lines[-1] == "rows: 5 of 6 have a user and an item that can be read"
    assert any(
        "which are not two whole numbers from 1, of at most 64 bits; the first is line 2" in line
        for line in found.undecided
    )
    # Nothing is said of rows that were not looked at.
    monkeypatch.setattr(rows, "MOST_BYTES", 10)
    line = "rows: not checked, because the file is large; a run reads all rows"
    assert look(tmp_path).lines[-1] == line


def test_a_column_with_a_few_bad_times_is_taken(tmp_path: pathlib.Path) -> None:
    """Rows in the order of the file would be trained on where nine of ten times can be read, and the empty ones left out."""
    dates = ["", "soon", *["2024-01-02"] * 8]
    lines = [f"u{k % 3},i{k},{date}\n" for k, date in enumerate(dates)]
    (tmp_path / "log.csv").write_text("user,item,date\n" + "".join(lines))
    found = look(tmp_path)
    assert found.columns["timestamp"] == "date" and found.bad_rows
    assert found.lines[-1] == "rows: 8 of 10 have a user, an item and a time that can be read"


def test_one_bad_time_does_not_hide_the_column_of_times(tmp_path: pathlib.Path) -> None:
    """One zero would make the config take the order of the file for the order of time."""
    times = [1_700_000_000 + k for k in range(9)]
    (tmp_path / "log.csv").write_text(
        "user,item,date,updated_at\n"
        + "".join(f"u{k % 2},i{k},{0 if k == 4 else time},soon\n" for k, time in enumerate(times))
    )
    found = look(tmp_path)
    assert found.columns["timestamp"] == "date"
    assert any(
        "1 of 9 rows, with a time before 1990 in column 'date'" in line for line in found.undecided
    )
    assert python_call(found, "shop").endswith("leaves out the rows that a run refuses")


def test_repeats_choose_the_protocol_of_validation(tmp_path: pathlib.Path) -> None:
    """In a shop where people buy again, validation would leave out what they buy next."""
    last = {"a": 1, "b": 1, "c": 4, "d": 5}
    rows = [
        f"{user},{item},2024-01-0{day}"
        for user, own in last.items()
        for item, day in ((1, 1), (own, 4), (2, 2), (3, 3))
    ]
    text = "user,item,time\n" + "\n".join(rows) + "\n"
    for name, header, repeated in (("timed", "time", 0.5), ("untimed", "note", 0.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.csv").write_text(text.replace("time", header).replace("-", ""))
        out = tmp_path / f"{name}.py"
        assert look(tmp_path / name).repeated == repeated
        write_config(tmp_path / name, str(out))
        config, _ = read_by_its_config(out)
        assert config.eval.select == ("full" if repeated else "full_unseen")
        assert config.recommend.exclude_seen is (repeated == 0)
    assert_names((tmp_path / "timed.py").read_text(), ("50 % had their last item before",))
