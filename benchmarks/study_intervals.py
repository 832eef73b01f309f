"""The difference of each row of the study `ahead` from SASRec with cross-entropy, with intervals over users and seeds.

    python -m benchmarks.study_intervals runs/ahead-*

It reads the rank of every test user, which finished workdirs have and the committed records do not, and stores the differences in
benchmarks/results/study-ahead-against.json, which `python -m benchmarks.studies` reads. Rows of other workdirs do not change, so a new row
needs only its own workdirs and those of SASRec with the same seeds.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.record import save
from benchmarks.study_late_fusion import BASELINE, LOSSES, Trial, by_trial
from benchmarks.study_records import PROTOCOLS, path_of
from grasp_jax.evaluation.significance import compare, ndcg_gains
from grasp_jax.report.runs import read_run

Gains = dict[Trial, dict[str, list[np.ndarray]]]  # by row, protocol and seed: [n] NDCG@10


def differences(folders: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """By row and protocol: NDCG@10 minus that of SASRec with cross-entropy in percent, and both ends of its 95 % interval.

    Args:
      folders: finished workdirs; seeds of one row may be in several.
    """
    gains = _gains(folders)
    base = gains[BASELINE, LOSSES["ce"]]
    found: dict[str, dict[str, list[float]]] = {}
    for (name, by), own in gains.items():
        if name != BASELINE:
            found[f"{name} {by}".strip()] = {
                protocol: _difference(np.stack(base[protocol]), np.stack(own[protocol]))
                for protocol in PROTOCOLS
            }
    return found


def _difference(base: np.ndarray, own: np.ndarray) -> list[float]:
    result = compare({"base": base, "own": own})[0]
    return [100 * value for value in (result.difference, result.low, result.high)]


def _gains(folders: Sequence[str]) -> Gains:
    gains: Gains = {}
    runs = {
        read.name: (path, read) for path in map(pathlib.Path, folders) for read in [read_run(path)]
    }
    for trial, parts in by_trial([run for _, run in runs.values()]).items():
        for run, method in parts:
            for row in run.rows:
                if row["group"] != "all" or row["method"] != method:
                    continue
                protocol = row["protocol"]
                name = f"{method}-{row['backbone']}-seed{row['seed']}-{protocol}.npz"
                with np.load(runs[run.name][0] / "ranks" / name, allow_pickle=False) as ranks:
                    by_protocol = gains.setdefault(trial, {})
                    by_protocol.setdefault(protocol, []).append(ndcg_gains(ranks["rank"]))
    return gains


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.study_intervals WORKDIR ...")
    path = path_of("ahead-against")
    kept = json.loads(path.read_text())["differences"] if path.exists() else {}
    save(path, {"differences": kept | differences(sys.argv[1:])})
