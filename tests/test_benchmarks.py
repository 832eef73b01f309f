"""The step benchmark runs at small sizes, agrees with its rivals, and ends in the line that documents quote."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import numpy as np

from benchmarks import lengths

ROOT = pathlib.Path(__file__).parent.parent
LAST_LINE = re.compile(r"speed-up over pytorch: (not measured|\d+\.\dx), over plain jax: \d+\.\dx")


def run_quick(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m benchmarks.step --quick` with further flags."""
    command = [sys.executable, "-m", "benchmarks.step", "--quick", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_quick_run_agrees_and_ends_with_the_speed_up(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "step.json"
    done = run_quick(f"--out={out}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert LAST_LINE.fullmatch(lines[-1]), lines[-1]
    assert [line for line in lines if line.startswith("parity ok: ")], done.stdout
    result = json.loads(out.read_text(encoding="utf-8"))
    has_torch = importlib.util.find_spec("torch") is not None
    assert ("not measured" in lines[-1]) == (not has_torch)
    assert len(result["steps"]) == 2 + has_torch
    assert len(set(result["parity"]["losses"])) == 2 + has_torch
    assert [row["users"] for row in result["growth"]] == sorted(row["users"] for row in result["growth"])


def test_left_over_argument_is_refused_in_one_line() -> None:
    done = run_quick("linear")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: left-over argument 'linear'; write flags as --name=value, with no space"


def test_synthetic_lengths_follow_paper_beauty() -> None:
    drawn = lengths.beauty_lengths(lengths.BEAUTY_USERS, np.random.default_rng(0))
    assert abs(drawn.mean() - 7.56) < 0.2
    assert drawn.max() <= 293 and drawn.min() >= 1
    percentiles = np.percentile(drawn, [1, 25, 50, 75, 90, 99])
    np.testing.assert_allclose(percentiles, [2, 5, 6, 8, 13, 37], atol=1.5)
