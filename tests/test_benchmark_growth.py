"""The benchmarks of large catalogues: retrieval by every method, and peak memory by the size of the data."""

import argparse
import json
import pathlib
import sys
from typing import Any

import numpy as np
import pytest

from benchmarks import made_up_texts, memory, memory_stages, neighbours, report, retrieval
from benchmarks.apart import ROOT, kill_apart, run_apart
from benchmarks.peak_memory import peak_bytes
from benchmarks.sections import growth, search
from grasp_jax.knowledge.neighbours.search_exact import search_exact
from tests.refusal import assert_names, refusal


def unit_rows(rows: int, width: int) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_truth_is_that_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recall would be held against the row itself, or against the neighbours in one block."""
    monkeypatch.setattr(retrieval, "BLOCK", 7)
    unit, rows = unit_rows(40, 6), np.array([3, 8, 39])
    scores = unit.astype(np.float64) @ unit.T.astype(np.float64)
    np.fill_diagonal(scores, -np.inf)
    assert retrieval.nth_cosines(unit, rows, 5) == pytest.approx(
        np.sort(scores[rows], axis=1)[:, -5]
    )


def test_recall_counts_different_true_neighbours() -> None:
    """An answer of the row itself, of one row over and over or of nobody would pass, or one of two equals be a miss."""
    unit, rows = unit_rows(40, 6), np.array([3, 8])
    unit[20] = unit[21]
    found = search_exact(unit, 4, np.arange(40, dtype=np.int32))[rows]
    least = retrieval.nth_cosines(unit, rows, 4)
    assert retrieval.recall(unit, rows, found, least) == 1.0
    for place, wrong in (((0, 0), rows[0]), ((0, 0), found[0, 1]), ((1, 2), -1)):
        worse = found.copy()
        worse[place] = wrong
        assert retrieval.recall(unit, rows, worse, least) == pytest.approx(7 / 8)
    twin = np.array([20])
    found = search_exact(unit, 4, np.arange(40, dtype=np.int32), rows=np.array([5]))
    least = np.array([float(unit[5].astype(np.float64) @ unit[20].astype(np.float64))])
    assert (
        retrieval.recall(unit, np.array([5]), twin[None], least)
        == retrieval.recall(unit, np.array([5]), twin[None] + 1, least)
        == 1.0
    )


def test_ways_of_a_machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without faiss would be kept as a comparison, or a GPU's time go to searches of its processor."""
    monkeypatch.setattr(retrieval, "FAISS", ROOT / ".rivals" / "nothing" / "bin" / "python")
    assert list(retrieval.ways_of("gpu", quick=False)) == ["exact"]
    assert list(retrieval.ways_of("cpu", quick=True)) == ["exact", "clusters", "scann"]
    assert_names(refusal(retrieval.ways_of, "cpu", False), (".rivals/nothing", "make rival-faiss"))
    monkeypatch.setattr(retrieval, "FAISS", tmp_path)
    assert list(retrieval.ways_of("cpu", quick=False)) == [
        "exact",
        "clusters",
        "scann",
        "faiss flat",
        "faiss ivf",
    ]


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (retrieval.main, ["--rows=10"]),
        (neighbours.main, ["--rows=9,2000"]),
        (memory.main, ["--users=19"]),
    ],
)
def test_sizes_too_small_are_refused(main: Any, arguments: list[str]) -> None:
    """A traceback from deep inside, minutes later."""
    assert_names(refusal(main, arguments), (arguments[0], "expected"))


def test_quick_retrieval_figures_agree(tmp_path: pathlib.Path) -> None:
    """A way would be left out, find other rows than the nearest, or its figures not be those of its seconds."""
    out = tmp_path / "retrieval.json"
    retrieval.main(["--quick", f"--out={out}", f"--folder={tmp_path}"])
    record = json.loads(out.read_text())
    rows, width, limit = (
        retrieval.QUICK_ROWS,
        retrieval.QUICK_WIDTH,
        record["limits"]["flops"]["float32"],
    )
    ways = {row["way"]: row for row in record["ways"]}
    assert list(ways) == list(retrieval.ways_of("cpu", quick=True))
    assert (
        all(row["recall"] == 1.0 for name, row in ways.items() if name in ("exact", "faiss flat"))
        and min(ways[name]["recall"] for name in ways if name in ("clusters", "scann")) > 0.9
    )
    for row in ways.values():
        queries = retrieval.SAMPLED.get(row["way"], rows)
        assert (row["rows"], row["queries"]) == (rows, queries)
        assert row["build_seconds"] >= 0 and row["peak_bytes"] >= row["start_bytes"] > 0
        assert row["queries_per_second"] == pytest.approx(queries / row["search_seconds"])
        assert row["extrapolated_seconds"] == pytest.approx(row["search_seconds"] * rows / queries)
        assert row["share_of_limit"] == pytest.approx(
            2 * queries * rows * width / row["search_seconds"] / limit
        )
        assert (
            row["beside_vectors_bytes"] + row["start_bytes"] + 4 * rows * width == row["peak_bytes"]
        )
    table = search.retrieval(record)
    assert [row[0] for row in table.rows] == list(ways) and all(
        len(row) == len(table.header) for row in table.rows
    )
    assert not list(tmp_path.glob("retrieval-*")), "the table is left on disk"


@pytest.mark.slow
def test_quick_neighbours_figures_agree(tmp_path: pathlib.Path) -> None:
    """A size would be left out, clusters miss more than they may, or the sample of exact search pass for all rows."""
    out = tmp_path / "neighbours.json"
    neighbours.main(["--quick", f"--out={out}", f"--folder={tmp_path}"])
    record = json.loads(out.read_text())
    sizes = neighbours.sizes_of(neighbours.QUICK_ROWS)
    assert [(row["rows"], row["way"]) for row in record["ways"]] == [
        (rows, way) for rows in sizes for way in ("clusters", "exact")
    ]
    for row in record["ways"]:
        all_of = row["way"] == "clusters"
        assert row["queries"] == (row["rows"] if all_of else neighbours.QUICK_QUERIES)
        assert row["recall"] > 0.9 if all_of else row["recall"] == 1.0
        assert row["processor_seconds"] > 0
    table = search.neighbours(record)
    assert ["(extrapolated)" in row[2] for row in table.rows] == [False, True] * len(sizes)
    assert not list(tmp_path.glob("neighbours-*")), "the table is left on disk"


def test_ten_million_rows_are_extrapolated_from_two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table would promise another growth than what was measured, or say that it was measured."""
    monkeypatch.setattr(search, "machine_line", lambda record: "here")

    def way(rows: int, seconds: float, held: int) -> dict[str, Any]:
        half = seconds / 2
        costs = {"build_seconds": half, "extrapolated_seconds": half, "processor_seconds": seconds}
        about = {"way": "clusters", "rows": rows, "queries": rows, "recall": 0.97}
        return about | costs | {"beside_vectors_bytes": held * 2**20}

    record = {"sizes": {"neighbours": 10, "width": 16}}
    record |= {"ways": [way(10**5, 40.0, 400), way(10**6, 1000.0, 580)]}
    table = search.neighbours(record)
    assert [row[1] for row in table.rows] == ["100,000", "1,000,000", "10,000,000"]
    said = "(extrapolated)"
    assert table.rows[-1][2:] == [f"25,000 {said}", f"25,000 {said}", "", f"2,380 {said}"]
    record["ways"][1]["killed"] = {"seconds": 600.2}
    assert "The search of 1,000,000 rows was killed after 600 s" in search.neighbours(record).note


def test_made_up_texts_are_rows_of_a_bank(tmp_path: pathlib.Path) -> None:
    """Recall would be that of other vectors at each run, or of rows whose products are no cosines."""
    unit = made_up_texts.write_texts(tmp_path / "one.npy", 9000, 16)
    again = made_up_texts.write_texts(tmp_path / "two.npy", 9000, 16)
    assert np.array_equal(unit, again) and unit.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float32), axis=1), 1, atol=2e-3)
    assert np.abs(unit.astype(np.float32).mean(axis=0)).max() < 0.05
    assert len(np.unique(unit[:, :8], axis=0)) == 9000


def test_a_sample_of_queries_is_extrapolated(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of some rows would be shown as those of all, or recall be that of other rows than those searched."""
    commands = {"exact": [sys.executable, "-m", "benchmarks.retrieval_ways", "exact"]}
    (row,) = retrieval.measure(
        tmp_path, retrieval.write_random(tmp_path, 600, 16), commands, 1e9, queries=60
    )
    assert (row["rows"], row["queries"], row["recall"]) == (600, 60, 1.0)
    assert row["extrapolated_seconds"] == pytest.approx(10 * row["search_seconds"])
    record = {
        "sizes": {"neighbours": 10, "width": 16},
        "limits": {"flops": {"float32": 1e9}},
        "ways": [row],
    }
    monkeypatch.setattr(search, "machine_line", lambda record: "here")
    assert search.retrieval(record).rows[0][4].endswith(" (extrapolated)")


def test_a_killed_search_costs_what_both_processes_cost() -> None:
    """Work that was done before a kill would be left out of the table, or the larger peak be forgotten."""
    found = {
        "build_seconds": 1.0,
        "processor_seconds": 5.0,
        "peak_bytes": 10,
        "beside_vectors_bytes": 4,
    }
    killed = {"seconds": 2.0, "processor_seconds": 3.0, "peak_bytes": 12}
    both = neighbours.with_killed(found, killed)
    assert both == {
        "build_seconds": 3.0,
        "processor_seconds": 8.0,
        "peak_bytes": 12,
        "beside_vectors_bytes": 6,
        "killed": killed,
    }
    smaller = neighbours.with_killed(found, killed | {"peak_bytes": 9})
    assert (smaller["peak_bytes"], smaller["beside_vectors_bytes"]) == (10, 4)


def test_a_stage_is_killed_at_its_time(tmp_path: pathlib.Path) -> None:
    """A search would pass for one that was killed and continued, though it had ended before, or was left running."""
    mark, ended = tmp_path / "mark", "pathlib.Path(sys.argv[1]).touch()"
    sleeps = f"import pathlib, sys, time; time.sleep(float(sys.argv[2])); {ended}"
    command = [sys.executable, "-c", sleeps, str(mark)]
    killed = kill_apart([*command, "60"], 0.3)
    assert 0.3 <= killed["seconds"] < 30 and killed["peak_bytes"] > 2**20
    assert not mark.exists()
    assert_names(refusal(kill_apart, [*command, "0"], 60), (sys.executable, "60 s"))


PEAK = """
import json
from benchmarks.peak_memory import peak_bytes
begun = peak_bytes()
held = b"x" * 2**27
print(json.dumps({"begun": begun, "ended": peak_bytes()}))
"""


def test_peak_is_that_of_the_process_alone() -> None:
    """A stage's peak would be at least what the process held that started it, and small stages look like large ones."""
    held = np.ones(2**26)
    begun, ended = run_apart([sys.executable, "-c", PEAK]).values()
    assert begun < 2**27 < ended < held.nbytes <= peak_bytes() and ended - begun > 0.9 * 2**27


def test_a_stage_that_fails_is_named() -> None:
    """A missing figure would end in a traceback that does not say which stage it was."""
    assert_names(
        refusal(run_apart, [sys.executable, "-c", "raise SystemExit(3)"]),
        ("SystemExit(3)", "status 3"),
    )


def test_straight_line_is_found_and_doubted() -> None:
    """Growth that bends would pass for a line."""
    exact = memory.straight_line([1, 2, 4, 8], [5.0, 7.0, 11.0, 19.0])
    assert (
        exact.slope == pytest.approx(2.0)
        and exact.intercept == pytest.approx(3.0)
        and exact.largest_deviation < 1e-9
    )
    bent = memory.straight_line([1, 2, 4, 8], [1.0, 4.0, 16.0, 64.0])
    assert bent.largest_deviation > 0.3
    for x, y in (([1, 2], [1.0, 2.0]), ([1, 2, 3], [1.0, 0.0, 2.0])):
        with pytest.raises(ValueError, match="a fit needs three above 0"):
            memory.straight_line(x, y)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Both stages of the smallest size, in this process: their peaks are the suite's."""
    folder = tmp_path_factory.mktemp("memory")
    sizes = (memory.QUICK_USERS, memory.QUICK_ITEMS, memory.QUICK_WIDTH, "gru4rec")
    return {name: memory_stages.run_stage(name, folder, *sizes) for name in ("prepare", "train")}


def test_stages_measure_what_they_say(stages: dict[str, dict[str, Any]]) -> None:
    """Seconds of the neighbours would count as those of what grows in a straight line, or no epoch be trained."""
    made, model = stages["prepare"], stages["train"]
    assert (
        made["width"] == memory.QUICK_WIDTH
        and made["seconds"] > 0
        and made["neighbours_seconds"] > 0
    )
    assert (
        model["epoch_seconds"] > 0
        and model["interactions"] == made["interactions"] > 3 * memory.QUICK_USERS
    )
    assert (
        model["full_ranking_bytes"] >= memory.QUICK_ITEMS * 64 * 4
    )  # the vectors of all items, D wide
    assert all(own["peak_bytes"] >= own["start_bytes"] > 0 for own in stages.values())


def test_quick_memory_figures_agree(
    stages: dict[str, dict[str, Any]], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A size would be measured with another's data, or the fit be of other figures than the table's."""
    asked = []

    def grown(command: list[str]) -> dict[str, Any]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--users", type=int)
        given, rest = parser.parse_known_args(command[4:])
        assert "--backbone=gru4rec" in rest
        times = given.users // memory.QUICK_USERS
        asked.append((command[3], times))
        own = stages[command[3]]
        scaled = {
            key: own[key] * times
            for key in ("seconds", "epoch_seconds", "interactions", "full_ranking_bytes")
            if key in own
        }
        return {**own, **scaled, "peak_bytes": 1000 + 200 * times**2}

    monkeypatch.setattr(memory, "run_apart", grown)
    out = tmp_path / "memory.json"
    memory.main(["--quick", f"--out={out}"])
    record = json.loads(out.read_text())
    assert asked == [(stage, times) for times in (1, 2, 4) for stage in ("prepare", "train")]
    for row in record["rows"]:
        assert (row["users"], row["items"]) == (
            row["times"] * memory.QUICK_USERS,
            row["times"] * memory.QUICK_ITEMS,
        )
        assert row["table_bytes"] == 4 * 2 * (row["users"] + row["items"]) * memory.QUICK_WIDTH
        pairs = row["users"] ** 2 + row["items"] ** 2
        assert row["neighbours_ns_a_pair"] * pairs == pytest.approx(
            1e9 * row["prepare"]["neighbours_seconds"]
        )
    off = {name: line["largest_deviation"] for name, line in record["lines"].items()}
    assert off["epoch"] < 1e-9 and off["preparation"] < 1e-9 and off["training, peak"] > 0.05
    table = growth.memory(record)
    assert len(table.rows) == 4 and all(len(row) == len(table.header) for row in table.rows)
    for row in record["rows"]:
        row["train"]["device_peak_bytes"] = 2**20
    table = growth.memory(record)
    assert table.header[-1].endswith("on the device, MiB") and [row[-1] for row in table.rows] == [
        "1",
        "1",
        "1",
        "",
    ]


def test_growth_is_drawn_and_shown(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page would show a figure that is not there, or none."""
    rows = [
        {
            "times": times,
            **{
                stage: {"peak_bytes": times, "seconds": times, "epoch_seconds": times}
                for stage in ("prepare", "train")
            },
        }
        for times in (1, 2, 4)
    ]
    record = {"rows": rows, "lines": memory.lines_of(rows)}
    (tmp_path / "memory-cpu.json").write_text(json.dumps(record))
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(report, "PAGE", tmp_path / "docs" / "performance-tables.md")
    monkeypatch.setattr(report, "FIRST_SCREEN", tmp_path / "docs" / "performance.md")
    monkeypatch.setattr(
        report,
        "SECTIONS",
        {"cpu": {"memory-cpu": lambda record: report.ReportTable("t", "Growth", ["a"], [["1"]])}},
    )
    report.write()
    assert "![memory-cpu](figures/memory-cpu.svg)" in report.PAGE.read_text()
    drawn = (tmp_path / "docs" / "figures" / "memory-cpu.svg").read_text()
    assert all(
        word in drawn for word in ("peak memory", "training", "preparation", "times the data")
    )
