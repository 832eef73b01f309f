"""How many kernels a training step launches on a GPU: counted from compiled text, for an H100 where its compiler is installed."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import h100
from benchmarks.kernels_of_a_step import MODELS, RECORD, Workload, count_model
from benchmarks.launches import count
from benchmarks.record import RESULTS
from benchmarks.sections import launches
from benchmarks.sections.kernel_meaning import fastest_of_xla

AT_MOST = {  # what there are today; a change that launches fewer lowers its bound
    "grasp-sasrec": 175,
    "grasp-sasrec-backbone": 60,
    "grasp-bert4rec": 185,
    "grasp-bert4rec-backbone": 63,
    "grasp-gru4rec": 60,
    "plain-sasrec": 151,
    "plain-sasrec-backbone": 34,
    "plain-bert4rec": 159,
    "plain-bert4rec-backbone": 36,
    "plain-gru4rec": 35,
    "grasp_plus-sasrec": 440,
    "grasp_plus-sasrec-backbone": 129,
    "grasp_plus-bert4rec": 463,
    "grasp_plus-bert4rec-backbone": 131,
    "grasp_plus-gru4rec": 122,
    "llm_esr-sasrec": 259,
    "rlmrec_con-sasrec": 226,
    "rlmrec_gen-sasrec": 191,
    "unisrec-sasrec": 184,
}
RECOUNTED = (
    "plain-sasrec",
    "plain-sasrec-backbone",
    "plain-gru4rec",
)  # by each run of the tests: a minute of compilation

HLO = """HloModule jit_step, is_scheduled=true

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %e = f32[8]{0} exponential(%p), metadata={op_name="jit(step)/while/body/backbone/exp"}
}

%inner (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s = (s32[], f32[8]{0}) parameter(0)
  %s.0 = s32[] get-tuple-element(%s), index=0
  %s.1 = f32[8]{0} get-tuple-element(%s), index=1
  %turn = f32[8]{0} fusion(%s.1), kind=kLoop, calls=%fused, metadata={op_name="jit(step)/while/body/backbone/exp"}
  ROOT %s.2 = (s32[], f32[8]{0}) tuple(%s.0, %turn)
}

%holds (s: (s32[], f32[8])) -> pred[] {
  %s.3 = (s32[], f32[8]{0}) parameter(0)
  ROOT %c = pred[] constant(true)
}

%body (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], f32[8]{0}) parameter(0)
  %t.0 = s32[] get-tuple-element(%t), index=0
  %t.1 = f32[8]{0} get-tuple-element(%t), index=1
  %first = f32[8]{0} fusion(%t.1), kind=kLoop, calls=%fused, metadata={op_name="jit(step)/while/body/backbone/exp"}
  %beside = f32[8]{0} fusion(%t.1), kind=kLoop, calls=%fused, metadata={op_name="jit(step)/while/body/update/exp"}
  %product = f32[8]{0} custom-call(%first, %beside), custom_call_target="__cublas$lt$matmul"
  %pair = (s32[], f32[8]{0}) tuple(%t.0, %product)
  %loop = (s32[], f32[8]{0}) while(%pair), condition=%holds, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
  %out = f32[8]{0} get-tuple-element(%loop), index=1
  ROOT %t.2 = (s32[], f32[8]{0}) tuple(%t.0, %out)
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %zero = s32[] constant(0)
  %before = f32[8]{0} fusion(%a), kind=kLoop, calls=%fused
  %state = (s32[], f32[8]{0}) tuple(%zero, %before)
  %steps = (s32[], f32[8]{0}) while(%state), condition=%holds, body=%body
  ROOT %r = f32[8]{0} get-tuple-element(%steps), index=1
}
"""


def test_iteration_is_counted() -> None:
    """What runs before the loop, what launches nothing, or an inner loop's turn taken once, would be a wrong number of kernels."""
    found = count(HLO)
    assert found.kernels == 3 + 5
    assert found.chain == 2 + 5  # of the two that go first, one does not wait for the other
    assert found.kinds == {"fusion": 7, "custom-call __cublas$lt$matmul": 1}
    assert found.stages == {"backbone": 7, "update": 1}  # the product goes by what reads it


def test_function_without_a_loop_is_counted_whole() -> None:
    """The text that this version of XLA writes would be read as a program without instructions."""
    compiled = jax.jit(lambda x: jnp.sort(x @ x)).lower(jnp.ones((64, 64))).compile()
    assert count(compiled.as_text() or "").kernels >= 2


def _record() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(RECORD.read_text())
    return record


def test_record_is_of_the_models_that_there_are() -> None:
    """A row could be of a model that is no more, or have no bound."""
    names = [row["model"] for row in _record()["models"]]
    assert set(names) == set(AT_MOST) <= set(MODELS)
    assert names == [name for name in MODELS if name in AT_MOST]


def test_page_shows_the_record() -> None:
    """docs/kernels.md would show counts of an earlier day."""
    text = launches.PAGE.read_text(encoding="utf-8")
    assert launches.page(text, _record()) == text


def test_a_kernel_is_compared_with_the_best_form_of_xla() -> None:
    """A kernel would look twice as fast as it is, because it is compared with the slowest way to write the same."""
    forms = {"scan": 4.0, "scan, 4 to an iteration": 2.0, "kernel": 1.0}
    cases = {name: {"median_ms": value} for name, value in forms.items()}
    assert fastest_of_xla(cases) == ("scan, 4 to an iteration", 2.0)
    gru, attention = (
        json.loads((RESULTS / f"{name}-gpu.json").read_text()) for name in ("gru", "attention")
    )
    gru["cases"]["training"] = cases
    said = launches.speeds(_record(), gru, attention)
    assert "2.00 times as fast as XLA's best form (scan, 4 to an iteration), 4.00 times" in said
    assert "used 14 of 16 cores" in said and "cuDNN" in said


@pytest.mark.parametrize("name", AT_MOST)
def test_recorded_step_is_within_its_bound(name: str) -> None:
    """A record with more kernels than a step may have would be kept unseen."""
    (row,) = (row for row in _record()["models"] if row["model"] == name)
    assert row["kernels"] <= AT_MOST[name]
    assert row["kernels"] == sum(row["stages"].values())


@pytest.mark.skipif(bool(h100.problem()), reason=h100.problem())
@pytest.mark.parametrize("name", RECOUNTED)
def test_step_launches_at_most_so_many_kernels(name: str) -> None:
    """A change of the step that adds launches makes every step on a GPU longer, and no test on a CPU would see it."""
    assert count_model(Workload(), name)["kernels"] <= AT_MOST[name]


def test_aim_is_compared_with_the_count_of_its_form() -> None:
    """A step would count as one of few kernels because of another model's, or of a form that is not the default."""
    rows = [
        {"model": "grasp-sasrec", "kernels": 61},
        {"model": "grasp-sasrec-backbone", "kernels": 60},
        {"model": "plain-sasrec", "kernels": 46},
        {"model": "plain-sasrec-backbone", "kernels": 47},
        {"model": "grasp-gru4rec", "kernels": 59},
        {"model": "plain-gru4rec", "kernels": 58},
    ]
    shown = {row[0]: row[1:] for row in launches.aims({"models": rows}).rows}
    assert shown == {
        "GRASP on SASRec": ["60", "61 (not reached)", "60 (reached)"],
        "SASRec without text": ["45", "46 (not reached)", "47 (not reached)"],
        "GRASP on GRU4Rec": ["60", "59 (reached)", "59 (reached)"],
        "GRU4Rec without text": ["60", "58 (reached)", "58 (reached)"],
    }
