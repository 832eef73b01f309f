"""The work of `Recommender`: train, train on all interactions, test, and open what the command line has trained."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Sequence

from grasp_jax.config import (
    CONFIG_FILE,
    Config,
    check_workdir,
    config_difference,
    names,
    read_config,
)
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.data.dataset import Dataset
from grasp_jax.evaluation.audience import Audience
from grasp_jax.evaluation.ranking_metrics import Metric
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.methods import METHODS
from grasp_jax.serving.artifact import Artifact
from grasp_jax.training.callbacks import Callback, OnEpoch
from grasp_jax.training.checkpoint import find_model, hash_of_model
from grasp_jax.trials.chosen import Chosen, artifact_of, audience_of, choose, of_trial
from grasp_jax.trials.evaluation_sets import check_negatives
from grasp_jax.trials.refit import refit_config, refit_workdir
from grasp_jax.trials.run import check, open_run, prepare, warn_of_missing_interactions
from grasp_jax.trials.trial import (
    checkpoint_folder,
    make_trial,
    say_if_unfinished,
    train_trial,
    trained,
    trained_trials,
)
from grasp_jax.trials.trial_results import Evaluated, evaluate_trial, extra_rows, finished
from grasp_jax.workdir import trial_name, working_alone


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained model with the data that it was trained on.

    Attributes:
      dataset: the data.
      validated: the model that was validated; `evaluate` tests it.
      serving: the model that recommends: the same one, or the one that was trained on all interactions afterwards.
    """

    dataset: Dataset
    validated: Chosen
    serving: Chosen

    @property
    def config(self) -> Config:
        """The config of the validated model, with the changes that its method makes."""
        return self.validated.trial.config

    def artifact(self) -> Artifact:
        """Everything that recommendations need."""
        return artifact_of(self.serving)

    @functools.cached_property
    def audience(self) -> Audience:
        """All users of the data."""
        return audience_of(self.serving)


def fit(
    config: Config,
    workdir: pathlib.Path,
    dataset: Dataset,
    callbacks: Sequence[Callback | OnEpoch] = (),
    warn: bool = True,
) -> Fitted:
    """Trains the one method and backbone of a config; arguments as in `Recommender.fit`.

    Args:
      warn: whether what the data have lost since earlier runs is said.

    Raises:
      UserError: bad input, or a workdir of another run.
    """
    check_workdir(config, workdir)
    with working_alone(workdir):
        run = open_run(config, workdir, dataset, makes=True)
        check(run)
        if warn:
            warn_of_missing_interactions(run)
        trial = make_trial(prepare(run), *run.trials[0])
        chosen = of_trial(trial, train_trial(trial, callbacks))
    return Fitted(dataset, chosen, chosen)


def train_refit(chosen: Chosen, callbacks: Sequence[Callback | OnEpoch] = ()) -> Chosen:
    """Trains the chosen model once more, on all interactions; into WORKDIR/refit.

    Raises:
      UserError: what `fit` raises; or there is a refit of another choice.
    """
    run = chosen.trial.run
    config, workdir = refit_config(run, chosen), refit_workdir(run)
    if difference := config_difference(config, workdir):
        raise UserError(
            f"{workdir}: the refit of another choice: {difference}; move this folder away, and refit again"
        )
    # the training of the chosen model has warned of the same data
    return fit(config, workdir, run.dataset, callbacks, warn=False).serving


def evaluate(fitted: Fitted, metrics: Sequence[str | Metric] = ()) -> Evaluated:
    """Tests the validated model, with further metrics if given. The test is computed once and kept in the workdir."""
    chosen = fitted.validated
    trial, run = chosen.trial, chosen.trial.run
    model = hash_of_model(chosen.snapshot.best_params)
    check_negatives(run)
    found = finished(run, trial.method, trial.backbone, model) or evaluate_trial(
        trial, chosen.snapshot
    )
    return dataclasses.replace(
        found, rows=[*found.rows, *extra_rows(trial, chosen.snapshot, metrics)]
    )


def open_finished(
    config: Config,
    workdir: pathlib.Path,
    dataset: Dataset,
    method: str | None = None,
    backbone: str | None = None,
) -> Fitted:
    """Opens the trained models of a workdir.

    A model whose training has not ended is opened too, and a line says so.

    Args:
      config: the config of the workdir.
      workdir: the workdir of the run.
      dataset: the data of the run.
      method, backbone: which model to open if there are several; None: the one with the best validation score.

    Raises:
      UserError: no such model was trained, its method or backbone is not registered, or it was trained on other data.
    """
    there = trained_trials(workdir)
    wanted = [
        (name, of)
        for name, of in sorted(there, key=_order)
        if (method is None or name in names(method)) and (backbone is None or of in names(backbone))
    ]
    trained = [pair for pair in wanted if find_model(checkpoint_folder(workdir, *pair))]
    if not trained:
        requested = "-".join(part for part in (method, backbone) if part) or "model"
        others = f"; there are {', '.join(trial_name(*pair) for pair in there)}" if there else ""
        raise UserError(
            f"{workdir}: no {requested} was trained there{others}; run --mode=train, or name another method"
        )
    for pair in trained:
        _check_registered(workdir, pair, trained)
    named = {"model.method": ",".join(dict.fromkeys(name for name, _ in trained))}
    named |= {"model.backbone": ",".join(dict.fromkeys(of for _, of in trained))}
    prepared = prepare(open_run(config.with_fields(named), workdir, dataset))
    chosen = choose(prepared, trained)
    return Fitted(dataset, chosen, serving_model(chosen))


def _order(pair: tuple[str, str]) -> tuple[int, int]:
    """The place of a method and backbone in the order of the tables; those that are not registered come last."""

    def place(name: str, known: Iterable[str]) -> int:
        order = list(known)
        return order.index(name) if name in order else len(order)

    return place(pair[0], METHODS), place(pair[1], BACKBONES)


def _check_registered(
    workdir: pathlib.Path, pair: tuple[str, str], requested: Sequence[tuple[str, str]]
) -> None:
    """Refuses a model whose code is not here: if it were left out, another model of the workdir would answer in its place.

    Args:
      workdir: the workdir, for the message.
      pair: method and backbone of the model.
      requested: the pairs with a model that the caller may mean; the message names the first that can be opened.
    """
    registered = [(method, of) for method, of in requested if method in METHODS and of in BACKBONES]
    instead = ""
    if registered:
        method, backbone = registered[0]
        instead = f", or name another model: method={method!r}, backbone={backbone!r}"
    for kind, name, known in (("method", pair[0], METHODS), ("backbone", pair[1], BACKBONES)):
        if name not in known:
            raise UserError(
                f"{workdir}: {kind} {name!r} is not registered here; import what registers it before you load the model (grasp-serve: "
                f"--import=MODULE){instead}"
            )


def serving_model(chosen: Chosen) -> Chosen:
    """The model of a workdir that recommends: the chosen one, or its refit.

    Args:
      chosen: the model of the workdir that validation prefers.

    Returns:
      Its refit, if the workdir has a finished one; otherwise `chosen`. A refit of another choice (method, rates, number of epochs), such as
      one from before further training, or one of a method that the run leaves out, is not used, and a line says so. If `chosen` is returned
      and its training has not ended, a line says so.
    """
    if refitted := _refitted(chosen):
        return refitted
    say_if_unfinished(chosen.trial, chosen.snapshot)
    return chosen


def _refitted(chosen: Chosen) -> Chosen | None:
    """The model of the refit, if there is one, it is that of `chosen`, and its training is finished."""
    of, names_of_trial = chosen.trial.run, (chosen.trial.method, chosen.trial.backbone)
    workdir = refit_workdir(of)
    if not (workdir / CONFIG_FILE).is_file():
        return None
    refitted = read_config(workdir).model
    if (refitted.method, refitted.backbone) not in of.trials:  # validation had no choice
        reason = f"the refit is of {trial_name(refitted.method, refitted.backbone)}"
        logger.warning(f"{workdir}: {reason}, so {chosen.trial.name} answers without a refit")
        return None
    config = refit_config(of, chosen)
    if difference := config_difference(config, workdir):
        logger.warning(
            f"{workdir}: the refit is of another choice ({difference}) and is not used; move this folder away, and run --mode=refit"
        )
        return None
    if find_model(checkpoint_folder(workdir, *names_of_trial)) is None:
        return None
    run = open_run(config, workdir, of.dataset, allow_older=of.allow_older)
    trial = make_trial(prepare(run), *names_of_trial, trains=False)
    snapshot, epochs = trained(trial), trial.config.train.max_epochs
    if snapshot.progress.is_unfinished(epochs):
        stopped = f"the refit stopped after epoch {int(snapshot.progress.epoch)} of {epochs}"
        logger.warning(f"{workdir}: {stopped}, and is not used; run --mode=refit to finish it")
        return None
    return of_trial(trial, snapshot)
