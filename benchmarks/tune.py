"""Dropout, learning rate, weight decay and loss of each method, chosen by validation with the same budget: python -m benchmarks.tune

    python -m benchmarks.tune --config=configs/compare.py:ce --data=FOLDER --losses=ce --trials=30 --out=runs/tune
    python -m benchmarks.tune --config=configs/compare.py:ce --data=FOLDER --methods=llminit,grasp_plus --minutes=60 --out=runs/tune-hour

The first command searches for all methods of the config that are trained. With --minutes, a method gets no new trial once its trials took
that long. Optuna's TPE sampler proposes the settings (an extra: pip install '.[tune]'); its first ten proposals are random, and
--sampler=random makes all of them random, without Optuna, and the same for each method. To continue an interrupted search, run the same
command again. Each trial is stored as OUT/METHOD/trial-NUMBER.json: setting, validation NDCG@10 on the whole catalogue without seen items,
seconds, versions and commit. No trial reads the test set. `--set=train.max_epochs=50` changes a field for all trials; `--losses=bce,ce`
sets the losses to choose from.
"""

import argparse
import ast
import importlib.metadata
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from benchmarks.record import run, table
from benchmarks.tuning import (
    SPACE,
    Numbers,
    OneOf,
    Propose,
    Search,
    Setting,
    Space,
    Tried,
    as_flags,
    at_random,
    best_of,
    rounded,
    search,
    spent,
)
from grasp_jax.config import CONFIG_FILE, Config, names, resolve_source
from grasp_jax.config_file import load_config
from grasp_jax.core.errors import UserError
from grasp_jax.core.paths import check_folder
from grasp_jax.data.dataset import load_dataset
from grasp_jax.models.methods import METHODS


def optuna_proposals(space: Space, seed: int) -> tuple[Propose, dict[str, str]]:
    """Proposals of Optuna's TPE (Bergstra et al., 2011), the first ten of them random; and Optuna's version.

    Each trial has its own sampler, seeded by `seed` and the trial's number, so an interrupted search proposes the same settings.

    Raises:
      UserError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "--sampler=tpe: Optuna is not installed; install it by pip install '.[tune]', or use --sampler=random"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, Any] = {}
    for name, values in space.items():
        distributions[name] = (
            optuna.distributions.FloatDistribution(
                values.low, values.high, log=values.log, step=values.step or None
            )
            if isinstance(values, Numbers)
            else optuna.distributions.CategoricalDistribution(values.values)
        )

    def propose(number: int, before: Sequence[Tried]) -> Setting:
        sampler = optuna.samplers.TPESampler(seed=1000 * seed + number)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in before:
            study.add_trial(
                optuna.trial.create_trial(
                    params=trial.setting, distributions=distributions, value=trial.validation
                )
            )
        return rounded(study.ask(distributions).params)

    return propose, {"optuna": importlib.metadata.version("optuna")}


def proposals(sampler: str, space: Space, seed: int) -> tuple[Propose, dict[str, str], str]:
    """The proposals of a sampler, the versions of its packages, and its description.

    Raises:
      UserError: Optuna is needed and not installed.
    """
    if sampler == "random":
        return at_random(space, seed), {}, f"random, seed {seed}"
    return *optuna_proposals(space, seed), f"optuna's TPE, seed {seed}"


def trained(config: Config) -> list[str]:
    """The methods of a config that have something to tune."""
    return [name for name in names(config.model.method) if METHODS[name].trained]


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.tune", description=(__doc__ or "").split(": python -m")[0]
    )
    made.add_argument(
        "--config",
        required=True,
        help="a file of configs/, FILE.py or FILE.py:NAME, or the config.json of an earlier run",
    )
    made.add_argument("--data", default="", help="folder of the data (config.data.path)")
    made.add_argument(
        "--methods",
        default="",
        help="methods, comma separated; default: those of the config that are trained",
    )
    made.add_argument(
        "--losses",
        default=",".join(SPACE["train.loss"].values),  # type: ignore[union-attr]
        help="losses to choose from, comma separated",
    )
    made.add_argument("--trials", type=int, default=30, help="most trials of each method")
    made.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="minutes after which a method gets no new trial",
    )
    made.add_argument(
        "--sampler",
        choices=("tpe", "random"),
        default="tpe",
        help="who proposes settings: Optuna's TPE, or chance",
    )
    made.add_argument("--seed", type=int, default=0, help="seed of the proposals")
    made.add_argument(
        "--set", action="append", default=[], help="FIELD=VALUE: changes a field for all trials"
    )
    made.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder in which the trials are stored"
    )
    return made


def config_of(given: argparse.Namespace) -> Config:
    """The config that the flags name.

    Raises:
      UserError: a file or field that does not exist, or a value that it cannot have.
    """
    changes: dict[str, Any] = {"data.path": given.data} if given.data else {}
    for text in given.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set={text}: expected FIELD=VALUE, such as train.max_epochs=50")
        try:
            changes[name.removeprefix("config.")] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            changes[name.removeprefix("config.")] = value
    fields = load_config(given.config).to_dict()
    # an earlier run may have points in time that its split does not read, and equal dropouts
    of_workdir = pathlib.Path(given.config).name == CONFIG_FILE
    config = Config().with_stored_fields(fields) if of_workdir else Config.from_dict(fields)
    return resolve_source(config.with_fields(changes), changes, of_workdir)


def space_of(losses: str) -> Space:
    """The search space with these losses.

    Raises:
      UserError: a name is not that of a loss.
    """
    for loss in names(losses):
        Config().with_fields({"train.loss": loss})
    return {**SPACE, "train.loss": OneOf(tuple(names(losses)))}


def summary(found: dict[str, list[Tried]]) -> str:
    """The best of each method, as a table and as flags."""
    best = {method: best_of(tried) for method, tried in found.items() if tried}
    rows = [
        (
            method,
            f"{100 * own.validation:.2f}",
            str(own.facts["number"]),
            str(len(found[method])),
            f"{spent(found[method]) / 60:,.0f}",
        )
        for method, own in best.items()
    ]
    header = ("method", "validation NDCG@10", "of trial", "trials", "minutes")
    flags = [as_flags(method, own.setting) for method, own in best.items()]
    return "\n".join([table(header, rows), "", *flags])


def main(arguments: Sequence[str] | None = None) -> None:
    """Searches, and prints the best setting of each method."""
    given = parser().parse_args(arguments)
    for flag, value in (("--trials", given.trials), ("--minutes", given.minutes)):
        if not value > 0:
            raise UserError(f"{flag}: {value}; expected a positive number")
    space = space_of(given.losses)
    propose, versions, sampler = proposals(given.sampler, space, given.seed)  # before data are read
    config, folder = config_of(given), check_folder(str(given.out), "--out")
    wanted = Search(config, load_dataset(config.data), space, propose, sampler, versions, folder)
    methods = names(given.methods) if given.methods else trained(config)
    print(summary(search(wanted, methods, given.trials, given.minutes)))


if __name__ == "__main__":
    run(main)
