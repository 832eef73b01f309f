"""Memory of steps with many users, compiled for an H100 without a GPU: python -m benchmarks.plan_memory.

RLMRec's contrastive losses need as many logits as the square of the places of a batch, which only a large batch shows. The record is
benchmarks/results/plan-memory-h100.json, with which a test compares `grasp_jax.planning`.
"""

import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import h100
from benchmarks.arguments import parser_of
from benchmarks.kernels_of_a_step import Workload, compiled_step
from benchmarks.record import RESULTS, place, run, save
from benchmarks.workload import temporary_bytes
from grasp_jax.core.machine import commit

RECORD = RESULTS / "plan-memory-h100.json"
METHODS = ("plain", "rlmrec_con", "rlmrec_gen", "llm_esr")
BATCH = 1024  # users of a step


class LargeBatch(Workload):
    """The workload of `benchmarks.kernels_of_a_step`, with steps of more users."""

    def __init__(self, quick: bool = False) -> None:
        super().__init__(quick)
        self.config = self.config.with_fields({"train.batch_size": BATCH})


def measured(work: Workload, method: str) -> dict[str, Any]:
    """The bytes of temporaries of a step of a method on SASRec."""
    compiled = compiled_step(work.training(f"{method}-sasrec"))
    return {"method": method, "commit": commit(), "temporary_bytes": temporary_bytes(compiled)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compiles each method, prints, and writes JSON."""
    given = parser_of("plan_memory", __doc__).parse_args(arguments)
    h100.device()
    work = LargeBatch(given.quick)
    rows = []
    for method in METHODS:
        rows.append(measured(work, method))
        print(json.dumps(rows[-1]), flush=True)
    path: pathlib.Path | None = place(given, RECORD.name)
    if path is not None:
        what = {"benchmark": "plan_memory", "date": time.strftime("%Y-%m-%d"), "users": BATCH}
        save(path, {**what, "device": "H100 that is compiled for", "steps": rows})
        print(f"written to {path}")


if __name__ == "__main__":
    run(main)
