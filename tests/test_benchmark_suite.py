"""The suite: each benchmark in a process of its own, timed one at a time, and none of them left out in silence."""

import argparse
import itertools
import pathlib

import pytest

from benchmarks import record, report, run, timing


def test_a_failing_benchmark_does_not_stop_the_others(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A failure would be lost, or cost the results of the benchmarks after it."""
    (tmp_path / "kept.py").write_text("import sys\nprint('ran', *sys.argv[1:])\n")
    (tmp_path / "broken.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    suites: dict[str, dict[str, run.Benchmark]] = {"gpu": {}}
    suites["cpu"] = {
        "first": run.Benchmark("broken"),
        "second": run.Benchmark("kept", ("--full-users=9",)),
        "long": run.Benchmark("kept", ("long",), only_named=True),
    }
    assert run.main([], suites) == 1
    said = capfd.readouterr()
    lines = said.out.splitlines()
    assert (
        lines[0].startswith("benchmark first: failed with status 3, ")
        and lines[1] == "ran --full-users=9"
    )
    assert (
        lines[2].startswith("benchmark second: ok, ")
        and len(lines) == 3
        and "failed: first" in said.err
    )
    assert run.main(["--only=long"], suites) == 0 and "ran long" in capfd.readouterr().out
    assert (
        run.main(["--only=second", "--quick"], suites) == 0
        and "ran --quick\n" in capfd.readouterr().out
    )
    assert run.main(["--only=second", f"--out={tmp_path}"], suites) == 0
    assert f"ran --full-users=9 --out={tmp_path}\n" in capfd.readouterr().out
    with pytest.raises(SystemExit) as refused:
        run.main(["--only=second,third"], suites)
    assert (
        refused.value.code == 2
        and "third; expected some of first, second, long" in capfd.readouterr().err
    )


def test_a_suite_ends_with_its_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run on a rented GPU would go on past its ten minutes, or leave out benchmarks without a word."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    slow = run.Benchmark("slow")
    options = run.Options(seconds=2.0)
    assert run.run({"first": slow, "second": slow}, [], options) == ["first", "second"]
    said = capfd.readouterr().out.splitlines()
    assert said[0].startswith("benchmark first: stopped, the time is over") and said[1].startswith(
        "benchmark second: not begun"
    )


def test_benchmarks_compile_side_by_side_and_are_timed_one_at_a_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure would be taken while another benchmark uses the device, or a rented GPU wait for one compilation after another."""
    program = """
import os, pathlib, time
from benchmarks.timing import only_compiles
begin, folder, compiles = time.time(), pathlib.Path(__file__).parent, only_compiles()
if compiles:  # waits for the other one, which would else wait for it
    (folder / f"compiles-{os.getpid()}").touch()
    while time.time() < begin + 120 and len(list(folder.glob("compiles-*"))) < 2:
        time.sleep(0.01)
time.sleep(0.1)
with open(folder / "times", "a") as file:
    file.write(f"{compiles} {begin} {time.time()}\\n")
"""
    (tmp_path / "timed.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{pathlib.Path(run.__file__).parent.parent}")
    suite = {name: run.Benchmark("timed", compiles=True) for name in ("one", "other")}
    suite["last"] = run.Benchmark("timed")
    assert run.run(suite, [], run.Options(at_once=2)) == []
    lines = [line.split() for line in (tmp_path / "times").read_text().splitlines()]
    compiled, timed = (
        sorted((float(a), float(b)) for only, a, b in lines if only == kind)
        for kind in ("True", "False")
    )
    assert len(compiled) == 2 and len(timed) == 3
    assert compiled[1][0] < compiled[0][1] <= timed[0][0]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(timed))


def test_process_that_compiles_keeps_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The times of a process beside which others compiled would become the record."""
    out, calls = tmp_path / "kept.json", []
    given = argparse.Namespace(quick=False, out=out)
    monkeypatch.setenv(timing.COMPILE, "1")
    timing.interleaved({"one": lambda: calls.append(1)}, rounds=5)
    assert len(calls) == 2
    record.keep("kept", {}, record.Contention(), given, "found")
    assert not out.exists() and not capsys.readouterr().out
    monkeypatch.delenv(timing.COMPILE)
    record.keep("kept", {}, record.Contention(), given, "found")
    assert out.exists()


def test_every_benchmark_of_the_suites_is_there() -> None:
    """A name would end in an import error after an hour of other benchmarks."""
    root = pathlib.Path(run.__file__).parent
    for benchmark in (*run.CPU.values(), *run.GPU.values()):
        name = benchmark.module.removeprefix("benchmarks.")
        source = (root / f"{name}.py").read_text()
        assert f'parser_of("{name}", __doc__)' in source and '__name__ == "__main__"' in source
    assert run.CPU["bank"].only_named
    for name in ("profile", "evaluation", "retrieval", "memory"):
        assert all(f"{name}-{device}" in report.SECTIONS[device] for device in ("cpu", "gpu"))
