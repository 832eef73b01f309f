"""The benchmark of attention runs at a small size, and would not time forms that compute different things."""

import functools
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import attention, packed_rows
from benchmarks.kernels.packed_attention import AttentionForm, packed_attention_reference

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow  # of a kernel that is no default; parity is in test_kernel_attention
def test_quick_run_times_what_agrees(tmp_path: pathlib.Path) -> None:
    """A form, a pass or a normaliser would be left out, or be timed though it was never compared."""
    out = tmp_path / "attention.json"
    command = [sys.executable, "-m", "benchmarks.attention", "--quick", f"--out={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "\nparity ok: " in done.stdout
    result = json.loads(out.read_text(encoding="utf-8"))
    cases = [(case["normaliser"], case["pass"]) for case in result["cases"]]
    assert sorted(cases) == [
        (kind, part) for kind in ("sigmoid", "softmax") for part in ("evaluation", "training")
    ]
    for case in result["cases"]:
        assert list(case["forms"]) == ["einsum", "kernels"]
        for figures in case["forms"].values():
            assert (
                0 < figures["p10_ms"] <= figures["median_ms"] <= figures["p90_ms"]
                and len(figures["ms"]) == 2
            )
    compared = {
        (check["form"], check["normaliser"], check["dropout"]) for check in result["parity"]
    }
    assert {
        (form, kind, None) for form in ("einsum", "kernels") for kind in ("softmax", "sigmoid")
    } < compared
    assert ("kernels", "softmax", attention.DROPOUT) in compared
    assert result["machine"]["versions"]["jax"] and result["interpreted"] == (
        result["machine"]["backend"] != "gpu"
    )


def test_forms_that_differ_are_found() -> None:
    """The benchmark would compare the speed of two different functions."""
    _, segments = packed_rows.packed_segments("", packed_rows.QUICK)
    inputs = attention.random_inputs(segments, 1, packed_rows.QUICK)
    compare = functools.partial(
        attention.difference, inputs=inputs, segments=segments, normaliser="softmax", rate=None
    )
    assert compare(packed_attention_reference) == 0.0

    def both_ways(*given: object) -> object:
        return packed_attention_reference(*given[:4], AttentionForm(causal=False))

    assert not compare(both_ways) <= attention.PARITY_LIMIT
    assert not compare(lambda *given: packed_attention_reference(*given) * np.nan) <= (
        attention.PARITY_LIMIT
    )


def test_rows_are_packed_as_training_packs_them() -> None:
    """The kernels would be timed on rows that training never sees."""
    _, segments = packed_rows.packed_segments("", packed_rows.QUICK)
    assert segments.shape[0] == packed_rows.QUICK.steps and segments.shape[2] % 8 == 0
    for batch in segments:
        users = batch[batch >= 0]
        assert len(np.unique(users)) <= packed_rows.QUICK.batch_size
        changes = (np.diff(batch, axis=1) != 0).sum() + len(
            batch
        )  # a user occupies one stretch of one row
        assert changes == sum(len(np.unique(row)) for row in batch)
