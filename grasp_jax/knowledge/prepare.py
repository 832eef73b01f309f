"""From a split and its items table to a `KnowledgeBank`: describe, encode, centre, retrieve, save. Reused when the recipe matches."""

import pathlib
import time
from typing import Any

import ml_collections
import numpy as np
from tqdm import tqdm

from grasp_jax.data.attributes import AttributeTable, Texts
from grasp_jax.data.split import Split
from grasp_jax.errors import UserError
from grasp_jax.knowledge.bank import MANIFEST, KnowledgeBank, load_bank, save_bank
from grasp_jax.knowledge.corruption import ITEMS, USERS, corrupt_vectors
from grasp_jax.knowledge.encode import ENCODERS, load_vectors
from grasp_jax.knowledge.neighbours import recall, top_neighbours
from grasp_jax.knowledge.pooling import mean_of_neighbours
from grasp_jax.knowledge.recipe import OF_THE_DAY, bank_recipe
from grasp_jax.knowledge.refresh import refreshed_neighbours, text_hashes, unchanged_rows
from grasp_jax.knowledge.texts import describe

KINDS = ("items", "users")
PER_TEXT = ("sentence_transformers", "openai")  # encoders whose vector of a text depends on nothing else


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
        tables = _make_tables(config, split, texts, recipe)
        notes = {"seconds": round(time.perf_counter() - started, 1), "users": split.log.num_users, "items": split.log.num_items}
        notes |= {name: config[name] for name in ("since", "centre_from") if config[name]}
        save_bank(folder, tables, recipe, notes)
    return load_bank(folder, recipe, config.verify)


def _make_tables(config: ml_collections.ConfigDict, split: Split, sources: Texts, recipe: dict[str, Any]) -> dict[str, np.ndarray]:
    """The four tables of a bank and its extras; with `config.since`, what is unchanged comes from that bank."""
    log, old, kept = split.log, _earlier(config, recipe), {}
    texts, tables = describe(config, split, sources)
    tables |= {"items_ids": log.item_ids.astype(str), "users_ids": log.user_ids.astype(str)}
    tables |= {f"{kind}_texts": text_hashes(own) for kind, own in texts.items()}
    since = old if config.since else None
    if since is not None:
        for kind in KINDS:
            kept[kind] = unchanged_rows(since, kind, tables[f"{kind}_ids"], tables[f"{kind}_texts"])
            print(f"{kind}: {(kept[kind] < 0).sum():,} of {len(kept[kind]):,} are new or changed since {config.since}")
    vectors = encode(config, split, texts, kept)
    if len({own.shape[1] for own in vectors.values() if len(own)}) > 1:
        wide = [vectors[kind].shape[1] for kind in KINDS]
        raise UserError(f"item vectors are {wide[0]} wide and user vectors {wide[1]}; expected one width")
    for kind in KINDS:
        unit, centre = centred(vectors[kind], config.center, None if old is None else old.extras[f"{kind}_centre"])
        if since is not None:
            unit = with_kept_rows(unit, kept[kind], getattr(since, kind))
        groups = item_groups(sources.items, config.group_column) if kind == "items" and config.group_column else None
        if since is not None and config.retrieval == "exact" and groups is None and not config.exclude_copies:
            neighbours = refreshed_neighbours(unit, config.num_neighbours, kept[kind], since.extras[f"{kind}_neighbours"])
        else:
            neighbours = find_neighbours(config, kind, unit, groups)
        tables[kind] = unit.astype(config.dtype)
        tables[f"{kind}_similar"] = mean_of_neighbours(unit, neighbours, config.pooling == "similarity").astype(config.dtype)
        tables |= {f"{kind}_centre": centre, f"{kind}_neighbours": neighbours}
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


def find_neighbours(config: ml_collections.ConfigDict, kind: str, unit: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """[rows, K] neighbours as the config asks for them.

    Raises:
      UserError: an approximate index finds fewer of the true neighbours than `config.min_recall`.
    """
    labels = copies(unit) if config.exclude_copies else None
    with tqdm(total=len(unit), desc=f"neighbours of {kind}", unit="row", disable=None) as bar:
        found = top_neighbours(unit, config.num_neighbours, config.retrieval, bar.update, groups, labels)
    if config.retrieval != "exact" and groups is None:
        measured = recall(unit, found, labels, config.recall_sample)
        print(
            f"neighbours of {kind}: {config.retrieval} finds {measured:.3f} of the true ones on a sample of {config.recall_sample:,} rows"
        )
        if measured < config.min_recall:
            raise UserError(
                f"config.knowledge.retrieval: {config.retrieval} finds {measured:.3f} of the true neighbours of {kind}, below "
                f"config.knowledge.min_recall={config.min_recall}; use 'exact', or lower the floor"
            )
    return found


def item_groups(items: AttributeTable | None, column: str) -> np.ndarray:
    """[V] number of each item's value of a column; items without one are a group of their own.

    Raises:
      UserError: there is no such column.
    """
    if items is None or column not in items.columns:
        known = "no items table" if items is None else ", ".join(items.columns)
        raise UserError(f"config.knowledge.group_column: {column!r}; the data has {known}")
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(str(value), len(numbers)) for value in items.columns[column]])


def copies(unit: np.ndarray) -> np.ndarray:
    """[rows] int32, the same for rows with one and the same vector."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in unit], np.int32)


def encode(
    config: ml_collections.ConfigDict, split: Split, texts: dict[str, list[str]], kept: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Vectors of "items" and "users": of all rows, or where `kept` says so of those without an earlier row."""
    if not texts:
        log = split.log
        return {
            "items": corrupt_vectors(config.corruption, load_vectors(config.item_file, log.item_ids, config.item_ids_file, "item"), ITEMS),
            "users": corrupt_vectors(config.corruption, load_vectors(config.user_file, log.user_ids, config.user_ids_file, "user"), USERS),
        }
    wanted = {
        kind: [text for text, row in zip(own, kept[kind], strict=True) if row < 0] if kind in kept else own for kind, own in texts.items()
    }
    if not any(wanted.values()):
        return {kind: np.empty((0, 0), np.float32) for kind in KINDS}
    return dict(zip(KINDS, ENCODERS[config.encoder](wanted["items"], wanted["users"], config), strict=True))


def centred(vectors: np.ndarray, center: bool, known: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length one, [rows, E] float32, and the [E] centre that was taken out of them.

    Args:
      vectors: [rows, E].
      center: take the mean direction out (embeddings share a large one), and make the rows one long again.
      known: an earlier bank's centre, in place of the rows' own mean.
    """
    unit = _normalise(vectors.astype(np.float32))
    if not center or not len(unit):
        return unit, np.zeros(unit.shape[1], np.float32) if known is None else np.asarray(known)
    centre = unit.mean(axis=0) if known is None else np.asarray(known)
    return _normalise(unit - centre), centre


def with_kept_rows(new: np.ndarray, kept: np.ndarray, old: np.ndarray) -> np.ndarray:
    """[rows, E] float32: an earlier bank's rows where `kept` names one, the new ones in order elsewhere."""
    unit = np.empty((len(kept), old.shape[1]), np.float32)
    unit[kept >= 0] = old[kept[kept >= 0]]
    if len(new):
        if new.shape[1] != old.shape[1]:
            raise UserError(f"--since: that bank's vectors are {old.shape[1]} wide, the encoder's {new.shape[1]}; prepare anew")
        unit[kept < 0] = new
    return unit


def _normalise(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)
