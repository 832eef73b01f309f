"""Models that go on from an earlier run's, whose catalogue may have been another: yesterday's for today's retraining."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.training.checkpoint import Checkpoints

ITEM_TABLE = ("encoder", "table")  # [M, V, D]: rows are items
POSITIONS = "positions"  # [M, longest history, D]: counted from a history's start


def start_from(params: Any, folder: pathlib.Path, rows: np.ndarray) -> Any:
    """Fresh parameters with an earlier run's best in their place; an item that is new keeps its fresh row.

    Args:
      params: of M models, leaves [M, ...].
      folder: of the earlier cell's checkpoints.
      rows: [V] the earlier row of each item, -1 for a new one.

    Returns:
      The same tree. All models start from the earlier one with the best validation score.

    Raises:
      UserError: nothing was trained there, or a model of another shape.
    """
    checkpoints = Checkpoints(folder / "best") if (folder / "best").is_dir() else None
    restored = None if checkpoints is None else checkpoints.restore_all()
    if restored is None:
        raise UserError(f"config.train.start_from: {folder} holds no checkpoint; expected the workdir of a run that trained this model")
    earlier, best = restored["best_params"], int(np.argmax(restored["progress"]["best"]))
    try:
        return jax.tree_util.tree_map_with_path(lambda path, new, old: _carried(path, new, old[best], rows, folder), params, earlier)
    except (ValueError, KeyError) as error:  # what jax says of trees that are not alike
        raise UserError(f"config.train.start_from: {folder} holds another kind of model; expected the same config.model") from error


def _carried(path: Any, new: jax.Array, old: np.ndarray, rows: np.ndarray, folder: pathlib.Path) -> jax.Array:
    """One parameter of all models: new [M, ...] and old [...]."""
    names = tuple(key.key for key in path)
    fits = old.shape == new.shape[1:]
    if names == ITEM_TABLE and old.shape[1:] == new.shape[2:]:
        known = rows >= 0
        return new.at[:, known].set(jnp.asarray(old)[rows[known]])
    if names[-1] == POSITIONS and old.shape[1:] == new.shape[2:]:
        shared = min(len(old), new.shape[1])
        return new.at[:, :shared].set(old[:shared])
    if not fits:
        raise UserError(
            f"config.train.start_from: in {folder} {'.'.join(names)} has shape {old.shape}, here {new.shape[1:]}; "
            "expected the same config.model and width of the vectors"
        )
    return jnp.broadcast_to(old, new.shape).astype(new.dtype)


def earlier_rows(item_ids: np.ndarray, workdir: pathlib.Path) -> np.ndarray:
    """[V] row that each item had in an earlier run, -1 where it had none.

    Raises:
      UserError: the workdir does not say which items it was trained on.
    """
    path = workdir / ITEM_IDS
    try:
        earlier = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"config.train.start_from: {path} cannot be read ({error}); expected the workdir of a run of this version"
        ) from error
    row_of = {name: row for row, name in enumerate(earlier.tolist())}
    return np.array([row_of.get(name, -1) for name in item_ids.astype(str).tolist()])


def save_item_ids(item_ids: np.ndarray, workdir: pathlib.Path) -> None:
    """Leaves the ids of the rows of the item table in a workdir."""
    path = workdir / ITEM_IDS
    if not path.exists():
        partial = path.with_suffix(".partial.npy")
        np.save(partial, item_ids.astype(str), allow_pickle=False)
        partial.replace(path)


ITEM_IDS = "item_ids.npy"
