"""One stage of `benchmarks.reading` in a separate process: python -m benchmarks.reading_stages FILE --stage=read|prepare [--store=FOLDER]

Prints one line of JSON. Seconds are processor seconds of all threads of this process, so that other programs on the machine do not count.
Peaks include the program, its libraries and mapped files.
"""

import argparse
import contextlib
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.peak_memory import peak_bytes
from grasp_jax.config import DataConfig
from grasp_jax.data.dataset import data_settings, load_dataset
from grasp_jax.data.negatives import draw_candidates, exclusion_index
from grasp_jax.data.packing import pack, pack_in_blocks, plan_packing, stratified_batches
from grasp_jax.data.split import Split, make_split, without_users_short_of_negatives
from grasp_jax.evaluation.seen import seen_pairs

NEGATIVES, ASKED, BATCH, BLOCK = 100, 100_000, 128, 128


class Costs:
    """Processor seconds of each step, and the peak at its end."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Records the cost of the code in the context."""
        started = time.process_time()
        yield
        seconds = time.process_time() - started
        self.steps[name] = {"cpu_seconds": seconds, "peak_bytes": peak_bytes()}


def read(path: pathlib.Path, store: str = "off") -> dict[str, Any]:
    """Reads a file and builds its log; with a store, the log is stored, or mapped if it is stored already."""
    config, start, costs = _settings(path, store), peak_bytes(), Costs()
    with costs.of("read and build"):
        log = load_dataset(config).log
    return {
        "start_bytes": start,
        "users": log.num_users,
        "items": log.num_items,
        "interactions": log.num_interactions,
        "fingerprint": log.fingerprint,
        "steps": costs.steps,
    }


def prepare(path: pathlib.Path) -> dict[str, Any]:
    """Everything before the first step except text vectors: reading, the split, an epoch, and the inputs of validation and test."""
    config, start, costs = _settings(path), peak_bytes(), Costs()
    with costs.of("read and build"):
        log = load_dataset(config).log
    with costs.of("fingerprint"):
        _ = log.fingerprint
    with costs.of("split"):
        split, _ = without_users_short_of_negatives(make_split(config, log), NEGATIVES)
    with costs.of("batches and packing of an epoch"):
        _epoch(split)
    with costs.of("exclusion index of training"):
        exclusion_index(log, log.offsets[:-1], split.train.end)
    _questions(split, costs)
    return {"start_bytes": start, "interactions": log.num_interactions, "steps": costs.steps}


def _epoch(split: Split) -> None:
    users = np.flatnonzero(split.train.lengths > 1)
    packing = plan_packing(split.train, users, BATCH)
    rng = np.random.default_rng(0)
    pack(split.train, stratified_batches(split.train.lengths, users, BATCH, rng), packing)


def _questions(split: Split, costs: Costs) -> None:
    """The inputs of validation for `ASKED` users: exclusions, stored negatives, queries, packed blocks, seen items."""
    log, everyone = split.log, split.valid.evaluated
    with costs.of("exclusion index of evaluation"):
        index = exclusion_index(log, log.offsets[:-1], log.offsets[1:])
    kept = np.sort(np.random.default_rng(1).choice(len(everyone), min(ASKED, len(everyone)), False))
    with costs.of("stored negatives"):
        draw_candidates(index, everyone, NEGATIVES, 0, kept)
    with costs.of("packed questions"):
        batches, _, _ = pack_in_blocks(split.valid, everyone[kept], BLOCK)
    with costs.of("seen pairs"):
        seen_pairs(log, split.valid, batches)


def _settings(path: pathlib.Path, store: str = "off") -> DataConfig:
    return data_settings({"path": str(path), "store": store})


def main() -> None:
    """Runs the stage and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=pathlib.Path)
    parser.add_argument("--stage", choices=("read", "prepare"), required=True)
    parser.add_argument(
        "--store", default="off", help="value of config.data.store, for --stage=read"
    )
    given = parser.parse_args()
    found = prepare(given.path) if given.stage == "prepare" else read(given.path, given.store)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
