"""Orbax checkpoints, "last" and "best" kept apart; a damaged one is named and the one before it is used."""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from grasp_jax.errors import UserError
from grasp_jax.files import disk_is_full

KEPT = 2  # the newest and, should it turn out damaged, the one before


class Checkpoints:
    """The checkpoints of one training under one name, numbered by training step."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False, create=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, tree: Any) -> None:
        """Saves a pytree of arrays; a save that does not finish leaves the earlier ones as they are."""
        if step in self._manager.all_steps():
            self._manager.delete(step)
        try:
            self._manager.save(step, args=ocp.args.StandardSave(tree), force=True)
            self._manager.wait_until_finished()
        except Exception as error:
            if disk_is_full(error):
                raise UserError(
                    f"{self.folder}: the disk is full, step {step} was not saved; free space and run the same command again, "
                    f"it resumes from step {self.latest()}"
                ) from error
            raise

    def latest(self) -> int | None:
        """Step of the newest checkpoint, None where there is none."""
        return max(self._manager.all_steps(), default=None)

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest readable checkpoint as (step, tree of the form of `like`), None where none was ever saved.

        Raises:
          UserError: there are checkpoints and none can be read.
        """
        return self._newest(ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like)))

    def restore_all(self) -> dict[str, Any] | None:
        """The newest readable checkpoint whatever its form, as nested dictionaries of NumPy arrays; None and errors as in `restore`."""
        found = self._newest(ocp.args.StandardRestore())
        return None if found is None else jax.tree.map(np.asarray, found[1])

    def _newest(self, wanted: ocp.args.StandardRestore) -> tuple[int, Any] | None:
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                tree = self._manager.restore(step, args=wanted)
            except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
                reason = " ".join(str(error).split())[:120]
                logging.warning("%s: checkpoint %d cannot be read (%s); trying the one before it", self.folder, step, reason)
                continue
            return step, tree
        if steps:
            raise UserError(f"{self.folder}: none of the checkpoints {steps} can be read; remove the folder to train from the start")
        return None

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()
