"""Projections of text vectors that a run with `config.train.start_from` takes over from the earlier run.

Some methods fit a projection to the text vectors of the items: `Method.text_turn`, and the principal components from which ID vectors
start. Fitted to the items of another day it would be another projection, so trained networks would misread every text, and new ID vectors
would not match the old ones. So a run with `config.train.start_from` uses the projections of the first run of the chain, and keeps them
as WORKDIR/inherited/METHOD.npz for the next run.
"""

import functools
import pathlib
from collections.abc import Mapping

import numpy as np

from grasp_jax.config import CONFIG_FILE, ModelConfig, read_config
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_arrays, write_arrays
from grasp_jax.core.log import logger
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.methods.llminit import fitted_components
from grasp_jax.training.start_from import earlier_bank, earlier_banks, trained_on

FOLDER, TURN = "inherited", "turn"
START = ("start_mean", "start_directions")
TURN_FIELDS = ("text_width", "text_whitening", "text_norm")  # fields of `config.model.plus`


def inherited_turn(workdir: pathlib.Path, earlier: pathlib.Path, method: str) -> np.ndarray:
    """[E, E'] `Method.text_turn` of the earlier run.

    Args:
      workdir: the workdir of the run.
      earlier: the workdir of the run from which it starts.
      method: a method that fits a projection.

    Raises:
      UserError: the matrix of the earlier run does not exist any more, or a file is damaged.
    """
    for folder in (workdir, earlier):
        if TURN in (stored := _stored(folder, method)):
            return stored[TURN]
    bank = earlier_bank(earlier_banks(earlier), trained_on(earlier, method))
    if bank is None:
        raise UserError(
            f"config.train.start_from: {earlier}: its knowledge bank is gone, so the directions in which {method} reads text are unknown; "
            "restore the folder of the bank, or train without start_from"
        )
    turn = METHODS[method].text_turn(bank.items, _model(earlier, method))
    assert turn is not None
    return turn


def inherited_start(
    workdir: pathlib.Path, earlier: pathlib.Path, method: str
) -> dict[str, np.ndarray] | None:
    """`Facts.start` of the earlier run; None, with a warning, if it does not exist any more. Then new items start along other directions
    than the items of that run.

    Args:
      workdir, earlier: as in `inherited_turn`.
      method: a method whose ID vectors start from text.

    Raises:
      UserError: a file is damaged, or the earlier bank has no raw vectors.
    """
    for folder in (workdir, earlier):
        if set(START) <= set(stored := _stored(folder, method)):
            return {name: stored[name] for name in START}
    from grasp_jax.knowledge.raw import (
        raw_item_vectors,  # most runs do not need the code that makes banks
    )

    bank = earlier_bank(earlier_banks(earlier), trained_on(earlier, method))
    if bank is None:
        logger.warning(
            f"config.train.start_from: {earlier}: its knowledge bank is gone, so ID vectors of new items start along today's directions"
        )
        return None
    raw_items = functools.partial(raw_item_vectors, bank)
    return fitted_components(bank.tables, Facts(_model(earlier, method), np.empty(0), raw_items))


def check_turn(
    turn: np.ndarray, width: int, method: str, config: ModelConfig, earlier: pathlib.Path
) -> None:
    """Checks that a run can apply the inherited projection to its texts, and has the settings with which it was computed.

    Args:
      turn: [E, E'] `inherited_turn`.
      width: E of the run's knowledge bank.
      method: a method that fits a projection.
      config: the `model` section of the run.
      earlier: workdir of the run from which it starts; its config is compared if it still exists.

    Raises:
      UserError: the bank has another width, or a field on which the projection depends has changed.
    """
    _check_width(len(turn), width, earlier)
    if not (earlier / CONFIG_FILE).is_file():
        return
    before = _model(earlier, method).plus
    for name in TURN_FIELDS:
        _check_same(f"plus.{name}", getattr(config.plus, name), getattr(before, name), earlier)


def check_start(
    start: Mapping[str, np.ndarray],
    width: int,
    method: str,
    config: ModelConfig,
    earlier: pathlib.Path,
) -> None:
    """As `check_turn`, for `inherited_start`; the other arguments and the errors are the same."""
    mean, directions = (start[name] for name in START)
    _check_width(len(mean), width, earlier)
    _check_same("features", config.features, directions.shape[1], earlier)
    if (earlier / CONFIG_FILE).is_file():
        before = _model(earlier, method).start_components
        _check_same("start_components", config.start_components, before, earlier)


def keep_directions(
    workdir: pathlib.Path,
    method: str,
    turn: np.ndarray | None,
    start: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes the file that the next run inherits, unless it exists or there is nothing to inherit."""
    arrays = ({} if turn is None else {TURN: turn}) | dict(start or {})
    if arrays and not _path(workdir, method).is_file():
        write_arrays(_path(workdir, method), **arrays)


def _check_width(before: int, width: int, earlier: pathlib.Path) -> None:
    if before != width:
        raise UserError(
            f"config.train.start_from: {earlier}: its text vectors are {before} wide, those of this run {width}; use the same "
            "encoder and width as there, with --since of its bank, or train from nothing, without train.start_from and --since"
        )


def _check_same(field: str, now: object, then: object, earlier: pathlib.Path) -> None:
    if then != now:
        raise UserError(
            f"config.model.{field}: {now}; the run of config.train.start_from, {earlier}, has {then}; expected the same value, or "
            "train without start_from"
        )


def _model(workdir: pathlib.Path, method: str) -> ModelConfig:
    return read_config(workdir).for_method(method).model


def _path(workdir: pathlib.Path, method: str) -> pathlib.Path:
    return workdir / FOLDER / f"{method}.npz"


def _stored(workdir: pathlib.Path, method: str) -> dict[str, np.ndarray]:
    """The arrays of the file of a workdir; none without a file."""
    path = _path(workdir, method)
    if not path.is_file():
        return {}
    return read_arrays(path, None, "restore the file, or train without start_from")
