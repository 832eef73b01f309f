"""Warm starts: models that continue from an earlier run, whose catalogue may have been different, such as yesterday's model today."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config import CONFIG_FILE
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import read_object
from grasp_jax.core.log import logger
from grasp_jax.core.paths import check_earlier_folder
from grasp_jax.knowledge.bank import MANIFEST, KnowledgeBank, identity, load_bank, read_manifest
from grasp_jax.knowledge.earlier import continues
from grasp_jax.knowledge.encoders import is_fitted
from grasp_jax.knowledge.recipe_keys import differing_setting
from grasp_jax.models.id_table_params import ID_TABLE
from grasp_jax.training.checkpoint import Checkpoints, find_model
from grasp_jax.workdir import read_item_ids

EXPECTED = "expected the workdir of a run of this version that trained this model"
CHECKPOINTS = "checkpoints"  # folder of a workdir
POSITIONS = "positions"  # [M, longest history, D]: counted from a history's start


class Earlier(NamedTuple):
    """The trained models of an earlier run.

    Attributes:
      workdir: the workdir of that run.
      params: parameters of its M models, nested dictionaries of NumPy arrays with leaves [M, ...].
      best: [M] their validation scores.
      item_ids: [V] str ids of the rows of its item tables.
      made_from: description of its data and settings (`provenance`); empty if an earlier version wrote none.
    """

    workdir: pathlib.Path
    params: dict[str, Any]
    best: np.ndarray
    item_ids: np.ndarray
    made_from: dict[str, Any]


def check_start_from(named: str, trial: str) -> None:
    """Checks, before data are read, that `config.train.start_from` names the workdir of a run that trained the model.

    Args:
      named: its value.
      trial: METHOD-BACKBONE.

    Raises:
      UserError: there is no such folder, it is a saved model, or that model was not trained there.
    """
    flag, expected = (
        "config.train.start_from",
        f"expected the workdir of an earlier run that trained {trial}",
    )
    trained = check_earlier_folder(named, flag, expected) / CHECKPOINTS
    if not (trained / trial).is_dir():
        others = sorted(path.name for path in trained.iterdir()) if trained.is_dir() else []
        models = f"models of {', '.join(others)} only" if others else "no trained model"
        raise UserError(f"{flag}: {trained.parent} holds {models}; {expected}")


def read_earlier(workdir: pathlib.Path, trial: str, allow_older: bool = False) -> Earlier:
    """Reads the models of one trial, METHOD-BACKBONE, of an earlier run; `allow_older` as in `find_model`.

    Raises:
      UserError: nothing was trained there, or the trained model is damaged.
    """
    folder = workdir / CHECKPOINTS / trial
    try:
        stored = find_model(folder, allow_older)
        item_ids = read_item_ids(workdir, EXPECTED) if stored else np.empty(0, str)
    except UserError as error:
        raise UserError(f"config.train.start_from: {error}") from error
    if stored is None:
        raise UserError(f"config.train.start_from: {folder} holds no checkpoint; {EXPECTED}")
    checkpoints = Checkpoints(stored.folder)
    restored = checkpoints.read_any(stored.step)
    checkpoints.close()
    return Earlier(
        workdir,
        restored["best_params"],
        restored["progress"]["best"],
        item_ids,
        stored.manifest.get("made_from", {}),
    )


def start_from(params: Any, earlier: Earlier, rows: np.ndarray) -> Any:
    """Replaces new parameters by the best ones of an earlier run; a new item keeps its new row.

    Args:
      params: parameters of M models, leaves [M, ...].
      earlier: the models of the earlier run.
      rows: [V] the earlier row of each item, -1 for a new one.

    Returns:
      The same tree. All models start from the earlier one with the best validation score.

    Raises:
      UserError: the shapes of the models differ.
    """
    best, folder = int(np.argmax(earlier.best)), earlier.workdir
    try:
        return jax.tree_util.tree_map_with_path(
            lambda path, new, old: _carried_over(path, new, old[best], rows, folder),
            params,
            earlier.params,
        )
    except (ValueError, KeyError) as error:  # jax's error for trees with different structures
        raise UserError(
            f"config.train.start_from: {folder} holds another kind of model; expected the same config.model"
        ) from error


def _carried_over(
    path: Any, new: jax.Array, old: np.ndarray, rows: np.ndarray, folder: pathlib.Path
) -> jax.Array:
    """One parameter of all models: new [M, ...] and old [...]."""
    names = tuple(key.key for key in path)
    if names == ID_TABLE and old.shape[1:] == new.shape[2:]:
        in_both = rows >= 0
        return new.at[:, in_both].set(jnp.asarray(old)[rows[in_both]])
    if names[-1] == POSITIONS and old.shape[1:] == new.shape[2:]:
        length = min(len(old), new.shape[1])
        return new.at[:, :length].set(old[:length])
    if old.shape != new.shape[1:]:
        raise UserError(
            f"config.train.start_from: in {folder} {'.'.join(names)} has shape {old.shape}, here {new.shape[1:]}; "
            "expected the same config.model and width of the vectors"
        )
    return jnp.broadcast_to(old, new.shape).astype(new.dtype)


def earlier_rows(item_ids: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """[V] row that each item had in an earlier run, -1 if it had none; `earlier` has the ids of that run's rows."""
    row_of = {name: row for row, name in enumerate(earlier.tolist())}
    return np.array([row_of.get(name, -1) for name in item_ids.astype(str).tolist()])


def earlier_banks(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Folders that may contain the knowledge bank of an earlier run."""
    folders = [workdir / "knowledge"]
    if (workdir / CONFIG_FILE).exists():
        config = read_object(
            workdir / CONFIG_FILE, "config.train.start_from names this workdir"
        ).get("knowledge", {})
        if isinstance(config, dict) and config.get("path"):
            folders.append(pathlib.Path(str(config["path"])))
    return folders


def earlier_bank(
    folders: Sequence[pathlib.Path], made_from: Mapping[str, Any]
) -> KnowledgeBank | None:
    """The knowledge bank of an earlier run; None if no folder has it any more.

    Args:
      folders: `earlier_banks`.
      made_from: what the run's models were trained on; empty: not known, so the first bank that is found counts as theirs.

    Raises:
      UserError: a bank is damaged.
    """
    for folder in folders:
        if (folder / MANIFEST).is_file():
            manifest = read_manifest(folder, "expected the knowledge bank of that run as written")
            if not made_from or identity(manifest) == made_from.get("bank"):
                return load_bank(folder, manifest["recipe"])
    return None


def trained_on(workdir: pathlib.Path, method: str) -> dict[str, Any]:
    """What the models of a method in a workdir were trained on (`provenance`); empty if there are none, or an earlier version wrote them.

    Raises:
      UserError: all its models of one backbone are damaged.
    """
    for folder in sorted((workdir / CHECKPOINTS).glob(f"{method}-*")):
        if stored := find_model(folder, allow_older=True):
            made_from: dict[str, Any] = stored.manifest.get("made_from", {})
            return made_from
    return {}


def check_basis(
    earlier: Earlier, bank: KnowledgeBank, bank_folders: Sequence[pathlib.Path], rows: np.ndarray
) -> None:
    """Checks that today's text vectors mean the same as those on which the earlier models were trained.

    An encoder that is fitted to the texts again (such as `lsa`, unless --since keeps the earlier one) finds other directions. A model that
    starts from the earlier one would then misread every vector, without any error.

    Args:
      earlier: the earlier run's models.
      bank: today's knowledge bank.
      bank_folders: folders that may contain the earlier run's bank.
      rows: [V] the earlier row of each item, -1 for a new one.

    Raises:
      UserError: the vectors of items that both runs know differ, or the earlier vectors do not exist any more and the encoder is fitted to
        texts.
    """
    if earlier.made_from.get("bank") == identity(bank.manifest):
        return
    field, encoder = (
        f"config.train.start_from: {earlier.workdir}",
        bank.manifest["recipe"].get("encoder"),
    )
    old = earlier_bank(bank_folders, earlier.made_from)
    if old is None:
        if is_fitted(str(encoder)):
            raise UserError(
                f"{field}: its knowledge bank is gone, and the encoder {encoder!r} was fitted again since then; restore the folder of that "
                f"bank and make today's bank with --since=THAT_FOLDER, or train from nothing, {WITHOUT_EARLIER}"
            )
        logger.warning(
            f"{field}: its knowledge bank is gone, so today's vectors were not compared with those that it was trained on"
        )
        return
    if old.encoder_folder is not None and continues(
        bank.manifest, old.manifest, old.encoder_folder.parent
    ):
        return  # whatever the texts say now, the earlier encoder reads them
    remedy = _remedy(old, bank)
    in_both = _compared(old, bank, rows)
    before = np.asarray(old.items[rows[in_both]], np.float32)
    now = np.asarray(bank.items[in_both], np.float32)
    if before.shape[1:] != now.shape[1:]:
        raise UserError(
            f"{field}: its vectors are {before.shape[1]} wide, today's {now.shape[1]}; {remedy}"
        )
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(now, axis=1)
    cosines = (before * now).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
    if len(cosines) and (median := float(np.median(cosines))) < SAME_BASIS:
        raise UserError(
            f"{field}: the encoder {encoder!r} gives items other vectors than it did then (cosine {median:.2f} of the same items, "
            f"expected {SAME_BASIS} or more), so its models would misread them; {remedy}"
        )


def _compared(old: KnowledgeBank, bank: KnowledgeBank, rows: np.ndarray) -> np.ndarray:
    """Today's rows of at most `COMPARED` items that both banks know; of those whose texts are the same, if there are any."""
    in_both, name = np.flatnonzero(rows >= 0), "items_texts"
    if name in old.extras and name in bank.extras:
        same = (old.extras[name][rows[in_both]] == bank.extras[name][in_both]).all(axis=1)
        in_both = in_both[same] if same.any() else in_both
    return in_both[:COMPARED]


def _remedy(old: KnowledgeBank, bank: KnowledgeBank) -> str:
    """What the user may do where today's vectors differ from those of the earlier run.

    Args:
      old: the earlier run's bank.
      bank: today's.
    """
    before, now = old.manifest["recipe"], bank.manifest["recipe"]
    if differs := differing_setting(before, now):
        return (
            f"its bank has {differs}: use the same setting as there (a column that was renamed in the data: its earlier name), with "
            f"--since of it, or train from nothing, {WITHOUT_EARLIER}"
        )
    # an encoder that is not fitted has no state that --since could keep
    if old.encoder_folder is None or bank.encoder_folder is None or not is_fitted(now["encoder"]):
        return f"train from nothing, {WITHOUT_EARLIER}"
    return (
        f"move {bank.encoder_folder.parent} away and run again with --since={old.encoder_folder.parent}, which keeps that day's encoder, "
        f"or train from nothing, {WITHOUT_EARLIER}"
    )


WITHOUT_EARLIER = "without train.start_from and --since"
COMPARED = 1000  # number of items whose vectors of both runs are compared
SAME_BASIS = (
    # lowest median cosine; a changed mean lowers it by a hundredth or two, another basis to about 0
    0.9
)
