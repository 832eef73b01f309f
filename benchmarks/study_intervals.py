"""The difference of each row of the study `ahead` from SASRec with cross-entropy, with intervals over users and seeds.

    python -m benchmarks.study_intervals runs/ahead-*

It reads the rank of every test user, which finished workdirs have and the committed records do not, and stores the differences in
benchmarks/results/study-ahead-against.json, which `python -m benchmarks.studies` reads. Rows of other workdirs do not change, so a new row
needs only its own workdirs and those of SASRec with the same seeds. Store the workdirs in the study first: a workdir whose setting
(dropout, learning rate) is not the one that validation chose for its row there is left out.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.arguments import parser_of_pages
from benchmarks.record import run as run_main
from benchmarks.record import save
from benchmarks.study_records import PROTOCOLS, path_of, read
from benchmarks.study_trials import (
    BASELINE,
    LOSSES,
    Setting,
    Trial,
    all_parts,
    best_setting,
    chosen,
)
from grasp_jax.evaluation.metrics import ndcg_gains
from grasp_jax.evaluation.significance import compare
from grasp_jax.report.runs import read_run

Gains = dict[Trial, dict[str, list[np.ndarray]]]  # by row, protocol and seed: [n] NDCG@10


def differences(
    folders: Sequence[str], settings: Mapping[Trial, Setting] | None = None
) -> dict[str, dict[str, list[float]]]:
    """By row and protocol: NDCG@10 minus that of SASRec with cross-entropy in percent, and both ends of its 95 % interval.

    Args:
      folders: finished workdirs; seeds of one row may be in several.
      settings: those that validation chose among all runs of a row; workdirs with another setting are left out.
    """
    gains = _gains(folders, settings or {})
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


def _gains(folders: Sequence[str], settings: Mapping[Trial, Setting]) -> Gains:
    gains: Gains = {}
    runs = {
        own.name: (path, own) for path in map(pathlib.Path, folders) for own in [read_run(path)]
    }
    for trial, parts in all_parts([run for _, run in runs.values()]).items():
        wanted = settings.get(trial) or best_setting(parts)
        for run, method in parts:
            if chosen(run, method) != wanted:
                continue
            for row in run.rows:
                if row["group"] != "all" or row["method"] != method:
                    continue
                protocol = row["protocol"]
                name = f"{method}-{row['backbone']}-seed{row['seed']}-{protocol}.npz"
                with np.load(runs[run.name][0] / "ranks" / name, allow_pickle=False) as ranks:
                    by_protocol = gains.setdefault(trial, {})
                    by_protocol.setdefault(protocol, []).append(ndcg_gains(ranks["rank"]))
    return gains


def main() -> None:
    """Adds the differences of the given workdirs to those that are stored."""
    parser = parser_of_pages("study_intervals", __doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="finished runs")
    given = parser.parse_args().workdirs
    path = path_of("ahead-against")
    kept = json.loads(path.read_text())["differences"] if path.exists() else {}
    settings = {trial: best_setting(parts) for trial, parts in all_parts(read("ahead")[0]).items()}
    save(path, {"differences": kept | differences(given, settings)})


if __name__ == "__main__":
    run_main(main)
