"""The stages behind `--mode`, each a function of the experiment and the command line's flags."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from grasp_jax.audit.measure import measure
from grasp_jax.audit.ratings import rated_groups, read_ratings
from grasp_jax.audit.sheet import sheet_rows
from grasp_jax.audit.subjects import group_labels, make_subjects
from grasp_jax.audit.write import write_audit
from grasp_jax.cell_results import Evaluated, evaluate_cell, finished_cell
from grasp_jax.cells import Cell, make_cell, train_cell, trained_cell
from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.split import statistics
from grasp_jax.data.summary import summary_lines
from grasp_jax.errors import TrainingDiverged, UserError
from grasp_jax.evaluation.results import comparison_table, save_results, table
from grasp_jax.evaluation.significance import compare
from grasp_jax.experiment import Experiment
from grasp_jax.knowledge.address import redacted
from grasp_jax.knowledge.bank import MANIFEST, bank_width
from grasp_jax.knowledge.prepare import prepare_bank
from grasp_jax.knowledge.texts import dry_run, sample_prompts
from grasp_jax.locks import only_one
from grasp_jax.machine import machine
from grasp_jax.models.methods import METHODS
from grasp_jax.models.recommender import BACKBONES
from grasp_jax.parallel.processes import is_first
from grasp_jax.paths import check_folder
from grasp_jax.planning import plan_lines
from grasp_jax.report.runs import read_runs
from grasp_jax.report.write import write_report
from grasp_jax.serving.recommend import read_users, recommend
from grasp_jax.training.checkpoint import hash_of_model
from grasp_jax.workdir import remove_unfinished


def prepare(experiment: Experiment, flags: Any) -> None:
    """Reads the data, says what was read, and makes or opens the knowledge bank; with --dry-run says what that would ask for."""
    print("\n".join(summary_lines(experiment.dataset, experiment.config.eval.include_short_users)))
    facts = statistics(experiment.split, experiment.groups)
    print("dataset: " + ", ".join(f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items()))
    if experiment.needs_bank:
        for line in sample_prompts(experiment.knowledge, experiment.split, experiment.dataset.texts):
            print(line)
    if flags["dry-run"].value:
        print("\n".join(dry_run(experiment.knowledge, experiment.split, experiment.dataset.texts)))
        return
    if experiment.bank is not None:
        recipe = experiment.bank.manifest["recipe"]
        print(f"knowledge: encoder {recipe['encoder']}, E={experiment.bank.width}, K={recipe['num_neighbours']}")


def prepare_alone(experiment: Experiment, flags: Any) -> None:
    """`prepare` as a mode of its own: a bank that was made is kept, so the workdir becomes the config's."""
    prepare(experiment, flags)
    if not flags["dry-run"].value:
        experiment.claim()


def train(experiment: Experiment, flags: Any) -> None:
    """Trains every method on every backbone that the config names."""
    experiment.check()
    prepare(experiment, flags)
    for method, backbone in experiment.cells:
        train_cell(experiment, make_cell(experiment, method, backbone))


def evaluate(experiment: Experiment, flags: Any) -> None:
    """Measures the trained models on the test items and writes results.json."""
    evaluated = {}
    for method, backbone in experiment.cells:
        cell = make_cell(experiment, method, backbone)
        evaluated[method, backbone] = evaluate_cell(experiment, cell, trained_cell(experiment, cell))
    _report(experiment, evaluated)


def everything(experiment: Experiment, flags: Any) -> None:
    """prepare, then train and evaluate cell by cell: a finished one is not ranked again, and one that diverges does not stop the rest."""
    experiment.check()
    prepare(experiment, flags)
    evaluated: dict[tuple[str, str], Evaluated] = {}
    failed: list[dict[str, str]] = []
    for number, (method, backbone) in enumerate(experiment.cells, start=1):
        if len(experiment.cells) > 1:
            print(f"cell {number} of {len(experiment.cells)}: {method}-{backbone}", flush=True)
        cell = make_cell(experiment, method, backbone)
        try:
            snapshot = train_cell(experiment, cell)
        except TrainingDiverged as error:
            if len(experiment.cells) == 1:
                raise
            failed.append({"method": method, "backbone": backbone, "reason": str(error)})
            continue
        done = finished_cell(experiment, method, backbone, hash_of_model(snapshot.best_params))
        evaluated[method, backbone] = done or evaluate_cell(experiment, cell, snapshot)
    if evaluated:
        _report(experiment, evaluated, failed)
    if failed:
        reasons = "; ".join(cell["reason"] for cell in failed)
        raise TrainingDiverged(f"{len(failed)} of {len(experiment.cells)} cells failed; {reasons}")


def recommend_items(experiment: Experiment, flags: Any) -> None:
    """Writes the top items of every user, by the trained model with the best validation score."""
    log, asked = experiment.split.log, read_users(flags.users, experiment.split.log)
    best: tuple[float, Cell, Any, int] | None = None
    for method, backbone in experiment.cells:
        cell = make_cell(experiment, method, backbone)
        snapshot = trained_cell(experiment, cell)
        m = int(snapshot.progress.best.argmax())
        if best is None or snapshot.progress.best[m] > best[0]:
            best = (float(snapshot.progress.best[m]), cell, snapshot, m)
    if best is None:
        raise UserError("config.model.method names no model")
    score, cell, snapshot, m = best
    member = cell.members[m]
    print(f"model: {cell.method}-{cell.backbone}, seed {member.seed}, validation NDCG@10 {100 * score:.2f}")
    params = jax.tree.map(lambda leaf: leaf[m], snapshot.best_params)
    path = pathlib.Path(flags.out or experiment.workdir / "recommendations.parquet")
    made_from = experiment.made_from(cell.method) | {"model": hash_of_model(snapshot.best_params), "seed": member.seed}
    served = recommend(
        experiment.config, cell.model, params, cell.data.device, cell.data.tables, log, asked.rows,
        experiment.queries(cell.method, log.offsets[1:]), experiment.mesh, path, made_from, asked.skipped,
    )  # fmt: skip
    top_n = experiment.config.recommend.top_n
    print(f"{served.full + served.short} users, {top_n} items each: {path}")
    if served.short:
        print(f"{served.short} of them have fewer than {top_n} items left, and get those")
    if served.skipped:
        why = path.with_name(f"{path.stem}.skipped.csv")
        print(f"{len(served.skipped)} of those asked for get nothing, {served.skipped[0][0]!r} the first: {why}")


def audit(experiment: Experiment, flags: Any) -> None:
    """Writes how far the run's knowledge can be trusted, and a sheet for raters or, with --ratings, what they say; asks no endpoint."""
    out = check_folder(flags.out or str(experiment.workdir / "audit"), "--out")
    if not (experiment.bank_folder / MANIFEST).is_file():
        raise UserError(f"{experiment.bank_folder}: there is no knowledge bank to audit; run --mode=prepare first")
    config, dataset = experiment.knowledge, experiment.dataset
    labels = group_labels(config)
    rated = rated_groups(read_ratings(pathlib.Path(flags.ratings), labels), labels) if flags.ratings else []
    bank = prepare_bank(config, experiment.split, dataset.texts, experiment.bank_folder)
    subjects = make_subjects(config, experiment.split, dataset.texts, bank)
    sheet = [] if flags.ratings else sheet_rows(subjects, config.audit)
    paths = write_audit(measure(config, subjects, dataset.texts.items, bank, rated), sheet, out)
    print(f"{len(paths)} files; open {paths[0]} in a browser")


def report(flags: Any) -> None:
    """Tables, figures and examples of the runs in --runs, into --out."""
    out = check_folder(flags.out or "report", "--out")
    paths = write_report(read_runs(flags.runs or "", bool(flags["allow-older"].value)), out)
    print(f"{len(paths)} files; open {paths[0]} in a browser")


def plan(config: ConfigDict, flags: Any) -> None:
    """Prints what a step of the config holds, moves and computes on each device, and the fewest devices that hold it."""
    folder = pathlib.Path(config.knowledge.path or pathlib.Path(flags.workdir or "") / "knowledge")
    print("\n".join(plan_lines(config, bank_width(folder) or config.knowledge.width)))


def _all_finished(experiment: Experiment, evaluated: dict[tuple[str, str], Evaluated]) -> dict[tuple[str, str], Evaluated]:
    """This call's cells and those that earlier calls left in the workdir, in the order of the tables."""
    found = {}
    for backbone in BACKBONES:
        for method in METHODS:
            if cell := evaluated.get((method, backbone)) or finished_cell(experiment, method, backbone):
                found[method, backbone] = cell
    return found


def _report(experiment: Experiment, evaluated: dict[tuple[str, str], Evaluated], failed: Sequence[dict[str, str]] = ()) -> None:
    evaluated = _all_finished(experiment, evaluated)
    rows = [row for cell in evaluated.values() for row in cell.rows]
    comparisons = _compare(evaluated)
    about = {
        "command": redacted(" ".join(["python -m grasp_jax.main", *sys.argv[1:]])),
        "table1": statistics(experiment.split, experiment.groups),
        "lengths": {str(length): int(count) for length, count in enumerate(np.bincount(experiment.split.log.lengths)) if count},
        "seconds": experiment.seconds(),
        **machine(),
    }
    if is_first():
        save_results(experiment.workdir / "results.json", rows, comparisons, failed, about)
    print(f"\n{table(rows, failed)}\n")
    if comparisons:
        print(f"{comparison_table(comparisons)}\n")
    print("seconds: " + ", ".join(f"{stage} {seconds:,.1f}" for stage, seconds in about["seconds"].items()))


def _compare(evaluated: dict[tuple[str, str], Evaluated]) -> list[dict[str, Any]]:
    """Every pair of methods of each backbone, by each protocol."""
    rows: list[dict[str, Any]] = []
    for backbone in dict.fromkeys(backbone for _, backbone in evaluated):
        cells = {method: cell for (method, of), cell in evaluated.items() if of == backbone}
        for protocol in next(iter(cells.values())).gains:
            comparisons = compare({method: cell.gains[protocol] for method, cell in cells.items()})
            rows += [{"protocol": protocol, "backbone": backbone, **dataclasses.asdict(comparison)} for comparison in comparisons]
    return rows


STAGES: dict[str, Callable[[Experiment, Any], None]] = {
    "all": everything,
    "prepare": prepare_alone,
    "train": train,
    "evaluate": evaluate,
    "recommend": recommend_items,
    "audit": audit,
    "refresh": everything,  # on an `Experiment` that sets aside what was made from other data
}
ALONE = ("all", "prepare", "train", "evaluate", "refresh")  # modes that write what other calls on the workdir read


def run_stage(mode: str, experiment: Experiment, flags: Any) -> None:
    """Runs one stage; of those that write into the workdir one at a time.

    Raises:
      UserError: another process works there; and whatever the stage raises.
    """
    if mode not in ALONE or not is_first() or flags["dry-run"].value:
        STAGES[mode](experiment, flags)
        return
    made = not experiment.workdir.exists()
    try:
        with only_one(experiment.workdir / LOCK, "wait for it or use another --workdir"):
            remove_unfinished(experiment.workdir)
            STAGES[mode](experiment, flags)
    finally:
        if made:  # a call that was refused leaves nothing behind
            with contextlib.suppress(OSError):
                experiment.workdir.rmdir()


LOCK = ".lock"
