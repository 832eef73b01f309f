"""A search with the same budget for each method: the search space, the trials on disk, and the loop, which can be resumed.

A trial trains one setting with `Recommender.fit`. Its score ranks the whole catalogue for validation users without the items that they have
had (`full_unseen`); no test interaction is read. The next setting depends only on its number and on earlier trials, so a search that was
interrupted proposes the same settings. `benchmarks.tune` makes the proposals, by Optuna or at random.
"""

import dataclasses
import math
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from grasp_jax.api import Recommender
from grasp_jax.config import Config, identity
from grasp_jax.core.errors import TrainingDiverged, UserError
from grasp_jax.core.files import read_sealed, write_sealed
from grasp_jax.core.machine import machine
from grasp_jax.data.dataset import Dataset
from grasp_jax.models.methods import METHODS
from grasp_jax.provenance import difference
from grasp_jax.training.callbacks import Callback, TrainingSummary

PROTOCOL = "full_unseen"
REMEDY = "restore the file, or remove it to have the trial trained again"
Setting = dict[str, Any]  # values of fields by their full names


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Numbers from low to high: in steps of `step` if that is above 0, otherwise any; uniform, or uniform in the logarithm."""

    low: float
    high: float
    step: float = 0.0
    log: bool = False


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of several values without an order."""

    values: tuple[Any, ...]


Space = Mapping[str, Numbers | OneOf]
SPACE: Space = {
    "model.dropout": Numbers(0.0, 0.7, step=0.1),
    "train.learning_rate": Numbers(3e-4, 1e-2, log=True),
    "train.weight_decay": OneOf((0.0, 0.01, 0.1, 1.0)),
    "train.loss": OneOf(("bce", "softmax", "ce")),
}


@dataclasses.dataclass(frozen=True)
class Tried:
    """A trial that has ended.

    Attributes:
      setting: fields and their values.
      validation: NDCG@10 by `PROTOCOL` of the best epoch, the mean over seeds; 0 where training diverged.
      facts: everything else that is stored: method, number, epochs, seconds, machine, versions, commit.
    """

    setting: Setting
    validation: float
    facts: Mapping[str, Any]


Propose = Callable[[int, Sequence[Tried]], Setting]  # number of a trial, and those before it


@dataclasses.dataclass(frozen=True)
class Search:
    """The search space, the data, and the folder of the trials.

    Attributes:
      base: the other fields; one method or several.
      dataset: the data.
      space: the fields to choose, the same for each method.
      propose: proposes settings.
      sampler: description of the sampler, with its seed.
      versions: of the sampler's packages, stored with each trial.
      folder: for METHOD/trial-NUMBER.json.
    """

    base: Config
    dataset: Dataset
    space: Space
    propose: Propose
    sampler: str
    versions: Mapping[str, str]
    folder: pathlib.Path


def search(
    wanted: Search, methods: Sequence[str], trials: int, minutes: float = math.inf
) -> dict[str, list[Tried]]:
    """Trains each method until it has `trials` trials, or until its trials took `minutes`, whichever comes first.

    Methods take turns, so that all have equally many trials if the search is stopped. The last trial of a method is trained to its end,
    so the method may take longer than `minutes` by one trial.

    Returns:
      All trials of each method, in order.

    Raises:
      UserError: a method that has nothing to train, or a folder that belongs to another search.
    """
    bases = {method: _base(wanted, method) for method in methods}
    for method, base in bases.items():
        _check_study(wanted, method, base)
    found: dict[str, list[Tried]] = {method: [] for method in methods}
    for number in range(trials):
        for method, base in bases.items():
            before = found[method]
            if spent(before) >= 60 * minutes:
                continue
            path = wanted.folder / method / f"trial-{number:03d}.json"
            if not path.exists():
                setting = wanted.propose(number, before)
                _keep(path, _trained(wanted, base, path, setting))
            before.append(read_trial(path))
    return found


def spent(tried: Sequence[Tried]) -> float:
    """Seconds of all trials."""
    return sum(trial.facts["seconds"] for trial in tried)


def best_of(tried: Sequence[Tried]) -> Tried:
    """The trial with the best validation; the first of equal ones."""
    return max(tried, key=lambda trial: trial.validation)


def as_flags(method: str, setting: Setting) -> str:
    """A setting as arguments of the command line."""
    named = {"model.method": method} | setting
    return " ".join(f"--config.{name}={value}" for name, value in named.items())


def read_trial(path: pathlib.Path) -> Tried:
    """A stored trial.

    Raises:
      UserError: the file is damaged.
    """
    content = read_sealed(path, REMEDY)
    return Tried(content.pop("setting"), content.pop("validation"), content)


def rounded(setting: Setting) -> Setting:
    """Numbers to four digits, as they are printed, so that flags give the very model that was measured."""
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in setting.items()
    }


def at_random(space: Space, seed: int) -> Propose:
    """Proposals that are drawn from the space without regard to earlier trials."""

    def propose(number: int, before: Sequence[Tried]) -> Setting:
        rng = np.random.default_rng([seed, number])
        return rounded({name: _drawn(values, rng) for name, values in space.items()})

    return propose


def _drawn(values: Numbers | OneOf, rng: np.random.Generator) -> Any:
    if isinstance(values, OneOf):
        return values.values[rng.integers(len(values.values))]
    if values.step:
        steps = round((values.high - values.low) / values.step)
        return values.low + values.step * int(rng.integers(steps + 1))
    if values.log:
        return float(np.exp(rng.uniform(np.log(values.low), np.log(values.high))))
    return float(rng.uniform(values.low, values.high))


def _keep(path: pathlib.Path, tried: Tried) -> None:
    write_sealed(path, {"setting": tried.setting, "validation": tried.validation, **tried.facts})
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)  # its workdir


def _base(wanted: Search, method: str) -> Config:
    """The config of a method's trials without the fields that are searched."""
    if method not in METHODS or not METHODS[method].trained:
        known = ", ".join(name for name, kind in METHODS.items() if kind.trained)
        raise UserError(
            f"--methods: {method!r} has nothing to tune; expected some of {known}, comma separated"
        )
    own = dataclasses.replace(wanted.base.for_method(method), by_method={})
    bank = own.knowledge.path or str(wanted.folder / "knowledge")  # made once for all trials
    return own.with_fields(
        {"model.method": method, "eval.select": PROTOCOL, "knowledge.path": bank}
    )


def _check_study(wanted: Search, method: str, base: Config) -> None:
    """Writes METHOD/study.json, or compares the search with the existing file."""
    fields = {name: value for name, value in identity(base).items() if name not in wanted.space}
    space = {name: dataclasses.asdict(values) for name, values in wanted.space.items()}
    study = {
        "data": wanted.dataset.fingerprint,
        "config": {**fields, "tune.sampler": wanted.sampler, "tune.space": space},
    }
    path = wanted.folder / method / "study.json"
    if not path.exists():
        write_sealed(path, study)
    elif other := difference(read_sealed(path, "use another --out or restore the file"), study):
        raise UserError(f"{path}: the trials are of another search: {other}; use another --out")


class _Summary(Callback):
    """Holds how a training ended."""

    ended: TrainingSummary | None = None

    def on_train_end(self, summary: TrainingSummary) -> None:
        self.ended = summary


def _trained(wanted: Search, base: Config, path: pathlib.Path, setting: Setting) -> Tried:
    """Trains one setting. An interrupted training is resumed in the trial's workdir; `seconds` are then those since the resumption."""
    method, number = base.model.method, int(path.stem.removeprefix("trial-"))
    summary, began, failed = _Summary(), time.perf_counter(), ""
    try:
        model = Recommender(config=base.with_fields(setting))
        model.fit(wanted.dataset, workdir=path.with_suffix(""), callbacks=[summary])
    except TrainingDiverged as error:
        failed = str(error)
    ended = summary.ended
    best = [score for score in ended.best if score is not None] if ended is not None else []
    if not best and not failed:
        raise UserError(
            f"data.split: {base.data.split!r} has no validation part to choose by; expected another split"
        )
    facts = {
        "method": method,
        "backbone": base.model.backbone,
        "number": number,
        "protocol": PROTOCOL,
        "seeds": list(base.train.seeds),
        "epochs": 0 if ended is None else ended.epochs,
        "best_epochs": [] if ended is None else list(ended.best_epochs),
        "seconds": round(time.perf_counter() - began, 1),
        "failed": failed,
        "sampler": wanted.sampler,
        "machine": machine() | {"versions": machine()["versions"] | dict(wanted.versions)},
    }
    return Tried(setting, float(np.mean(best)) if best else 0.0, facts)
