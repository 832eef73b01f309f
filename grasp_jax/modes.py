"""The modes of the command line, `--mode`: each a function of the run and the flags' values, which prints what it did."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable

import jax

from grasp_jax.config import Config, names
from grasp_jax.core.board import board, show_state
from grasp_jax.core.errors import TrainingDiverged, UserError
from grasp_jax.core.paths import check_folder
from grasp_jax.evaluation.audience import states_of
from grasp_jax.evaluation.untrained import trial_label
from grasp_jax.fitting import serving_model, train_refit
from grasp_jax.knowledge.audit.measure import measure
from grasp_jax.knowledge.audit.ratings import rated_groups, read_ratings
from grasp_jax.knowledge.audit.sheet import sheet_rows
from grasp_jax.knowledge.audit.subjects import group_labels, make_subjects
from grasp_jax.knowledge.audit.write import write_audit
from grasp_jax.knowledge.bank import MANIFEST
from grasp_jax.knowledge.prepare import prepare_bank
from grasp_jax.knowledge.texts import dry_run
from grasp_jax.models.methods import METHODS
from grasp_jax.parallel.processes import is_main_process
from grasp_jax.planning.plan import plan_lines
from grasp_jax.planning.text_width import text_width
from grasp_jax.report.runs import read_runs
from grasp_jax.report.write import write_report
from grasp_jax.serving.export import export_artifact
from grasp_jax.serving.histories import place
from grasp_jax.serving.interrupted import Spread
from grasp_jax.serving.recommend import write_recommendations
from grasp_jax.serving.represent import represent as write_representations
from grasp_jax.serving.represent import representations_of
from grasp_jax.serving.users import read_users
from grasp_jax.serving.vectors import item_vectors
from grasp_jax.training.checkpoint import hash_of_model
from grasp_jax.trials.chosen import Chosen, artifact_of, audience_of, choose, wanted_of
from grasp_jax.trials.evaluation_sets import check_negatives
from grasp_jax.trials.opening import opening
from grasp_jax.trials.refit import refit_workdir
from grasp_jax.trials.run import (
    Prepared,
    Run,
    check,
    claim,
    knowledge_of,
    prepare,
    unlisted_items,
    warn_of_missing_interactions,
)
from grasp_jax.trials.run_results import how_to_serve, own_names, report_results
from grasp_jax.trials.trial import make_trial, say_if_unfinished, train_trial, trained
from grasp_jax.trials.trial_results import Evaluated, evaluate_trial, finished
from grasp_jax.workdir import working_alone


@dataclasses.dataclass(frozen=True)
class Options:
    """The values of the flags other than the config.

    Attributes:
      dry_run: for prepare: say what would be sent to a language model, and send nothing.
      allow_older: where the newest model is damaged, use the newest whole one.
      users: of recommend: a file of user ids; None: everyone.
      ratings: of audit: a filled-in sheet; None: make an empty one.
      runs: of report: workdirs, comma separated.
      out: a file or folder to write; None: the mode's own place.
      spread: of recommend: lets other processes compute; None: this process computes everything.
    """

    dry_run: bool = False
    allow_older: bool = False
    users: str | None = None
    ratings: str | None = None
    runs: str | None = None
    out: str | None = None
    spread: Spread | None = None


def prepared_run(run: Run) -> Prepared:
    """Makes or opens the knowledge bank."""
    prepared = prepare(run)
    if prepared.bank is not None:
        recipe = prepared.bank.manifest["recipe"]
        print(
            f"text vectors: encoder {recipe['encoder']}, {prepared.width} numbers each (E); {recipe['num_neighbours']} neighbours each (K)"
        )
    return prepared


def prepare_alone(run: Run, options: Options) -> None:
    """Makes the knowledge bank; with --dry-run says what would be requested. With the bank, the workdir belongs to the config."""
    warn_of_missing_interactions(run)
    print("\n".join(opening(run).lines()))
    if options.dry_run:
        print("\n".join(dry_run(run.knowledge, run.split, run.dataset.texts)))
        return
    finished = run.needs_bank and (run.bank_folder / MANIFEST).is_file()
    prepared_run(run)
    if finished:
        print(
            f"{run.bank_folder}: was finished before and is reused; no text was described or encoded"
        )
    claim(run)


def train(run: Run, options: Options) -> None:
    """Trains every method on every backbone that the config names."""
    check(run)
    warn_of_missing_interactions(run)
    print("\n".join(opening(run).first_lines()))
    prepared = prepared_run(run)
    with _board(run):
        for method, backbone in run.trials:
            train_trial(make_trial(prepared, method, backbone))


def evaluate(run: Run, options: Options) -> None:
    """Measures the trained models on the test items and writes results.json."""
    read, prepared = opening(run), prepare(run)
    evaluated = {}
    for method, backbone in run.trials:
        trial = make_trial(prepared, method, backbone, trains=False)
        snapshot = trained(trial)
        say_if_unfinished(trial, snapshot)
        evaluated[method, backbone] = evaluate_trial(trial, snapshot)
    report_results(run, evaluated, read)


def everything(run: Run, options: Options) -> None:
    """prepare, then train and evaluate trial by trial: a finished trial is not tested again; one that diverges does not stop the others."""
    check(run)
    check_negatives(run)
    warn_of_missing_interactions(run)
    read = opening(run)
    print("\n".join(read.first_lines()))
    prepared = prepared_run(run)
    evaluated: dict[tuple[str, str], Evaluated] = {}
    failed: list[dict[str, str]] = []
    with _board(run):
        for number, (method, backbone) in enumerate(run.trials, start=1):
            label = trial_label(method, backbone)
            if len(run.trials) > 1:
                print(f"trial {number} of {len(run.trials)}: {label}", flush=True)
            try:
                done = _train_and_evaluate(prepared, method, backbone)
            except TrainingDiverged as error:
                if len(run.trials) == 1:
                    raise
                failed.append({"method": method, "backbone": backbone, "reason": str(error)})
                show_state(label, "failed")
                continue
            if done is not None:
                evaluated[method, backbone] = done
            show_state(label, "done")
    if evaluated:
        report_results(run, evaluated, read, failed)
    if failed:
        reasons = "; ".join(trial["reason"] for trial in failed)
        raise TrainingDiverged(f"{len(failed)} of {len(run.trials)} trials failed; {reasons}")


def _train_and_evaluate(prepared: Prepared, method: str, backbone: str) -> Evaluated | None:
    """Results of a trial, read if they were measured before; None for a split without a test."""
    trial = make_trial(prepared, method, backbone)
    snapshot = train_trial(trial)
    if prepared.run.config.data.split == "none":
        print(f"{trial.name}: trained on everything, so there is nothing to evaluate")
        return None
    done = finished(prepared.run, method, backbone, hash_of_model(snapshot.best_params))
    return done or evaluate_trial(trial, snapshot)


def _board(run: Run) -> contextlib.AbstractContextManager[None]:
    """The live table of all trials, which only the first process shows."""
    names = [trial_label(method, backbone) for method, backbone in run.trials]
    return board(names) if is_main_process() else contextlib.nullcontext()


def _chosen(run: Run) -> Chosen:
    """The trained model with the best validation score, or its refit; prints which one it is."""
    chosen = serving_model(choose(prepare(run)))
    of = chosen.trial.run
    print(f"model: {chosen.trial.label}, {chosen.why}{'' if of is run else f' ({of.workdir})'}")
    return chosen


def recommend(run: Run, options: Options) -> None:
    """Writes the top items of every user, by the trained model that validation prefers, or its refit."""
    selected = read_users(options.users, run.split.log)
    chosen = _chosen(run)
    path = pathlib.Path(options.out or run.workdir / "recommendations.parquet")
    wanted = wanted_of(run)
    served = write_recommendations(
        audience_of(chosen),
        selected.rows,
        wanted,
        path,
        chosen.made_from,
        selected.skipped,
        options.spread,
    )
    print(
        f"wrote {path}: recommendations for {_counted(served.full + served.short, 'user')}, {wanted.top_n} items each"
    )
    if unlisted := len(unlisted_items(run)):
        print(
            f"{_counted(unlisted, 'item')} of the log that the items table lacks: not recommended (config.recommend.listed_only)"
        )
    if served.short:
        print(f"{served.short:,} of them have fewer than {wanted.top_n} items left, and get those")
    if served.skipped:
        why = path.with_name(f"{path.stem}.skipped.csv")
        print(
            f"no recommendations for {_counted(len(served.skipped), 'user')}, the first is {served.skipped[0][0]!r}; {why} has the reasons"
        )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def refit(run: Run, options: Options) -> None:
    """Trains the model that validation prefers again on all interactions, for as many epochs as validation chose; into WORKDIR/refit."""
    chosen = choose(prepare(run))
    say_if_unfinished(chosen.trial, chosen.snapshot)
    print(f"model: {chosen.trial.label}, {chosen.why}; trained on all interactions")
    train_refit(chosen)
    workdir = refit_workdir(run)
    print(
        f"the model for production is in {workdir}; recommend, export, represent and grasp-serve use it for {run.workdir} from now on"
    )
    print(how_to_serve(run.workdir, own_names(run)))


def export(run: Run, options: Options) -> None:
    """Writes the trained model that validation prefers, or its refit, as programs that need only jax, numpy and flatbuffers.

    Raises:
      UserError: several processes were started, no model was trained, or `--out` cannot be written.
    """
    if jax.process_count() > 1:
        raise UserError(
            f"--mode=export: started with {jax.process_count()} processes; expected one, because a model is exported for one device"
        )
    out = check_folder(options.out or str(run.workdir / "export"), "--out")
    chosen = _chosen(run)
    difference = export_artifact(artifact_of(chosen), out, run.config.recommend.top_n)
    print(
        f"wrote {out}: its scores differ from those of the model by at most {difference:.0e} of a person's largest score"
    )


def represent(run: Run, options: Options) -> None:
    """Writes the vectors of all users and items, by the trained model that validation prefers, or its refit; into an existing folder only
    the changed ones.

    Raises:
      UserError: several processes were started, no model was trained, or `--out` cannot be written.
    """
    if jax.process_count() > 1:
        raise UserError(
            f"--mode=represent: started with {jax.process_count()} processes; expected one, because one process writes the files"
        )
    out = check_folder(options.out or str(run.workdir / "representations"), "--out")
    chosen = _chosen(run)
    artifact, audience = artifact_of(chosen), audience_of(chosen)
    placed = place(artifact)
    source = representations_of(
        artifact,
        run.dataset.log,
        lambda rows: states_of(audience, rows, run.config.eval.user_block),
        item_vectors(artifact, placed.params, placed.features),
        texts_of_bank=True,
    )
    done = write_representations(source, out)
    print(
        f"wrote {out}: vectors of {done.computed:,} users computed, those of {done.kept:,} users kept; {len(source.item_ids):,} items"
    )


def audit(run: Run, options: Options) -> None:
    """Writes how far the text knowledge can be trusted, and a sheet for raters or, with --ratings, their results. Needs no endpoint.

    Raises:
      UserError: there is no bank, or it does not fit the config; the ratings cannot be read, or `--out` cannot be written.
    """
    out = check_folder(options.out or str(run.workdir / "audit"), "--out")
    if not (run.bank_folder / MANIFEST).is_file():
        raise UserError(
            f"{run.bank_folder}: there is no knowledge bank to audit; run --mode=prepare first"
        )
    config, dataset = run.knowledge, run.dataset
    labels = group_labels(config)
    rated = (
        rated_groups(read_ratings(pathlib.Path(options.ratings), labels), labels)
        if options.ratings
        else []
    )
    bank = prepare_bank(config, run.split, dataset.texts, run.bank_folder)
    subjects = make_subjects(config, run.split, dataset.texts, bank)
    sheet = [] if options.ratings else sheet_rows(subjects, config.audit)
    paths = write_audit(measure(config, subjects, dataset.texts.items, bank, rated), sheet, out)
    print(f"wrote {len(paths)} files; open {paths[0]} in a browser")


def report(options: Options) -> None:
    """Tables, figures and examples of the runs in --runs, into --out."""
    out = check_folder(options.out or "report", "--out")
    paths = write_report(read_runs(options.runs or "", options.allow_older), out)
    print(f"wrote {len(paths)} files; open {paths[0]} in a browser")


def plan(config: Config, workdir: str | None) -> None:
    """Prints the memory, traffic and arithmetic of a step on each device, and the fewest devices with enough memory."""
    own = knowledge_of(config)
    if not any(METHODS[method].needs_bank for method in names(config.model.method)):
        print("\n".join(plan_lines(config, own.width)))
        return
    # without a workdir there is no bank: one in the present folder would be of another run
    bank = own.path or (workdir and pathlib.Path(workdir) / "knowledge")
    width = text_width(own, pathlib.Path(bank) if bank else None)
    print("\n".join(plan_lines(config, *width)))


MODES: dict[str, Callable[[Run, Options], None]] = {
    "all": everything,
    "prepare": prepare_alone,
    "train": train,
    "evaluate": evaluate,
    "recommend": recommend,
    "export": export,
    "represent": represent,
    "audit": audit,
    "refit": refit,
    "refresh": everything,  # of a run that sets aside what was made from other data
}
MAKING = ("all", "prepare", "train", "refresh")  # modes that train or make a bank in the workdir
# modes that write what other calls on the workdir read
ALONE = ("all", "prepare", "train", "evaluate", "refit", "refresh")


def run_mode(
    mode: str, open_it: Callable[[], Run], workdir: pathlib.Path, options: Options
) -> None:
    """Opens a run and runs the mode; modes that write into the workdir run one at a time.

    Raises:
      UserError: another process uses the workdir; or the mode raises it.
    """
    alone = mode in ALONE and not options.dry_run
    with working_alone(workdir) if alone else contextlib.nullcontext():
        MODES[mode](open_it(), options)
