"""The results of a run: results.json, and what is printed when all trials are evaluated."""

import dataclasses
import pathlib
import shlex
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from grasp_jax.config.address import redacted
from grasp_jax.core.files import write_sealed
from grasp_jax.core.machine import machine
from grasp_jax.data.groups import statistics
from grasp_jax.evaluation.results import comparison_table, save_results, table
from grasp_jax.evaluation.significance import Comparison, compare
from grasp_jax.evaluation.untrained import is_trained
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.methods import METHODS
from grasp_jax.parallel.processes import is_main_process
from grasp_jax.report.check import READ_FILE
from grasp_jax.report.verdict import main_protocol, verdict
from grasp_jax.serving.artifact import save_command
from grasp_jax.trials.opening import Opening
from grasp_jax.trials.run import Run, seconds
from grasp_jax.trials.trial_results import Evaluated, finished


def report_results(
    run: Run,
    evaluated: dict[tuple[str, str], Evaluated],
    read: Opening,
    failed: Sequence[dict[str, str]] = (),
) -> None:
    """Writes results.json, and prints the verdict, the tables and the times.

    Args:
      run: the run.
      evaluated: results of this call's trials, by method and backbone.
      read: what was read, as the run's first lines said it.
      failed: "method", "backbone" and "reason" of the trials that diverged.
    """
    evaluated = _all_finished(run, evaluated)
    rows = [row for trial in evaluated.values() for row in trial.rows]
    comparisons = _compare(evaluated)
    lengths = np.bincount(run.split.log.lengths)
    about = {
        "command": redacted(" ".join(["python -m grasp_jax.main", *sys.argv[1:]])),
        "table1": statistics(run.split, run.groups),
        "lengths": {str(length): int(count) for length, count in enumerate(lengths) if count},
        "seconds": seconds(run),
        **machine(),
    }
    if is_main_process():
        save_results(run.workdir / "results.json", rows, comparisons, failed, about)
        write_sealed(run.workdir / READ_FILE, {"lines": read.lines()})
    protocol = main_protocol(rows, run.config.eval.select)
    print("", *verdict(rows, comparisons, protocol, failed), sep="\n")
    print(f"\n{table(rows, failed, _columns_of_terminal())}\n")
    if comparisons:
        print(f"{comparison_table(comparisons)}\n")
    print(
        "time: "
        + ", ".join(
            f"{stage.replace('train', 'training')} {value:,.1f} s"
            for stage, value in about["seconds"].items()
        )
    )
    if len(evaluated) > 1:
        print(how_to_report(run.workdir))
    print(
        f"for production: grasp-jax --workdir={run.workdir} --mode=refit trains the model that validation prefers on all interactions"
    )
    print(f"then {how_to_serve(run.workdir)}")


def how_to_report(workdir: pathlib.Path) -> str:
    """The command that writes the comparison page, and the extra that it needs where that is missing."""
    first = "" if find_spec("jinja2") else "pip install 'grasp-jax[report]', then "
    return f"for a page that compares the methods: {first}grasp-jax --mode=report --runs={workdir} --out={workdir / 'report'}"


def how_to_serve(workdir: pathlib.Path) -> str:
    """The commands that serve the model of a workdir, now and after its data change."""
    command, saved = save_command(workdir)
    return (
        f"grasp-serve {shlex.quote(str(workdir))} answers with it until the data change; to serve it after that, save it: {command} "
        f"and run grasp-serve {saved}"
    )


def _all_finished(
    run: Run, evaluated: dict[tuple[str, str], Evaluated]
) -> dict[tuple[str, str], Evaluated]:
    """The trials of this call and of earlier calls in the workdir, in the order of the tables."""
    found = {}
    for backbone in BACKBONES:
        for method in METHODS:
            if trial := evaluated.get((method, backbone)) or finished(run, method, backbone):
                found[method, backbone] = trial
    return found


def _columns_of_terminal() -> int:
    """0 if the standard output is no terminal, so that a log has the whole tables."""
    return shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else 0


def _compare(evaluated: Mapping[tuple[str, str], Evaluated]) -> list[dict[str, Any]]:
    """Every pair of methods of each backbone, by each protocol.

    Two methods that are not trained are the same comparison under each backbone: Holm's correction counts it with the first alone.
    """
    rows: list[dict[str, Any]] = []
    untrained: dict[str, dict[tuple[str, str], Comparison]] = defaultdict(dict)
    for backbone in dict.fromkeys(backbone for _, backbone in evaluated):
        trials = {method: trial for (method, of), trial in evaluated.items() if of == backbone}
        for protocol in dict.fromkeys(name for trial in trials.values() for name in trial.gains):
            gains = {
                method: trial.gains[protocol]
                for method, trial in trials.items()
                if protocol in trial.gains
            }
            comparisons = compare(gains, known=untrained[protocol])
            untrained[protocol] |= {
                (own.first, own.second): own
                for own in comparisons
                if not (is_trained(own.first) or is_trained(own.second))
            }
            rows += [
                {"protocol": protocol, "backbone": backbone, **dataclasses.asdict(comparison)}
                for comparison in comparisons
            ]
    return rows
