"""From a split and its texts to a `KnowledgeBank`: describe, encode, bring into rows, retrieve, save. Reused when the recipe matches.

Tables are written where they will lie, a block at a time, and an interrupted run goes on with the vectors that it has.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from tqdm import tqdm

from grasp_jax.data.attributes import Texts
from grasp_jax.data.split import Split
from grasp_jax.errors import UserError
from grasp_jax.knowledge.bank import MANIFEST, KnowledgeBank, begin_bank, load_bank, new_table, save_bank
from grasp_jax.knowledge.corruption import ITEMS, USERS, described_by
from grasp_jax.knowledge.encode import ENCODERS, PER_TEXT
from grasp_jax.knowledge.geometry import Blocks, Geometry, mean_direction, principal_directions, to_rows, widths
from grasp_jax.knowledge.pooling import mean_of_neighbours
from grasp_jax.knowledge.recipe import OF_THE_DAY, bank_recipe, encoder_recipe
from grasp_jax.knowledge.refresh import refreshed_neighbours, text_hashes, unchanged_rows
from grasp_jax.knowledge.retrieve import find_neighbours, item_groups, same_text
from grasp_jax.knowledge.shards import fill_shards, read_shards
from grasp_jax.knowledge.texts import describe
from grasp_jax.knowledge.vector_files import RowVectors, open_vectors

KINDS = ("items", "users")
BLOCK = 4096  # rows taken over at a time
Tables = dict[str, np.ndarray]


def prepare_bank(config: ml_collections.ConfigDict, split: Split, texts: Texts, folder: pathlib.Path) -> KnowledgeBank:
    """The bank for `split`: opened if `folder` holds it, made and saved otherwise.

    Args:
      config: the `knowledge` section.
      split: histories whose training part may be read.
      texts: what is known of items and users; nothing is needed with the encoder `file`.
      folder: `config.path`, or the run's own folder.

    Raises:
      UserError: an unknown encoder, missing text, or a bank in `folder` that does not fit.
    """
    recipe = bank_recipe(config, split, texts)
    if not (folder / MANIFEST).is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"config.knowledge.path: {folder} holds other files and no knowledge bank; name an empty or a new folder")
        started = time.perf_counter()
        tables = make_tables(config, split, texts, recipe, folder)
        notes = {"seconds": round(time.perf_counter() - started, 1), "users": split.log.num_users, "items": split.log.num_items}
        notes |= {name: config[name] for name in ("since", "centre_from") if config[name]}
        save_bank(folder, tables, recipe, notes)
    return load_bank(folder, recipe, config.verify)


def make_tables(config: ml_collections.ConfigDict, split: Split, sources: Texts, recipe: dict[str, Any], folder: pathlib.Path) -> Tables:
    """The four tables of a bank and its extras; with `config.since`, what is unchanged comes from that bank."""
    log, old = split.log, _earlier(config, recipe)
    since = old if config.since else None
    texts, tables = describe(config, split, sources)
    tables |= {"items_ids": log.item_ids.astype(str), "users_ids": log.user_ids.astype(str)}
    tables |= {f"{kind}_texts": text_hashes(own) for kind, own in texts.items()}
    kept = {kind: np.full(count, -1) for kind, count in zip(KINDS, (log.num_items, log.num_users), strict=True)}
    if since is not None:
        for kind in KINDS:
            kept[kind] = unchanged_rows(since, kind, tables[f"{kind}_ids"], tables[f"{kind}_texts"])
            print(f"{kind}: {(kept[kind] < 0).sum():,} of {len(kept[kind]):,} are new or changed since {config.since}")
    wanted = {kind: np.flatnonzero(rows < 0) for kind, rows in kept.items()}
    partial = begin_bank(folder, _identity(config, tables, wanted, recipe))
    shards = partial / "shards"
    _encode_all(config, split, texts, wanted, shards)
    geometries = _geometries(config, split, shards, old)
    for kind in KINDS:
        unit = _write_rows(config, kind, kept[kind], geometries[kind], shards, None if since is None else getattr(since, kind), partial)
        groups = item_groups(sources.items, config.group_column) if kind == "items" and config.group_column else None
        if since is not None and config.retrieval == "exact" and groups is None and not config.exclude_copies:
            neighbours = refreshed_neighbours(unit, config.num_neighbours, kept[kind], since.extras[f"{kind}_neighbours"])
        else:
            labels = same_text(tables.get(f"{kind}_texts"), unit) if config.exclude_copies else None
            neighbours = find_neighbours(config, kind, unit, groups, labels, partial / f"{kind}_index")
        tables[kind] = unit
        tables[f"{kind}_similar"] = new_table(partial, f"{kind}_similar", unit.shape, config.dtype)
        mean_of_neighbours(unit, neighbours, tables[f"{kind}_similar"], config.pooling == "similarity")
        tables |= {f"{kind}_centre": geometries[kind].centre, f"{kind}_neighbours": neighbours}
    if geometries["items"].basis is not None:
        tables["basis"] = geometries["items"].basis
    return tables


def _earlier(config: ml_collections.ConfigDict, recipe: dict[str, Any]) -> KnowledgeBank | None:
    """The bank that `config.since`, or `config.centre_from`, names.

    Raises:
      UserError: it was made otherwise than this one is to be made, or holds nothing to go on from.
    """
    folder = config.since or config.centre_from
    if not folder:
        return None
    if config.since and config.encoder not in PER_TEXT:
        raise UserError(
            f"--since: the encoder {config.encoder!r} gives a text another vector when other texts change; prepare anew, "
            f"or use one of {', '.join(PER_TEXT)}"
        )
    old = load_bank(pathlib.Path(folder), recipe, config.verify, of_other=OF_THE_DAY)
    if "items_centre" not in old.extras:
        raise UserError(f"{folder}: an older version made this bank, and it does not say what was taken out of its rows; prepare anew")
    return old


def _identity(config: ml_collections.ConfigDict, tables: Tables, wanted: dict[str, np.ndarray], recipe: dict[str, Any]) -> str:
    """What the encoder's vectors depend on: those of an interrupted run are used where it is the same."""
    made_by = recipe["files"] if config.encoder == "file" else [config.encoder, encoder_recipe(config), config.describer]
    found = hashlib.sha256(json.dumps([made_by, recipe.get("corruption")], sort_keys=True).encode())
    for kind in KINDS:
        found.update(wanted[kind].tobytes())
        found.update(tables.get(f"{kind}_texts", tables[f"{kind}_ids"]).tobytes())
    return found.hexdigest()


def _encode_all(
    config: ml_collections.ConfigDict, split: Split, texts: Mapping[str, Sequence[str]], wanted: dict[str, np.ndarray], shards: pathlib.Path
) -> None:
    """Fills the shards of `wanted` rows."""
    if not any(map(len, wanted.values())):
        return
    with _vectors(config, split, texts, wanted) as vectors_of:
        for kind in KINDS:
            with tqdm(total=len(wanted[kind]), desc=f"encode {kind}", unit="text", disable=None) as bar:
                fill_shards(shards, kind, wanted[kind], vectors_of[kind], bar.update)


@contextlib.contextmanager
def _vectors(
    config: ml_collections.ConfigDict, split: Split, texts: Mapping[str, Sequence[str]], wanted: dict[str, np.ndarray]
) -> Iterator[dict[str, RowVectors]]:
    """Rows -> vectors, of "items" and of "users"."""
    if config.encoder == "file":
        yield {"items": _of_file(config, "item", split.log.item_ids, ITEMS), "users": _of_file(config, "user", split.log.user_ids, USERS)}
        return
    items, users = (texts[kind] if len(wanted[kind]) == len(texts[kind]) else [texts[kind][row] for row in wanted[kind]] for kind in KINDS)
    with ENCODERS[config.encoder](items, users, config) as encode:

        def of_text(own: Sequence[str]) -> RowVectors:
            return lambda rows: encode([own[row] for row in rows])

        yield {kind: of_text(texts[kind]) for kind in KINDS}


def _of_file(config: ml_collections.ConfigDict, kind: str, ids: np.ndarray, purpose: int) -> RowVectors:
    source = described_by(config.corruption, len(ids), purpose)
    read = open_vectors(config[f"{kind}_file"], ids, config[f"{kind}_ids_file"], kind)
    return lambda rows: read(source[rows])


def _geometries(config: ml_collections.ConfigDict, split: Split, shards: pathlib.Path, old: KnowledgeBank | None) -> dict[str, Geometry]:
    """What is to be done to vectors of items and of users: an earlier bank's, or found from these.

    Raises:
      UserError: vectors of several widths, or of another than the earlier bank's.
    """
    given = {kind: block.shape[1] for kind in KINDS for block in read_shards(shards, kind)}
    if old is not None:
        basis = old.extras.get("basis")
        earlier = {kind: Geometry(np.asarray(old.extras[f"{kind}_centre"]), basis) for kind in KINDS}
        for width in given.values():
            if widths(config, width)[0] != len(earlier["items"].centre):
                wide = len(earlier["items"].centre)
                raise UserError(
                    f"{config.since or config.centre_from}: that bank's vectors are {wide} wide, the encoder's {width}; prepare anew"
                )
        return earlier
    if len(set(given.values())) > 1:
        raise UserError(f"item vectors are {given['items']} wide and user vectors {given['users']}; expected one width")
    read, kept = widths(config, given["items"])
    blocks: dict[str, Blocks] = {kind: functools.partial(read_shards, shards, kind) for kind in KINDS}
    centres = {kind: mean_direction(blocks[kind], read) if config.center else np.zeros(read, np.float32) for kind in KINDS}
    basis = None
    if config.reduction.kind == "pca" or config.whiten:
        basis = principal_directions(blocks["items"], split.item_counts > 0, centres["items"], kept, config.whiten)
    return {kind: Geometry(centre, basis) for kind, centre in centres.items()}


def _write_rows(
    config: ml_collections.ConfigDict, kind: str, kept: np.ndarray, geometry: Geometry, shards: pathlib.Path, old: np.ndarray | None,
    partial: pathlib.Path,
) -> np.ndarray:  # fmt: skip
    """[rows, E] the table of a kind: an earlier bank's rows where `kept` names one, the encoder's in order elsewhere."""
    width = len(geometry.centre) if geometry.basis is None else geometry.basis.shape[1]
    unit = new_table(partial, kind, (len(kept), width), config.dtype)
    begin, new = 0, np.flatnonzero(kept < 0)
    for vectors in read_shards(shards, kind):
        unit[new[begin : begin + len(vectors)]] = to_rows(vectors, geometry)
        begin += len(vectors)
    if old is not None:
        again = np.flatnonzero(kept >= 0)
        for start in range(0, len(again), BLOCK):
            rows = again[start : start + BLOCK]
            unit[rows] = old[kept[rows]]
    return unit
