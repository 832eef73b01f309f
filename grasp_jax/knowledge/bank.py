"""The `KnowledgeBank`: four frozen, memory-mapped tables and a manifest that says what they were made from."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import checksums, first_damaged, open_table, read_sealed, write_sealed
from grasp_jax.core.locks import only_one
from grasp_jax.core.log import logger

TABLES = ("items", "items_similar", "users", "users_similar")
EXTRAS = ("ids", "texts", "centre", "neighbours", "status")  # of items and of users, as "items_ids"
EXTRA_NAMES = (
    *(f"{kind}_{name}" for kind in ("items", "users") for name in EXTRAS),
    "items_lengths",
    "basis",
)
# folders of approximate indexes, `search_scann.open_index`
INDEXES = tuple(f"{kind}_index" for kind in ("items", "users"))
ENCODER = "encoder"  # folder of the fitted text encoder, `encoders.saved.SavedTextEncoder`
MANIFEST = "manifest.json"
FORMAT_VERSION = 2
READABLE = (1, FORMAT_VERSION)  # the manifest of the first has no checksum of itself


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
        how each came about (`clean.STATUSES`); "items_lengths" [V, 2], what was divided out of item vectors (`knowledge.raw`);
        "basis" [E', E], the directions that were kept.
      encoder_folder: what `SavedTextEncoder.load` opens; None in a bank of an earlier version, which has none.
    """

    items: np.ndarray
    items_similar: np.ndarray
    users: np.ndarray
    users_similar: np.ndarray
    manifest: dict[str, Any]
    extras: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    encoder_folder: pathlib.Path | None = None

    @property
    def tables(self) -> dict[str, np.ndarray]:
        """The four tables by name, as `TABLES` lists them."""
        return {
            "items": self.items,
            "items_similar": self.items_similar,
            "users": self.users,
            "users_similar": self.users_similar,
        }

    @property
    def width(self) -> int:
        """E."""
        return int(self.items.shape[1])


@contextlib.contextmanager
def bank_lock(folder: pathlib.Path) -> Iterator[None]:
    """Locks a bank while it is made, so that no other process makes it too.

    Raises:
      UserError: another process makes it.
    """
    with only_one(
        folder.with_name(folder.name + ".lock"),
        "it makes this knowledge bank; wait for it, or set config.knowledge.path",
    ):
        yield


def begin_bank(folder: pathlib.Path, identity: str) -> pathlib.Path:
    """The folder next to `folder` in which a bank is made. If an interrupted run with the same `identity` has left one,
    it is used again.
    """
    partial = folder.with_name(folder.name + ".partial")
    mark = partial / "identity"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != identity:
        if partial.exists():
            logger.info(
                f"{partial}: texts or the encoder are others than those of the interrupted run, so it starts over"
            )
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        mark.write_text(identity, encoding="utf-8")
    for name in INDEXES:
        shutil.rmtree(partial / name, ignore_errors=True)  # of a search that was refused
    return partial


def new_table(partial: pathlib.Path, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A memory-mapped table of a bank that is being made, to be filled.

    Raises:
      OSError: there is no room for it. This is checked now, because a missing page later ends the process without a message.
    """
    path = partial / f"{name}.npy"
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return table


def save_bank(
    folder: pathlib.Path,
    tables: dict[str, np.ndarray],
    recipe: dict[str, Any],
    notes: dict[str, Any],
) -> None:
    """Finishes a bank atomically, with one rename.

    Args:
      folder: the bank's place; must not exist.
      tables: the four arrays of `TABLES`, and any of `extras`. Arrays from `new_table` are in their files already, and the text encoder is
        in the folder `ENCODER`.
      recipe: everything that the tables depend on; a later run must have the same.
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
    of_encoder = [
        str(path.relative_to(partial)) for path in (partial / ENCODER).rglob("*") if path.is_file()
    ]
    written = checksums(partial, [*(f"{name}.npy" for name in names), *of_encoder])
    of_tables = {name: written[f"{name}.npy"] for name in names}
    manifest = {"format": FORMAT_VERSION, "recipe": recipe, "checksums": of_tables, "notes": notes}
    if of_encoder:
        manifest["encoder"] = {name: written[name] for name in sorted(of_encoder)}
    write_sealed(partial / MANIFEST, manifest)
    os.replace(partial, folder)
    remove_leftover_files(folder)


def leftover_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Intermediate files, such as shards, that a killed process has left in the folder of a bank; and its lock file."""
    lock = folder.with_name(folder.name + ".lock")
    kept = {MANIFEST, ENCODER, *INDEXES, *(f"{name}.npy" for name in (*TABLES, *EXTRA_NAMES))}
    return [path for path in folder.iterdir() if path.name not in kept] + (
        [lock] if lock.exists() else []
    )


def remove_leftover_files(folder: pathlib.Path) -> None:
    """Removes the intermediate files of a finished bank."""
    for path in leftover_files(folder):
        if path.parent == folder:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def load_bank(
    folder: pathlib.Path,
    recipe: dict[str, Any],
    verify: bool = True,
    of_other: tuple[str, ...] = (),
    remedy: str = "set config.knowledge.path to another folder, or use another --workdir",
) -> KnowledgeBank:
    """Opens a bank, memory-mapped, if it was made by `recipe`.

    Args:
      folder: where `save_bank` wrote.
      recipe: what this run needs.
      verify: compare every table with its checksum (reads the files once).
      of_other: keys of the recipe that may differ, of a bank from which another is made.
      remedy: what the user may do if another key differs, for the message.

    Raises:
      UserError: the bank is incomplete or damaged, or was made from something else; says what differs.
    """
    remedy_of_damage = (
        f"move {folder} away to prepare it again"
        if not of_other
        else "name the folder of a whole bank"
    )
    manifest = read_manifest(folder, remedy_of_damage)
    made_by = manifest["recipe"]
    # earlier versions wrote it into the notes
    if "centre_from" in recipe and (noted := manifest.get("notes", {}).get("centre_from")):
        made_by = {"centre_from": os.path.realpath(os.path.expanduser(noted)), **made_by}
    if "min_recall" in recipe and made_by.get("retrieval") == "scann":
        # Earlier versions had no such field, and searched a fixed number of leaves.
        made_by = {"min_recall": recipe["min_recall"], **made_by}
    compared = sorted((set(recipe) | set(made_by)) - set(of_other))
    # `min_recall` is last, because whether it is there depends on `retrieval`
    for key in sorted(compared, key="min_recall".__eq__):
        if made_by.get(key) != recipe.get(key):
            raise UserError(
                f"{folder}: this knowledge bank has {key}={made_by.get(key)!r}, but the run needs {recipe.get(key)!r}; {remedy}"
            )
    names = [*TABLES, *(name for name in EXTRA_NAMES if name in manifest["checksums"])]
    if missing := [name for name in TABLES if name not in manifest["checksums"]]:
        raise UserError(f"{folder / MANIFEST}: has no checksum of {missing[0]}; {remedy_of_damage}")
    of_encoder = manifest.get("encoder", {})
    if verify and (
        damage := first_damaged(
            folder, {f"{name}.npy": manifest["checksums"][name] for name in names} | of_encoder
        )
    ):
        raise UserError(f"{damage}, by the checksum in {MANIFEST}; {remedy_of_damage}")
    tables = {name: open_table(folder / f"{name}.npy", remedy_of_damage) for name in names}
    extras = {name: tables.pop(name) for name in EXTRA_NAMES if name in tables}
    return KnowledgeBank(
        **tables,
        manifest=manifest,
        extras=extras,
        encoder_folder=folder / ENCODER if of_encoder else None,
    )


def read_manifest(folder: pathlib.Path, remedy: str) -> dict[str, Any]:
    """The manifest of a bank: "recipe", "checksums", "notes", and the checksums of its "encoder".

    Args:
      folder: of the bank.
      remedy: what the user may do about a damaged one.

    Raises:
      UserError: it is not there or damaged, or of another version.
    """
    manifest = read_sealed(folder / MANIFEST, remedy, required=False)
    if manifest.get("format") not in READABLE:
        raise UserError(
            f"{folder / MANIFEST}: format {manifest.get('format')}; this version reads {FORMAT_VERSION}; {remedy}"
        )
    if not isinstance(manifest.get("recipe"), dict) or not isinstance(
        manifest.get("checksums"), dict
    ):
        raise UserError(f"{folder / MANIFEST}: has no recipe or no checksums; {remedy}")
    return manifest


def identity(manifest: dict[str, Any]) -> dict[str, Any]:
    """The values that distinguish the tables of one bank from those of another."""
    return {
        "recipe": manifest["recipe"],
        "tables": {name: manifest["checksums"][name] for name in TABLES},
    }


def bank_width(folder: pathlib.Path) -> int | None:
    """E of the bank in a folder; None if there is no bank that can be read."""
    try:
        return int(np.load(folder / "items.npy", mmap_mode="r", allow_pickle=False).shape[1])
    except (OSError, ValueError, EOFError):
        return None
