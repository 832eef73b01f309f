"""What runs on a GPU alone: its parts at small sizes here, the order of the run, and the list of what it needs."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    finished,
    implementations,
    in_time,
    kernel_errors,
    longest_kernels,
    report,
    retrieval,
    run,
)
from benchmarks.implementations import tried
from benchmarks.kernel_errors import Case
from benchmarks.run import GPU
from benchmarks.sections import kernels, meaning, pictures
from grasp_jax.report.formats import markdown
from tests.refusal import refusal

ROOT = pathlib.Path(__file__).parent.parent
CSV = """==PROF== Connected to process 12
"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","12","loop_add","gpu__time_duration.sum","ns","1,500"
"0","12","loop_add","sm__throughput.avg.pct_of_peak_sustained_elapsed","%","10.0"
"0","12","loop_add","gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed","%","40.0"
"1","12","gemm","gpu__time_duration.sum","us","6"
"1","12","gemm","sm__throughput.avg.pct_of_peak_sustained_elapsed","%","80.0"
"1","12","gemm","gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed","%","20.0"
"2","12","loop_add","gpu__time_duration.sum","ns","2,500"
"2","12","loop_add","sm__throughput.avg.pct_of_peak_sustained_elapsed","%","30.0"
"2","12","loop_add","gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed","%","60.0"
==PROF== Disconnected
"""


def test_longest_kernels_are_those_with_the_most_time() -> None:
    """A kernel that runs often and short would be left out, or microseconds be added to nanoseconds."""
    gemm, add = longest_kernels.longest(CSV)
    assert (gemm["name"], gemm["executions"], gemm["microseconds"]) == ("gemm", 1, 6.0)
    assert (add["name"], add["executions"], add["microseconds"]) == ("loop_add", 2, 4.0)
    assert gemm["share"] == pytest.approx(0.6) and (add["multiprocessors"], add["memory"]) == (
        20,
        50,
    )
    assert [row["name"] for row in longest_kernels.longest(CSV, 1)] == ["gemm"]
    machine = {"cores": 1, "cpu": "c", "device": "d", "versions": {"jax": "0"}, "commit": "abc"}
    record = {"rows": [gemm, add], "steps": 4, "kernels": "auto", "machine": machine}
    shown = kernels.longest({**record, "cores_used_by_others": 0.0})
    assert shown.rows[0][:4] == ["gemm", "1", "6.0", "60.0%"]


def test_machine_without_the_profiler_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    """The run on a GPU would count as failed for a tool that many machines lack, or keep an empty record."""
    monkeypatch.setattr(longest_kernels.shutil, "which", lambda name: None)
    longest_kernels.main([f"--out={tmp_path / 'none.json'}"])
    assert "not installed: nothing is measured" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_kernels_are_as_exact_as_they_should_be(tmp_path: pathlib.Path) -> None:
    """A kernel would be left out, or compute another function than it says."""
    out = tmp_path / "errors.json"
    command = [sys.executable, "-m", "benchmarks.kernel_errors", "--quick", f"--out={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(out.read_text())
    names = {row["kernel"].split(",")[0] for row in record["rows"]}
    assert names == {"gru", "sasrec_layer", "packed_attention"}
    assert all(0 < error < 1e-5 for row in record["rows"] for error in row["errors"].values())
    assert "packed_attention, sigmoid" in markdown(kernels.errors(record))


def test_kernel_that_computes_something_else_is_found() -> None:
    """An error would be taken against the wrong truth, or in float32, or a gradient go unseen."""
    x = np.linspace(0.5, 2.0, 7, dtype=np.float32)
    good = Case("good", lambda x: x * x, lambda x: x * x, lambda x: x * x, (x,))
    errors = kernel_errors.measure(good)["errors"]
    assert 0 <= errors["kernel"] == errors["xla"] < 1e-6
    off = good._replace(kernel=lambda x: x * x + 1e-3)
    assert kernel_errors.measure(off)["errors"]["kernel"] == pytest.approx(1e-3 / 4.0, rel=1e-2)
    stopped = good._replace(kernel=lambda x: x * kernel_errors.jax.lax.stop_gradient(x))
    assert kernel_errors.measure(stopped)["errors"]["kernel"] == pytest.approx(0.5)


def test_errors_of_interpreted_kernels_are_no_record() -> None:
    """The errors of a CPU's float32 would stand on the page as those of a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["kernel_errors"])
        assert "kernels need a GPU" in refusal(kernel_errors.main)


def test_the_most_telling_benchmarks_come_first() -> None:
    """The minutes of a GPU would be over, or spent on compiling the last benchmarks, before the steps and the rivals were timed."""
    first = ["step", "step_industry", "kernel_errors", "profile", "profile_industry", "retrieval"]
    assert list(GPU)[: len(first)] == first
    assert {name for name, own in GPU.items() if own.compiles} < set(first)
    assert [name for name, own in GPU.items() if own.only_named] == ["train_to_the_end"]
    assert "--shape=industry" in GPU["step_industry"].arguments
    named = run.command(GPU["step_industry"], run.Options(quick=True))
    assert {"--quick", "--shape=industry", "--forms=all", "--rivals=installed"} < set(named)
    assert set(GPU["profile"].arguments) < set(run.command(GPU["profile"], run.Options(quick=True)))


KEEPS = """
import pathlib, sys
from benchmarks import record
from benchmarks.arguments import parser_of
given = parser_of("keeps", "").parse_args()
with open(pathlib.Path(__file__).parent / "ran", "a") as file:
    file.write("x")
record.save(record.place(given, "keeps-gpu.json"), {})
"""


@pytest.fixture
def keeps(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder with a benchmark `keeps`, which writes a record and counts its runs in the file `ran`."""
    (tmp_path / "keeps.py").write_text(KEEPS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    return tmp_path


def test_a_second_run_does_only_what_is_left(
    keeps: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The minutes of a rented GPU would go twice to the same rows, or a row of other programs or a lost one be taken for measured."""
    out, suite = keeps / "out", {"one": run.Benchmark("keeps"), "bad": run.Benchmark("no_module")}
    out.mkdir()
    about = {"device": "a GPU", "cpu": "c", "cores": 1, "versions": {"jax": "1"}}

    def again(resume: bool = True, **other: Any) -> int:
        known = run.finished_in(out, {**about, **other})
        options = run.Options(out=out, finished=known, resume=resume)
        assert run.run(suite, [], options) == ["bad"]
        return len((keeps / "ran").read_text())

    assert again() == 1 and (out / "keeps-gpu.json").exists()
    assert again() == 1 and "finished before, so left out: one;" in capfd.readouterr().out
    assert again(device="another GPU") == 2
    (out / "keeps-gpu.json").unlink()
    assert again(device="another GPU") == 3
    assert again(resume=False, device="another GPU") == 4


def test_sources_are_those_that_results_depend_on(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of yesterday's program would stand beside today's."""
    (tmp_path / "grasp_jax").mkdir()
    (tmp_path / "grasp_jax" / "step.py").write_text("a = 1")
    monkeypatch.setattr(finished, "ROOT", tmp_path)
    before = finished.sources()
    (tmp_path / "README.md").write_text("no program")
    assert finished.sources() == before
    (tmp_path / "grasp_jax" / "step.py").write_text("a = 2")
    assert finished.sources() != before


def test_nothing_goes_on_when_the_time_is_over(tmp_path: pathlib.Path) -> None:
    """A rival that a benchmark has started would train on, and slow those that are timed after it."""
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    program = f"""
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}])
while not pathlib.Path({str(tmp_path / "pid")!r}).exists():
    time.sleep(0.01)
time.sleep(0.1)
pathlib.Path({str(tmp_path / "ready")!r}).touch()
child.wait()
"""
    process = subprocess.Popen([sys.executable, "-c", program], process_group=0)
    _wait_for((tmp_path / "ready").exists)
    in_time.end_group(process)
    pid = int((tmp_path / "pid").read_text())
    _wait_for(lambda: not _runs(pid))
    assert process.returncode == -signal.SIGTERM
    assert in_time.status_of([sys.executable, "-c", "import time; time.sleep(600)"], 0.1) is None
    assert in_time.status_of([sys.executable, "-c", "raise SystemExit(3)"], 60) == 3


def test_a_benchmark_that_is_ended_leaves_no_temporary_folder(tmp_path: pathlib.Path) -> None:
    """The gigabytes of a table would stay on the disk each time that the time is over."""
    program = f"""
import pathlib, subprocess, sys, tempfile
from benchmarks import record
def main():
    with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}) as folder:
        pathlib.Path(folder, "table").touch()
        subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])
record.run(main)
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, process_group=0)
    _wait_for(lambda: any(tmp_path.glob("*/table")))
    in_time.end_group(process)
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_a_thread", [True, False])
def test_a_run_that_is_told_to_stop_ends_its_benchmarks(
    in_a_thread: bool, tmp_path: pathlib.Path
) -> None:
    """A benchmark would hold the GPU after the run is gone, or the run would wait for ever for a lock that it holds itself."""
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    program = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from benchmarks import in_time
in_time.end_with_this_process()
with ThreadPoolExecutor(1) as pool:
    {"list(pool.map" if in_a_thread else "list(map"}(lambda child: in_time.status_of([sys.executable, "-c", child], None), [{child!r}] * 2))
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    pid = tmp_path / "pid"
    _wait_for(lambda: pid.exists() and pid.read_text() != "")
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    _wait_for(lambda: not _runs(int(pid.read_text())))


def _wait_for(holds: Callable[[], bool]) -> None:
    clock = in_time.Clock(120.0)
    while not holds():
        assert (clock.left() or 0) > 0, "waited too long"
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    """Whether there is a process of this number that has not ended."""
    try:
        return "\nState:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_machine_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX without its CUDA libraries falls back to the CPU, and the run would measure that for hours."""
    monkeypatch.setattr(run, "machine_of", lambda: {"device": "cpu", "backend": "cpu"})
    assert "JAX finds no GPU, but cpu; install jax[cuda12]" in refusal(
        lambda: run.main(["--suite=gpu"])
    )


def test_forms_compile_side_by_side() -> None:
    """Seven forms of a step would be compiled one after another while the device waits."""
    together = threading.Barrier(implementations.COMPILED_AT_ONCE)

    def waits() -> None:
        together.wait(timeout=60)  # breaks unless as many wait at the same time

    makers = {str(number): waits for number in range(implementations.COMPILED_AT_ONCE)}
    assert len(implementations.tried_at_once(makers)) == len(makers)


def test_page_of_a_run_on_a_gpu(tmp_path: pathlib.Path) -> None:
    """The records of the run could not be read: of a shape without padded rivals, or of a machine that has no rival at all."""
    cpu = {path.stem: json.loads(path.read_text()) for path in report.RESULTS.glob("*-cpu*.json")}
    step = cpu["step-cpu-256"]
    step["machine"]["backend"] = "gpu"
    padded = [row for row in step["steps"] if row["name"].startswith("plain")]
    packed = [row for row in step["steps"] if row not in padded]
    errors = {"kernel": "gru", "errors": {"kernel": 1e-4, "xla": 2e-4, "xla_highest": 1e-6}}
    longest = {"name": "gemm", "executions": 1, "microseconds": 6.0, "share": 0.6}
    longest |= {"multiprocessors": 20.0, "memory": 10.0}
    about = {"machine": step["machine"], "cores_used_by_others": 0.0}
    records = {
        "step-gpu-256": step,
        "step-industry-gpu-256": {**step, "steps": packed},
        "kernel-errors-gpu": {**about, "rows": [errors]},
        "longest-kernels-gpu": {**about, "rows": [longest], "steps": 4, "kernels": "auto"},
        "train-gpu": {**cpu["train-cpu"], "rows": cpu["train-cpu"]["rows"][:1]},
        "train-cpu": {**cpu["train-cpu"], "rows": cpu["train-cpu"]["rows"][:1]},
    }
    for name, own in records.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(own))
    report.main([f"--results={tmp_path}"])
    first, page = (
        " ".join((tmp_path / name).read_text().split())
        for name in ("performance.md", "performance-tables.md")
    )
    assert "on a GPU" in first and "one epoch of SASRec" not in first
    assert "noise" not in first + page
    assert f"from `{tmp_path}`" in page and f"`{tmp_path}/step-gpu-256.json`" in first
    assert report.OURS not in page  # where none of these records is
    assert f"replaces the record in `{report.OURS}`" in first
    assert "profile-cpu.json" not in first  # what a CPU's products say of a GPU's step
    for said in (
        "Programs that pack their rows",
        "So a kernel changes results no more than rounding does",
        "So it is too small to fill this device",
        "No other program was measured on it",
    ):
        assert said in page
    for name, own in (
        (name, own) for name, own in records.items() if name.endswith(("gpu", "256"))
    ):
        assert meaning.meaning(name, own).endswith("."), name
    (tmp_path / "step-gpu-256.json").write_text(json.dumps({**step, "quick": True}))
    assert "time and ratio here is noise" in " ".join(report.first_screen(tmp_path).split())
    assert "time and ratio here is noise" in " ".join(report.page(tmp_path).split())
    alone = {**step, "steps": packed[:1]}
    assert meaning.meaning("step-gpu-256", alone) == "No other program was measured in this run."
    assert report.overview.step(alone) is None


def test_rival_that_fails_is_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A rival that does not run on this GPU would cost the figures of all others."""

    def fails() -> int:
        raise RuntimeError("no such option\nand much more")

    assert tried([("one", fails), ("other", lambda: 3)]) == [("other", 3)]
    assert capsys.readouterr().err == "one is left out: RuntimeError: no such option\n"


def requirements(path: str) -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / path).read_text().splitlines())
    named = (re.match(r"([\w\-]+)(\[\w+\])?(.*)", line.split(";")[0]) for line in lines)
    return {found[1]: found[3].strip() for found in named if found}


def test_one_file_lists_what_a_gpu_machine_needs() -> None:
    """What is carried to a machine without a network would lack a package, or be of a version that nobody tests."""
    carried, ours = requirements("launch/gpu_requirements.txt"), requirements("requirements.txt")
    for name in ("flax", "optax", "orbax-checkpoint", "numpy", "absl-py", "ml-collections"):
        assert carried[name] == ours[name]
    assert carried["torch"] == requirements("benchmarks/rivals/torch.txt")["torch"]
    assert "launch/gpu_requirements.txt" in (ROOT / "launch/gpu_benchmarks.sh").read_text()


def test_sentences_of_the_figures_are_those_of_the_records() -> None:
    """A figure would lead to a conclusion that its record does not have."""
    record = {
        "machine": {"backend": "cpu"},
        "steps": [
            {"name": name, "seconds_per_step": seconds, "p10": seconds, "p90": seconds}
            for name, seconds in (
                ("grasp_jax (packed, factorised)", 0.1),
                ("packed PyTorch (eager)", 0.2),
                ("grasp_jax (another form)", 0.01),
                ("plain JAX (padded, jitted)", 3.0),
            )
        ],
    }
    drawn = pictures.steps({"step-cpu-256": record})
    assert "that packs takes 2 times our time on a CPU" in drawn.conclusion
    assert "that pads takes 30 times our time on a CPU" in drawn.conclusion
    assert drawn.svg.count("<svg") and "packed PyTorch (eager)" in drawn.svg


def test_search_that_is_not_installed_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A try of the run would end in a traceback for a package that no GPU needs, or a record lack a rival without a word."""
    monkeypatch.setattr(retrieval, "FAISS", ROOT / "no" / "python")
    monkeypatch.setattr(retrieval.importlib.util, "find_spec", lambda name: None)
    assert list(retrieval.ways_of("cpu", quick=True)) == ["exact", "clusters"]
    assert capsys.readouterr().out.splitlines() == [
        "left out, scann: not installed; expected ScaNN, which `pip install scann` installs",
        "left out, no/python: not there; expected faiss, which `make rival-faiss` installs",
    ]
    assert "scann: not installed; expected ScaNN" in refusal(
        lambda: retrieval.ways_of("cpu", quick=False)
    )
    assert list(retrieval.ways_of("gpu", quick=False)) == ["exact"]
