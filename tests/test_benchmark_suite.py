"""The suite: each benchmark in a process of its own, timed one at a time, and none of them left out in silence."""

import argparse
import itertools
import pathlib
from collections.abc import Callable

import pytest

from benchmarks import (
    paper_data,
    picture,
    readme_tables,
    record,
    report,
    run,
    studies,
    study_intervals,
    timing,
    tutorial_pages,
)
from benchmarks.arguments import parser_of
from benchmarks.lengths import PAPER_BEAUTY
from benchmarks.sections import launches
from tests.refusal import assert_names, refusal

MACHINE = {"device": "none", "backend": "cpu", "cpu": "none", "cores": 1, "versions": {}}


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
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run, "machine_of", lambda: MACHINE)
    assert run.main([], suites) == 1
    said = capfd.readouterr()
    assert said.out.startswith("device: none\n")
    lines = said.out.splitlines()[1:]
    assert (
        lines[0].startswith("benchmark first: failed with status 3, ")
        and lines[1] == "ran --full-users=9"
    )
    assert lines[2].startswith("benchmark second: ok, ") and "failed: first" in said.err
    assert lines[3:] == [
        "not run, because they take hours or need other software: long; --only=NAME runs one"
    ]
    with pytest.raises(SystemExit):
        run.main(["--help"], suites)
    helped = capfd.readouterr().out
    assert (
        "--suite=cpu runs first, second" in helped and "and, if --only names them: long" in helped
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


def test_a_run_is_continued_though_the_first_call_did_not_say_so(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Hours of benchmarks would be measured again, or a damaged note end in a traceback."""
    (tmp_path / "kept.py").write_text(
        "import pathlib, sys\npathlib.Path(sys.argv[1][6:], 'kept.json').write_text('{}')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(run, "machine_of", lambda: MACHINE)
    suites = {"cpu": {"kept": run.Benchmark("kept")}}
    out = f"--out={tmp_path / 'out'}"
    assert run.main([out], suites) == 0 and "benchmark kept: ok" in capfd.readouterr().out
    assert run.main([out, "--resume"], suites) == 0
    said = capfd.readouterr().out
    assert "finished before, so left out: kept" in said and "benchmark kept" not in said
    note = tmp_path / "out" / "finished.json"
    for damage in ("{", "[1]", '{"kept": 1}'):
        note.write_text(damage)
        assert_names(refusal(run.main, [out], suites), (str(note), "remove it"))


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--seconds=-3", "'-3'; expected a number from 0 on"),
        ("--seconds=inf", "'inf'; expected a number from 0 on"),
        ("--at-once=0", "'0'; expected a whole number from 1 on"),
    ],
)
def test_wrong_numbers_are_refused(
    flag: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A negative limit would end every benchmark at once, as if the time were over."""
    with pytest.raises(SystemExit) as refused:
        run.main([flag])
    assert refused.value.code == 2 and expected in capsys.readouterr().err


def test_results_cannot_go_into_a_file(tmp_path: pathlib.Path) -> None:
    """A traceback."""
    (tmp_path / "file").touch()
    assert_names(refusal(run.main, [f"--out={tmp_path / 'file'}"]), ("is a file",))


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


@pytest.mark.parametrize(
    "main",
    [
        readme_tables.main,
        studies.main,
        study_intervals.main,
        paper_data.main,
        picture.main,
        tutorial_pages.main,
        launches.write,
    ],
)
def test_programs_of_pages_refuse_what_they_do_not_read(
    main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who asks for help, or checks the pages, would rewrite them."""
    for flag, status in (("--help", 0), ("--check", 2)):
        monkeypatch.setattr("sys.argv", ["program", flag])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == status
    assert capsys.readouterr().err.splitlines()[-1].startswith("python -m benchmarks.")


def test_local_changes_are_said() -> None:
    """A page would name a commit whose code was not what was measured."""
    commit = "37a9218a8fdbd7f011409b7d1d13fd7c9744e673"
    assert record.short_commit(commit) == "37a9218"
    assert record.short_commit(f"{commit}-dirty") == "37a9218-dirty"
    assert record.short_commit("0a6c89d or earlier") == "0a6c89d or earlier"
    assert record.short_commit(None) == "unknown"


def test_where_a_record_goes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results would lie in a file without an ending, where a folder was meant, or replace a committed record."""
    monkeypatch.chdir(tmp_path)

    def placed(out: str) -> pathlib.Path | None:
        return record.place(parser_of("step", "x").parse_args([f"--out={out}"]), "step.json")

    assert placed("new/") == pathlib.Path("new/step.json") and (tmp_path / "new").is_dir()
    assert placed("new") == pathlib.Path("new/step.json")
    assert placed("one.json") == pathlib.Path("one.json")
    (tmp_path / "file").touch()
    for out, expected in (
        ("other", "'other'; expected a JSON file, as in other.json, or a folder"),
        ("file/", "'file/': File exists; expected a folder"),
    ):
        with pytest.raises(SystemExit):
            placed(out)
        assert expected in capsys.readouterr().err
    made = pathlib.Path(run.__file__).parent.parent / "Makefile"
    assert "benchmarks.step --out=$(OUT)\n" in made.read_text()


def test_data_are_found_from_any_folder() -> None:
    """A benchmark that is started elsewhere would time a synthetic shop in place of the paper's data."""
    root = pathlib.Path(run.__file__).resolve().parent.parent
    assert PAPER_BEAUTY.is_absolute() and PAPER_BEAUTY.is_relative_to(root.parent / "shared")
