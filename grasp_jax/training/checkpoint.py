"""Orbax checkpoints in two folders, "last" and "best"; each has a manifest with its data, its settings and the checksums of its files.

    checkpoints/METHOD-BACKBONE/last/STEP/manifest.json    checksums of the files of this snapshot, what it was made from, its model's hash
    checkpoints/METHOD-BACKBONE/newest.json                step and model of the newest complete snapshot

A manifest is written after all other files, so a snapshot without one is not complete, unless the workdir is of a version that wrote no
manifests (`earlier_version`). A model's hash is the hash of its best parameters. "last" contains these too, so a damaged "best" loses
nothing.
"""

import contextlib
import functools
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import checksums, disk_is_full, first_damaged, read_sealed, write_sealed
from grasp_jax.core.log import logger
from grasp_jax.core.words import one_line
from grasp_jax.earlier_version import say_unverified, wrote_no_checksums
from grasp_jax.parallel.processes import barrier, is_main_process
from grasp_jax.provenance import MadeFrom, difference, hash_of_arrays

MAX_TO_KEEP = 2  # the newest one, and the one before in case the newest is damaged
MANIFEST, NEWEST = "manifest.json", "newest.json"
FOLDERS = ("best", "last")


class Checkpoints:
    """The checkpoints of one training under one name, numbered by training step.

    Args:
      folder: the folder of this name, "last" or "best", of a trial.
      made_from: description of the data and settings of the training; stored with every checkpoint.
    """

    def __init__(self, folder: pathlib.Path, made_from: MadeFrom | None = None) -> None:
        self.folder, self._made_from, self._read_back = folder.absolute(), made_from, False
        options = ocp.CheckpointManagerOptions(
            max_to_keep=MAX_TO_KEEP, enable_async_checkpointing=False, create=True
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, tree: Any, model: str = "") -> None:
        """Saves a pytree of arrays. A save that does not finish does not change earlier checkpoints.

        Args:
          step: number of the checkpoint.
          tree: the arrays.
          model: hash of the best parameters in the tree.

        Raises:
          UserError: the disk is full, or the checkpoint cannot be read back (this is tested once).
        """
        if step in self._manager.all_steps():
            self._manager.delete(step)
        try:
            with _without_orbax_log():
                self._manager.save(step, args=ocp.args.StandardSave(tree), force=True)
                self._manager.wait_until_finished()
            if not self._read_back:
                self._check_readable(step, tree)
            if is_main_process():
                manifest = {
                    "made_from": self._made_from or {},
                    "model": model,
                    "files": _checksums(self.folder / str(step)),
                }
                write_sealed(self.folder / str(step) / MANIFEST, manifest)
            barrier(f"saved {self.folder.name} {step}")
        except UserError:
            raise
        except Exception as error:
            if disk_is_full(error):
                from_where = (
                    "starts over" if self.newest() is None else f"resumes from step {self.newest()}"
                )
                remedy = f"free space and run the same command again, it {from_where}"
                raise UserError(
                    f"{self.folder}: the disk is full, step {step} was not saved; {remedy}"
                ) from error
            raise

    def _check_readable(self, step: int, tree: Any) -> None:
        """Reads a checkpoint back, once in each process. Otherwise a folder whose name Orbax misreads would be noticed only when a
        checkpoint is needed.
        """
        reason = "other numbers came back"
        try:
            restored = self._manager.restore(step, args=_restore_args(tree))
            same = all(
                np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
                for a, b in _local_leaves(tree, restored)
            )
        except Exception as error:  # as in `restore`
            same, reason = False, one_line(error)
        if not same:
            raise UserError(
                f"{self.folder / str(step)}: what was saved cannot be read back ({reason}); use another --workdir"
            )
        self._read_back = True

    def newest(self) -> int | None:
        """Step of the newest complete checkpoint; None if there is none."""
        steps, unverified = self._manager.all_steps(), _without_manifests(self.folder.parent)
        complete = (
            step for step in steps if unverified or (self.folder / str(step) / MANIFEST).exists()
        )
        return max(complete, default=None)

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest undamaged checkpoint, as (step, tree with the structure of `like`); None if no checkpoint was ever completed.

        Newer ones that are damaged are named in a warning.

        Raises:
          UserError: there are complete checkpoints, but all are damaged.
        """
        steps, damages = sorted(self._manager.all_steps(), reverse=True), []
        unverified = bool(steps) and _without_manifests(self.folder.parent)
        if unverified:
            say_unverified(self.folder.parent)
        for step in steps:
            try:
                # Without checksums, only reading can find damage.
                if unverified:
                    tree = self._read(step, _restore_args(like))
                else:
                    verified_manifest(self.folder / str(step))
            except UserError as error:
                damages.append(str(error))
                continue
            if not unverified:
                tree = self._read(step, _restore_args(like))
            if damages:
                logger.warning(
                    f"{damages[0]}; continuing from step {step}, the newest undamaged one"
                )
            return step, tree
        if damages and not (self.folder.parent / NEWEST).exists() and self.newest() is None:
            logger.warning(
                f"{damages[0]}; nothing was saved before it, so training starts from the start"
            )
            return None
        if damages:
            raise UserError(
                f"{damages[0]}; no other checkpoint there is whole; remove {self.folder.parent} to train from the start"
            )
        return None

    def _read(self, step: int, args: ocp.args.StandardRestore) -> Any:
        try:
            return self._manager.restore(step, args=args)
        # Orbax and TensorStore raise many types of errors; the checksums are right, so the structure must be wrong
        except Exception as error:
            reason = one_line(error)
            raise UserError(
                f"{self.folder / str(step)}: cannot be read as this run's models ({reason}); use another --workdir"
            ) from error

    def read(self, step: int, like: Any) -> Any:
        """One checkpoint as a tree with the structure of `like`; `verified_manifest` must have verified it before."""
        return self._read(step, _restore_args(like))

    def read_any(self, step: int) -> dict[str, Any]:
        """One checkpoint of any structure, as nested dictionaries of NumPy arrays."""
        restored: dict[str, Any] = self._read(step, ocp.args.StandardRestore())
        return dict(jax.tree.map(np.asarray, restored))

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()


@contextlib.contextmanager
def _without_orbax_log() -> Iterator[None]:
    """Context in which Orbax writes. Its threads log every error with a traceback before the error is raised; this context suppresses the
    log. The level is one of the whole process, so whatever another thread logs through absl meanwhile is suppressed too.
    """
    level = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)


class StoredSnapshot(NamedTuple):
    """A snapshot on disk whose files are undamaged.

    Attributes:
      folder: the folder of its checkpoints, "best" or "last".
      step: the number of the snapshot.
      manifest: "made_from", "model" and "files"; empty if an earlier version wrote none.
    """

    folder: pathlib.Path
    step: int
    manifest: dict[str, Any]


def has_model(folder: pathlib.Path) -> bool:
    """Whether a trial has saved a snapshot, which may be damaged; the argument is as in `find_model`."""
    return any(_steps(folder)) or (folder / NEWEST).exists()


def find_model(folder: pathlib.Path, allow_older: bool = False) -> StoredSnapshot | None:
    """The newest snapshot of a trial that contains its best model; None if nothing was ever saved.

    If "last" is damaged, "best" has the best model too, and a line says so. An older "last" is not used for both, even if its model is the
    same.

    Args:
      folder: the folder of the trial's checkpoints, which has the folders "best" and "last".
      allow_older: if the newest model is damaged, use the newest undamaged one and log which one.

    Raises:
      UserError: the newest model is damaged; the message names the files and what to do.
    """
    damages: list[str] = []
    recorded: dict[str, Any] = {}
    expected = -1  # the newest step that was complete
    older: StoredSnapshot | None = None
    steps = list(_steps(folder))
    if steps and _without_manifests(folder):
        say_unverified(folder)
        return StoredSnapshot(steps[0][1], steps[0][0], {})
    remedy = "run --mode=train with the same --workdir to continue from the newest undamaged one, or --allow-older to use it as it is"
    if steps or (folder / NEWEST).exists():
        try:
            recorded = read_sealed(folder / NEWEST, remedy)
            expected = recorded.get("step", -1)
        except UserError as error:
            damages.append(str(error))
    for step, subfolder in steps:
        try:
            snapshot = StoredSnapshot(subfolder, step, verified_manifest(subfolder / str(step)))
        except UserError as error:
            # a newer one than the newest complete one is of a save that was interrupted
            if step <= expected or not recorded:
                damages.append(str(error))
            continue
        same = bool(recorded) and snapshot.manifest["model"] == recorded.get("model")
        if recorded and (step > expected or (same and step == expected)):
            return snapshot
        if same and subfolder.name == "best":
            _warn_once(
                f"{_listed(damages) or _gone(folder, expected)}; {subfolder / str(step)} holds the same best model, which is used; "
                "--mode=train continues from the newest undamaged snapshot"
            )
            return snapshot
        older = older or snapshot
        if not same:  # "best" is older still
            break
    if older is not None and allow_older:
        _warn_once(
            f"{_listed(damages) or _gone(folder, expected)}; {older.folder / str(older.step)}: this older snapshot is used, as "
            "--allow-older says"
        )
        return older
    if recorded and not damages:
        damages.append(_gone(folder, expected))
    if damages:
        found = _listed(damages)
        raise UserError(found if remedy in found else f"{found}; {remedy}")
    return None


def _gone(folder: pathlib.Path, step: int) -> str:
    return f"{folder}: the snapshot of step {step}, its newest, is gone"


def _listed(damages: list[str]) -> str:
    """All damages; the reason of each is said once."""
    return "; ".join(dict.fromkeys(damages))


@functools.cache
def _warn_once(line: str) -> None:
    logger.warning(line)


def check_made_from(folder: pathlib.Path, made_from: MadeFrom) -> None:
    """Checks the snapshots of a trial, before anything is written.

    Raises:
      UserError: a snapshot belongs to other data or settings than those of this run.
    """
    for step, subfolder in _steps(folder):
        try:
            manifest = read_sealed(subfolder / str(step) / MANIFEST, "the snapshot is damaged")
        except UserError:
            continue  # the function that reads the snapshot reports the damage
        if found := difference(manifest.get("made_from", {}), made_from):
            raise UserError(
                f"{subfolder / str(step)}: this checkpoint is of another run: {found}; use another --workdir"
            )


def record_newest(folder: pathlib.Path, step: int, model: str) -> None:
    """Records in a trial's folder which snapshot is its newest, after that snapshot is complete."""
    if is_main_process():
        write_sealed(folder / NEWEST, {"step": step, "model": model})


def had_newer(folder: pathlib.Path, step: int) -> bool:
    """Whether a trial had a newer complete snapshot than that of `step`, or may have had one, because the record of it is damaged."""
    if not (folder / NEWEST).exists():  # of an earlier version
        return False
    try:
        return bool(read_sealed(folder / NEWEST, "")["step"] > step)
    except (UserError, KeyError):
        return True


def verified_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of one snapshot, after all of its files were verified.

    Raises:
      UserError: a file is damaged; the message names it.
    """
    if not (folder / MANIFEST).exists():
        raise UserError(
            f"{folder}: has no {MANIFEST}, so it was not saved to its end, or by an earlier version"
        )
    manifest = read_sealed(folder / MANIFEST, "the snapshot is damaged")
    if (
        not isinstance(manifest.get("files"), dict)
        or not manifest["files"]
        or "made_from" not in manifest
        or "model" not in manifest
    ):
        raise UserError(
            f"{folder / MANIFEST}: lacks files, made_from or model; the snapshot is damaged"
        )
    if damage := first_damaged(folder, manifest["files"]):
        raise UserError(f"{damage}; the snapshot is damaged")
    return manifest


def _without_manifests(folder: pathlib.Path) -> bool:
    """Whether all snapshots of a trial were written by a version that wrote no manifests."""
    if (folder / NEWEST).exists() or any(
        (subfolder / str(step) / MANIFEST).exists() for step, subfolder in _steps(folder)
    ):
        return False
    return wrote_no_checksums(folder.parent.parent)


def _steps(folder: pathlib.Path) -> Iterator[tuple[int, pathlib.Path]]:
    """(step, folder "best" or "last") of every snapshot of a trial, newest first; "best" comes before "last" of the same step."""
    snapshots = [
        (int(path.name), folder / name)
        for name in FOLDERS
        for path in (folder / name).glob("*")
        if path.name.isdigit()
    ]
    yield from sorted(snapshots, key=lambda entry: (-entry[0], entry[1].name))


def _checksums(folder: pathlib.Path) -> dict[str, str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return checksums(folder, (name for name in names if name != MANIFEST))


def _restore_args(tree: Any) -> ocp.args.StandardRestore:
    """What Orbax restores: arrays with the shapes, dtypes and shardings of the tree's leaves (arrays, or descriptions of them).

    NumPy arrays are passed themselves, because for a description without a sharding Orbax reads the files of all arrays to find one.
    """

    def description(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array):
            return ocp.utils.to_shape_dtype_struct(leaf)
        return np.asarray(leaf) if isinstance(leaf, np.generic) else leaf

    return ocp.args.StandardRestore(jax.tree.map(description, tree))


def _local_leaves(*trees: Any) -> Iterator[tuple[Any, ...]]:
    """Tuples of corresponding leaves of trees with the same structure; with several processes only the parts of this process."""
    for leaves in zip(*map(jax.tree.leaves, trees), strict=True):
        complete = [not isinstance(leaf, jax.Array) or leaf.is_fully_addressable for leaf in leaves]
        yield leaves if all(complete) else tuple(leaf.addressable_data(0) for leaf in leaves)


def hash_of_model(best_params: Any) -> str:
    """Hash of the best parameters of all models of a trial; every process must call this function."""
    return hash_of_arrays(jax.device_get(best_params))
