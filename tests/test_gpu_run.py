"""What runs on a GPU alone: its parts at small sizes here, the order of the run, and the list of what it needs."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import kernel_errors, longest_kernels
from benchmarks.implementations import tried
from benchmarks.kernel_errors import Case
from benchmarks.run import GPU
from benchmarks.sections import kernels, pictures
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
    assert names == {"gru", "sasrec_layer", "packed_attention", "gated_projection"}
    assert all(0 < error < 1e-5 for row in record["rows"] for error in row["errors"].values())
    assert "sasrec_layer, sigmoid" in markdown(kernels.errors(record))


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
    """The minutes of a GPU would be over before the steps and the rivals were timed."""
    first = ["step", "step_industry", "kernel_errors", "train", "retrieval", "profile"]
    assert list(GPU)[: len(first)] == first
    assert [name for name, own in GPU.items() if own.only_named] == ["train_to_the_end"]
    assert "--shape=industry" in GPU["step_industry"].arguments


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
