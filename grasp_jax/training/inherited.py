"""The directions in which an earlier run's models read text, for a run that trains on from them with another day's knowledge.

Methods that fit such directions to the items (`Method.text_turn`) would fit others to another day's items, and their networks would misread
every text. So a run with `config.train.start_from` reads today's texts in the directions of the first run of the chain, and keeps them as
WORKDIR/inherited/METHOD.npz for the run after it.
"""

import pathlib

import numpy as np

from grasp_jax.config import CONFIG_FILE, ModelConfig, read_config
from grasp_jax.errors import UserError
from grasp_jax.files import write_arrays
from grasp_jax.knowledge.bank import MANIFEST, load_bank, read_manifest
from grasp_jax.models.methods import METHODS
from grasp_jax.training.start_from import earlier_banks

FOLDER, TURN = "inherited", "turn"
DECIDING = ("text_width", "text_whitening", "text_norm")  # fields of `config.model.plus`


def inherited_turn(workdir: pathlib.Path, earlier: pathlib.Path, method: str) -> np.ndarray:
    """[E, E'] `Method.text_turn` that a run inherits and keeps.

    Args:
      workdir: the workdir of the run.
      earlier: the workdir of the run from which it starts.
      method: one that fits directions.

    Raises:
      UserError: the matrix of the earlier run does not exist any more, or a file is damaged.
    """
    for folder in (workdir, earlier):
        if (path := _path(folder, method)).is_file():
            return _read(path)
    for folder in earlier_banks(earlier):
        if (folder / MANIFEST).is_file():
            manifest = read_manifest(folder, "expected the knowledge bank of that run as written")
            items = load_bank(folder, manifest["recipe"]).items
            turn = METHODS[method].text_turn(items, read_config(earlier).for_method(method).model)
            assert turn is not None
            return turn
    raise UserError(
        f"config.train.start_from: {earlier}: its knowledge bank is gone, so the directions in which {method} reads text are not known; "
        "restore the folder of the bank, or train without start_from"
    )


def check_turn(
    turn: np.ndarray, width: int, method: str, config: ModelConfig, earlier: pathlib.Path
) -> None:
    """Checks that a run can use the inherited directions for its texts, and would have computed them with the same settings.

    Args:
      turn: [E, E'] `inherited_turn`.
      width: E of the run's knowledge bank.
      method: one that fits directions.
      config: the `model` section of the run.
      earlier: workdir of the run from which it starts; its config is compared if it still exists.

    Raises:
      UserError: the bank has another width, or a field on which the directions depend has changed.
    """
    if len(turn) != width:
        raise UserError(
            f"config.train.start_from: {earlier}: its text vectors are {len(turn)} wide, those of this run {width}; prepare the knowledge "
            "bank with --since of the earlier one, or train without start_from"
        )
    if not (earlier / CONFIG_FILE).is_file():
        return
    before = read_config(earlier).for_method(method).model.plus
    for name in DECIDING:
        then, now = getattr(before, name), getattr(config.plus, name)
        if then != now:
            raise UserError(
                f"config.model.plus.{name}: {now}; the run of config.train.start_from, {earlier}, has {then}; expected the same value, or "
                "train without start_from"
            )


def keep_turn(workdir: pathlib.Path, method: str, turn: np.ndarray) -> None:
    """Writes the file that `inherited_turn` reads, unless it exists."""
    if not _path(workdir, method).is_file():
        write_arrays(_path(workdir, method), **{TURN: turn})


def _path(workdir: pathlib.Path, method: str) -> pathlib.Path:
    return workdir / FOLDER / f"{method}.npz"


def _read(path: pathlib.Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as stored:
            turn: np.ndarray = stored[TURN]
    # zipfile, zlib and NumPy raise many types of errors for a damaged file
    except Exception as error:
        raise UserError(
            f"{path}: not readable ({' '.join(str(error).split())[:120]}); restore the file, or train without start_from"
        ) from error
    return turn
