"""The results of a run: results.json, and what is printed when all trials are evaluated."""

import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from grasp_jax import __version__
from grasp_jax.config import CONFIG_FILE, FIELDS
from grasp_jax.config.address import redacted
from grasp_jax.core.files import write_sealed
from grasp_jax.core.machine import machine
from grasp_jax.core.timing import compile_seconds
from grasp_jax.data.groups import statistics
from grasp_jax.evaluation.results import comparison_table, save_results, table
from grasp_jax.evaluation.significance import Comparison, compare
from grasp_jax.evaluation.untrained import is_trained
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.methods import METHODS
from grasp_jax.models.registration import own_of
from grasp_jax.parallel.processes import is_main_process
from grasp_jax.report.check import READ_FILE
from grasp_jax.report.verdict import main_protocol, verdict
from grasp_jax.serving.artifact import save_command
from grasp_jax.trials.opening import Opening
from grasp_jax.trials.run import Run
from grasp_jax.trials.trial_results import Evaluated, finished

NO_FILE = "--config=FILE.py"


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
    trials = trained_models(
        run.records.read(),
        {names: trial.training["epoch"] for names, trial in evaluated.items() if trial.training},
    )
    unfinished = [
        {"method": method, "backbone": backbone}
        | {name: trial.training[name] for name in ("epoch", "max_epochs")}
        for (method, backbone), trial in evaluated.items()
        if trial.training.get("unfinished")
    ]
    about = {
        "command": redacted(_command_as_typed(sys.argv)),
        "version": __version__,
        "data": run.fingerprint,
        "table1": statistics(run.split, run.groups),
        "lengths": {str(length): int(count) for length, count in enumerate(lengths) if count},
        "seconds": _seconds(trials),
        "trials": trials,
        **machine(),
    }
    if is_main_process():
        save_results(
            run.workdir / "results.json",
            {"rows": rows, "comparisons": comparisons, "failed": list(failed)}
            | {"unfinished": unfinished, "about": about},
        )
        write_sealed(run.workdir / READ_FILE, {"lines": read.lines()})
    protocol = main_protocol(rows, run.config.eval.select)
    print("", *verdict(rows, comparisons, protocol, failed, unfinished), sep="\n")
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
    own = own_names(run)
    print(
        f"for production: {how_to_refit(run.workdir, own)} trains the model that validation prefers on all interactions"
    )
    print(f"then {how_to_serve(run.workdir, own)}")


def trained_models(
    records: Sequence[Mapping[str, Any]], tested: Mapping[tuple[str, str], int]
) -> list[dict[str, Any]]:
    """What was trained, a row for each method on each backbone: its seconds, and every seed, dropout and learning rate with its best
    validation score.

    Args:
      records: the lines of metrics.jsonl.
      tested: by method and backbone, for how many epochs the models were trained that were tested. Lines of later epochs, which an
        interrupted training has written after its last checkpoint, are left out.

    Returns:
      "method", "backbone", "seconds" of training and validation, and "models": "seed", "dropout", "learning_rate", the last "epoch", and
      "valid_ndcg@10", the best one; None without validation.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    epochs = (record for record in records if record["event"] in ("epoch", "refit"))
    for record in epochs:
        if record["epoch"] > tested.get((record["method"], record["backbone"]), record["epoch"]):
            continue
        names = {name: record[name] for name in ("method", "backbone")}
        trial = found.setdefault(
            (record["method"], record["backbone"]), {**names, "epochs": {}, "models": {}}
        )
        # models trained together share an epoch's seconds
        trial["epochs"][record["epoch"]] = record["train_seconds"], record["eval_seconds"]
        model = {name: record.get(name) for name in ("seed", "dropout", "learning_rate", "epoch")}
        place = model["seed"], model["dropout"], model["learning_rate"]
        trial["models"][place] = model | {"valid_ndcg@10": record.get("best")}
    for trial in found.values():
        train, validation = (
            round(sum(column), 1) for column in zip(*trial.pop("epochs").values(), strict=True)
        )
        trial["seconds"] = {"train": train, "validation": validation}
        trial["models"] = [*trial["models"].values()]
    return [*found.values()]


def _seconds(trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Training and validation seconds of all of `trained_models`, resumed epochs included, and compilation's of this process."""
    totals = {
        stage: round(sum((trial["seconds"][stage] for trial in trials), 0.0), 1)
        for stage in ("train", "validation")
    }
    return totals | {"compilation": round(compile_seconds(), 1)}


def _command_as_typed(arguments: Sequence[str]) -> str:
    """The command line of this process."""
    program = pathlib.Path(arguments[0]).name
    command = program if program == "grasp-jax" else "python -m grasp_jax.main"
    return " ".join([command, *map(shlex.quote, arguments[1:])])


def how_to_report(workdir: pathlib.Path) -> str:
    """The command that writes the comparison page, and the extra that it needs where that is missing."""
    first = "" if find_spec("jinja2") else "pip install 'grasp-jax[report]', then "
    return f"for a page that compares the methods: {first}grasp-jax --mode=report --runs={workdir} --out={workdir / 'report'}"


def own_names(run: Run) -> list[str]:
    """Methods and backbones of a run that are not of this package. The workdir has their names, not their code."""
    return own_of(name for trial in run.trials for name in trial)


def how_to_refit(workdir: pathlib.Path, own: Sequence[str] = ()) -> str:
    """The command that trains the model of a workdir on all interactions.

    Args:
      workdir: of the run.
      own: its `own_names`, which the command registers by the config file of this call.
    """
    if not own:
        return f"grasp-jax --workdir={workdir} --mode=refit"
    config = " ".join(redacted(shlex.quote(flag)) for flag in config_flags(sys.argv[1:]))
    return f"{_python_path()}grasp-jax {config} --workdir={workdir} --mode=refit{_by_hand(own)}"


def how_to_serve(workdir: pathlib.Path, own: Sequence[str] = ()) -> str:
    """The commands that serve the model of a workdir, now and after its data change; with `own_names`, the one that saves it."""
    if own:
        file = config_flags(sys.argv[1:])[0].partition("=")[2]
        command, saved = save_command(workdir, file)
        return (
            f"save it: {_python_path()}{command}{_by_hand(own)}; and run {_python_path()}grasp-serve {saved} "
            f"--import={shlex.quote(file.partition(':')[0])}"
        )
    command, saved = save_command(workdir)
    return (
        f"grasp-serve {shlex.quote(str(workdir))} answers with it until the data change; to serve it after that, save it: {command} "
        f"and run grasp-serve {saved}"
    )


def config_flags(arguments: Sequence[str]) -> list[str]:
    """--config=FILE.py first, and then the fields that a command line sets; --config=FILE.py alone if it names no such file."""
    followed = list(zip(arguments, [*arguments[1:], ""], strict=True))
    files = [
        argument if "=" in argument else f"{argument}={following}"
        for argument, following in followed
        if re.match(r"--?config(=|$)", argument)
    ]
    if not files or pathlib.Path(files[0]).name == CONFIG_FILE:
        return [NO_FILE]
    fields = [pair for pair in followed if re.match(r"--?(no)?config\.", pair[0])]
    return [files[0], *(_with_value(*pair) for pair in fields)]


def _with_value(flag: str, following: str) -> str:
    """A flag of a field with its value, which may stand behind a blank; a switch, such as --noconfig.eval.full, takes none."""
    name = re.sub(r"^--?config\.(by_(method|source)\.[^.]+\.)?", "", flag)
    is_switch = re.match("--?no", flag) or (
        name in FIELDS and isinstance(FIELDS[name].default, bool)
    )
    return flag if "=" in flag or is_switch else f"{flag}={following}"


def _python_path() -> str:
    """What a command needs in front of it to find the modules that this call has found."""
    path = os.environ.get("PYTHONPATH", "")
    return f"PYTHONPATH={shlex.quote(path)} " if path else ""


def _by_hand(own: Sequence[str]) -> str:
    """What to put in where this call named no config file."""
    known = config_flags(sys.argv[1:]) != [NO_FILE]
    return "" if known else f" (FILE.py: a config file that registers {', '.join(own)})"


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
                (comparison.first, comparison.second): comparison
                for comparison in comparisons
                if not (is_trained(comparison.first) or is_trained(comparison.second))
            }
            rows += [
                {"protocol": protocol, "backbone": backbone, **dataclasses.asdict(comparison)}
                for comparison in comparisons
            ]
    return rows
