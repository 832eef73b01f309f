"""The `KnowledgeBank`: four frozen, memory-mapped tables and a manifest that says what they were made from."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.files import sha256

TABLES = ("items", "items_similar", "users", "users_similar")
EXTRAS = ("ids", "texts", "centre", "neighbours", "status")  # of items and of users, as "items_ids"
EXTRA_NAMES = (*(f"{kind}_{name}" for kind in ("items", "users") for name in EXTRAS), "basis")
INDEXES = tuple(f"{kind}_index" for kind in ("items", "users"))  # folders of approximate indexes, `search_scann.open_index`
MANIFEST = "manifest.json"
FORMAT_VERSION = 1
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclasses.dataclass(frozen=True)
class KnowledgeBank:
    """Frozen text knowledge, rows as in the `InteractionLog`.

    Attributes:
      items: [V, E] item embeddings, the paper's I.
      items_similar: [V, E] mean of each item's K neighbours, Ibar.
      users: [N, E] user embeddings, U.
      users_similar: [N, E] mean of each user's K neighbours, Ubar.
      manifest: recipe (fingerprint of the data, templates, encoder, E, K, cut-off, row order), counts and checksums.
      extras: what a later bank can be made from, for "items" and "users" each: "_ids" [rows] str, "_texts" [rows, 2] uint64 hashes,
        "_centre" [E] what was taken out of unit rows, "_neighbours" [rows, K], and where a model wrote the texts "_status" [rows] uint8,
        how each came about (`clean.STATUSES`); "basis" [E', E], the directions that were kept.
    """

    items: np.ndarray
    items_similar: np.ndarray
    users: np.ndarray
    users_similar: np.ndarray
    manifest: dict[str, Any]
    extras: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def width(self) -> int:
        """E."""
        return self.items.shape[1]


@contextlib.contextmanager
def making_of(folder: pathlib.Path) -> Iterator[None]:
    """While a bank is made: no other process makes the same one.

    Raises:
      UserError: another does.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(folder.name + ".lock")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder}: another process makes this bank; wait for it, or set config.knowledge.path") from error
        yield
        path.unlink(missing_ok=True)


def begin_bank(folder: pathlib.Path, identity: str) -> pathlib.Path:
    """The folder beside `folder` in which a bank is made, as an interrupted run has left it if its `identity` was the same."""
    partial = folder.with_name(folder.name + ".partial")
    mark = partial / "identity"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != identity:
        if partial.exists():
            print(f"{partial}: texts or the encoder are others than those of the interrupted run, so it starts over")
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        mark.write_text(identity, encoding="utf-8")
    for name in INDEXES:
        shutil.rmtree(partial / name, ignore_errors=True)  # of a search that was refused
    return partial


def new_table(partial: pathlib.Path, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A table of a bank in the making, memory-mapped, to be filled.

    Raises:
      OSError: there is no room for it; said now, for a page that finds none later ends the process without a word.
    """
    path = partial / f"{name}.npy"
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return table


def save_bank(folder: pathlib.Path, tables: dict[str, np.ndarray], recipe: dict[str, Any], notes: dict[str, Any]) -> None:
    """Finishes a bank, whole or not at all: with one rename.

    Args:
      folder: the bank's place; must not exist.
      tables: the four arrays of `TABLES`, and any of `extras`; those from `new_table` lie in their files already.
      recipe: everything that the tables depend on; a later run must ask for the same.
      notes: facts for readers that do not decide identity, such as counts and seconds.
    """
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    names = [*TABLES, *(name for name in EXTRA_NAMES if name in tables)]
    for name in names:
        table, path = tables[name], partial / f"{name}.npy"
        if isinstance(table, np.memmap) and path.exists() and path.samefile(str(table.filename)):
            table.flush()
        else:
            np.save(path, table, allow_pickle=False)
    checksums = {name: sha256(partial / f"{name}.npy") for name in names}
    manifest = {"format": FORMAT_VERSION, "recipe": recipe, "checksums": checksums, "notes": notes}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, folder)
    kept = {MANIFEST, *INDEXES, *(f"{name}.npy" for name in names)}
    for path in folder.iterdir():  # what the bank was made of, now that nothing can be lost
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def load_bank(folder: pathlib.Path, recipe: dict[str, Any], verify: bool = True, of_other: tuple[str, ...] = ()) -> KnowledgeBank:
    """Opens a bank, memory-mapped, if it was made by `recipe`.

    Args:
      folder: where `save_bank` wrote.
      recipe: what this run needs.
      verify: compare every table with its checksum (reads the files once).
      of_other: keys of the recipe that may differ.

    Raises:
      UserError: the bank is incomplete or damaged, or was made from something else; says what differs.
    """
    other = "a bank of an earlier day must have been made with the same config; prepare anew without it"
    mend = f"remove {folder} to prepare it anew" if not of_other else "name the folder of a whole bank"
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        made_by = manifest["recipe"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / MANIFEST}: not a readable manifest ({error}); {mend}") from error
    if manifest.get("format") != FORMAT_VERSION:
        raise UserError(f"{folder / MANIFEST}: format {manifest.get('format')}; this version reads {FORMAT_VERSION}; {mend}")
    for key in sorted((set(recipe) | set(made_by)) - set(of_other)):
        if made_by.get(key) != recipe.get(key):
            raise UserError(
                f"{folder}: this knowledge bank has {key}={made_by.get(key)!r}, but the run needs {recipe.get(key)!r}; "
                + ("set config.knowledge.path to another folder, or remove this one to prepare it anew" if not of_other else other)
            )
    tables = {}
    for name in (*TABLES, *(name for name in EXTRA_NAMES if name in manifest.get("checksums", ()))):
        path = folder / f"{name}.npy"
        try:
            damaged = verify and sha256(path) != manifest["checksums"][name]
            tables[name] = _opened(path)
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise UserError(f"{path}: not readable ({error}); remove {folder} to prepare it anew") from error
        if damaged:
            raise UserError(f"{path}: the checksum differs from the manifest's; remove {folder} to prepare it anew")
    extras = {name: tables.pop(name) for name in EXTRA_NAMES if name in tables}
    return KnowledgeBank(**tables, manifest=manifest, extras=extras)


def bank_width(folder: pathlib.Path) -> int | None:
    """E of the bank in a folder; None where there is none that can be read."""
    try:
        return np.load(folder / "items.npy", mmap_mode="r", allow_pickle=False).shape[1]
    except (OSError, ValueError, EOFError):
        return None


def _opened(path: pathlib.Path) -> np.ndarray:
    table = np.load(path, mmap_mode="r", allow_pickle=False)
    return table.view(BFLOAT16) if table.dtype == np.dtype("V2") else table  # NumPy's format has no name for it
