"""The record and the words of the serving benchmark."""

import json
import os
import pathlib
import time

import numpy as np
import pytest

from benchmarks.record import RESULTS
from benchmarks.rivals.batch_histories import histories_of
from benchmarks.sections.serving import batch, serving
from benchmarks.serving import (
    CROWD,
    OURS,
    THEIRS,
    _ratio,
    crowd_of,
    merged,
    services_of,
    write_bodies,
)
from benchmarks.serving_batch import ratio
from benchmarks.serving_process import Memory
from tests.refusal import assert_names, refusal


def test_memory_that_grows_is_seen() -> None:
    """A leak would be averaged away, or the growth of a warming service be called one."""
    memory = Memory(os.getpid())
    memory.seconds = [float(n) for n in range(120)]
    memory.sizes = [1e8 + 1e6 * min(n, 30) for n in range(120)]  # grows for half a minute
    flat = memory.summary()
    assert flat["begin_bytes"] == pytest.approx(1.055e8) and flat["end_bytes"] == 1.3e8
    assert flat["bytes_per_minute"] == pytest.approx(0.0, abs=1.0)
    memory.sizes = [1e8 + 1e4 * n for n in range(120)]
    assert memory.summary()["bytes_per_minute"] == pytest.approx(6e5)
    memory.sizes = [1e8]
    assert memory.summary()["end_bytes"] is None


def test_memory_of_a_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size would be another's, or in other units."""
    monkeypatch.setattr("benchmarks.serving_process.EACH", 0.01)
    with Memory(os.getpid()) as memory:
        while len(memory.sizes) < 4:
            time.sleep(0.01)
    assert 2e7 < memory.sizes[0] < 1e11


def test_rates_are_compared_at_the_same_size() -> None:
    """A small catalogue of ours would be compared with a large one of the rival."""
    rows = [(OURS, 10, 300.0), (THEIRS, 10, 100.0), (OURS, 99, 50.0)]
    measured = [
        {"service": name, "items": items, "largest_per_second": rate} for name, items, rate in rows
    ]
    said = _ratio(measured)
    assert f"{OURS} 3.0x at 10 items" in said and "nothing to compare with at 99 items" in said
    libraries = [
        {"items": items, "users_per_second": rate}
        for items, rate in ((10, 8.0), (10, 2.0), (99, 1))
    ]
    said = ratio(libraries)
    assert "4.0x at 10 items" in said and "nothing to compare with at 99 items" in said


def test_a_merged_record_keeps_the_other_services(tmp_path: pathlib.Path) -> None:
    """A service that was not measured would be lost, one that was keep its old figures, or an old one pass for new."""
    path = tmp_path / "old.json"
    old = [{"service": OURS, "items": 10}, {"service": OURS, "items": 99, "pid": 1}]
    record = {"date": "2026-01-02", "machine": {"commit": "abc"}, "services": old}
    path.write_text(json.dumps(record), encoding="utf-8")
    new = [{"service": OURS, "items": 99, "pid": 2}, {"service": THEIRS, "items": 99}]
    when = {"measured": {"date": "2026-01-02", "commit": "abc"}}
    assert merged(services_of(path), new) == [old[0] | when, *new]
    path.write_text("[]", encoding="utf-8")
    assert_names(refusal(services_of, path), ("--merge", str(path), "benchmarks.serving"))


def test_a_crowd_is_the_same_people_in_fewer_requests(tmp_path: pathlib.Path) -> None:
    """Ten times the load would be of other histories, or of fewer people than the record says."""
    bodies = tmp_path / "bodies"
    write_bodies(bodies, np.arange(500))
    write_bodies(crowd_of(bodies), np.arange(500), CROWD)
    one, many = (
        [json.loads(line)["histories"] for line in path.read_text().splitlines()]
        for path in (bodies, crowd_of(bodies))
    )
    assert all(len(own) == 1 for own in one) and all(len(own) == CROWD for own in many[:-1])
    assert [history for own in many for history in own] == [own[0] for own in one]


def test_both_libraries_are_asked_the_same() -> None:
    """Histories would be too short for the rival's fit, or differ from call to call."""
    first, second = (histories_of(500, 50, 20) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True)) and len(first) == 50
    assert all(2 <= len(own) <= 20 and len(np.unique(own)) == len(own) for own in first)


def test_tables_have_a_line_for_each_service() -> None:
    """The page would leave a service out, or fail on a record of before."""
    record = json.loads((RESULTS / "serving-cpu.json").read_text(encoding="utf-8"))
    table = serving(record)
    assert [row[0].split(",")[0] for row in table.rows] == [
        own["service"] for own in record["services"]
    ]
    assert all(len(row) == len(table.header) for row in table.rows)
    before = [
        {name: value for name, value in own.items() if name != "ten_times"}
        for own in record["services"]
    ]
    assert "Ten times the largest load" not in (serving(record | {"services": before}).note or "")
    load = {"histories": CROWD, "largest_per_second": 2.0, "statuses": {"503": 1234, "200": 5}}
    first, *others = before
    told = serving(record | {"services": [first | {"ten_times": load}, *others]})
    place = told.header.index("answers by status at ten times the largest load")
    assert [row[place] for row in told.rows] == ["200: 5, 503: 1,234", *["-"] * len(others)]
    assert f"requests with {CROWD} histories each" in (told.note or "")
    one = {"library": "x", "items": 5, "users": 7, "users_per_second": 3.0}
    record |= {"libraries": [one], "features": 64}
    assert batch(record).rows == [["x, 5 items", "7", "3"]]
