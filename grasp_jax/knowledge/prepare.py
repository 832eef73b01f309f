"""From a split and its items table to a `KnowledgeBank`: describe, encode, centre, retrieve, save. Reused when the recipe matches."""

import pathlib
import time
from collections.abc import Iterator

import ml_collections
import numpy as np
from tqdm import tqdm

from grasp_jax.data.items import ItemTable
from grasp_jax.data.split import Split
from grasp_jax.errors import UserError
from grasp_jax.knowledge import prompts
from grasp_jax.knowledge.bank import MANIFEST, KnowledgeBank, load_bank, save_bank
from grasp_jax.knowledge.corruption import ITEMS, USERS, corrupt_texts, corrupt_vectors
from grasp_jax.knowledge.describe import DESCRIBERS, PromptOf, what_is_missing
from grasp_jax.knowledge.encode import ENCODERS, load_vectors
from grasp_jax.knowledge.neighbours import recall, top_neighbours
from grasp_jax.knowledge.pooling import mean_of_neighbours
from grasp_jax.knowledge.recipe import bank_recipe


def prepare_bank(
    config: ml_collections.ConfigDict, split: Split, items: ItemTable | None, user_texts: list[str] | None, folder: pathlib.Path
) -> KnowledgeBank:
    """The bank for `split`: opened if `folder` holds it, made and saved otherwise.

    Args:
      config: the `knowledge` section.
      split: histories whose training part may be read.
      items: text of the items; None is allowed with the encoder `file`.
      user_texts: [N] ready-made user descriptions (the synthetic shop's), or None to fill the user template.
      folder: `config.path`, or the run's own folder.

    Raises:
      UserError: an unknown encoder, missing text, or a bank in `folder` that does not fit.
    """
    recipe = bank_recipe(config, split, items, user_texts)
    if not (folder / MANIFEST).is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"config.knowledge.path: {folder} holds other files and no knowledge bank; name an empty or a new folder")
        started = time.perf_counter()
        tables = _make_tables(config, split, items, user_texts)
        notes = {"seconds": round(time.perf_counter() - started, 1), "users": split.log.num_users, "items": split.log.num_items}
        save_bank(folder, tables, recipe, notes)
    return load_bank(folder, recipe, config.verify)


def dry_run(config: ml_collections.ConfigDict, split: Split, items: ItemTable | None, user_texts: list[str] | None) -> Iterator[str]:
    """Lines that say what `prepare_bank` would ask a language model for, and at what price; asks for nothing."""
    if config.encoder == "file":
        yield "describe: vectors come from files; nothing leaves this machine"
        return
    item_prompt, user_prompt = prompts_of(config, split, items)
    yield what_is_missing("items", split.log.num_items, item_prompt, config)
    if user_texts is None:
        yield what_is_missing("users", split.log.num_users, user_prompt, config)


def _make_tables(
    config: ml_collections.ConfigDict, split: Split, items: ItemTable | None, user_texts: list[str] | None
) -> dict[str, np.ndarray]:
    item_vectors, user_vectors, tables = _encode(config, split, items, user_texts)
    if item_vectors.shape[1] != user_vectors.shape[1]:
        raise UserError(f"item vectors are {item_vectors.shape[1]} wide and user vectors {user_vectors.shape[1]}; expected one width")
    for kind, vectors in (("items", item_vectors), ("users", user_vectors)):
        unit = unit_rows(vectors, config.center)
        groups = item_groups(items, config.group_column) if kind == "items" and config.group_column else None
        neighbours = find_neighbours(config, kind, unit, groups)
        tables[kind] = unit.astype(config.dtype)
        tables[f"{kind}_similar"] = mean_of_neighbours(unit, neighbours, config.pooling == "similarity").astype(config.dtype)
    return tables


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


def item_groups(items: ItemTable | None, column: str) -> np.ndarray:
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


def _encode(
    config: ml_collections.ConfigDict, split: Split, items: ItemTable | None, user_texts: list[str] | None
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Vectors of items and users; and, where a language model described them, how each description came about."""
    log = split.log
    if config.encoder == "file":
        return (
            corrupt_vectors(config.corruption, load_vectors(config.item_file, log.item_ids, config.item_ids_file, "item"), ITEMS),
            corrupt_vectors(config.corruption, load_vectors(config.user_file, log.user_ids, config.user_ids_file, "user"), USERS),
            {},
        )
    if config.encoder not in ENCODERS:
        raise UserError(f"config.knowledge.encoder: {config.encoder!r}; expected one of {', '.join([*ENCODERS, 'file'])}")
    item_prompt, user_prompt = prompts_of(config, split, items)
    statuses = {}
    item_texts, statuses["items_status"] = DESCRIBERS[config.describer]("items", log.num_items, item_prompt, config)
    if user_texts is None:
        user_texts, statuses["users_status"] = DESCRIBERS[config.describer]("users", log.num_users, user_prompt, config)
    item_texts, user_texts = corrupt_texts(config.corruption, item_texts, ITEMS), corrupt_texts(config.corruption, user_texts, USERS)
    vectors = ENCODERS[config.encoder](item_texts, user_texts, config)
    return *vectors, {} if config.describer == "template" else statuses


def prompts_of(config: ml_collections.ConfigDict, split: Split, items: ItemTable | None) -> tuple[PromptOf, PromptOf]:
    """The prompts of items and of users, by row.

    Raises:
      UserError: there is no text, or a template names a field that the data lacks.
    """
    if items is None:
        raise UserError(
            f"config.knowledge.encoder={config.encoder!r} needs text, but config.data.items_file names no items table; "
            "give one, or bring vectors with encoder 'file', or train --config.model.method=plain"
        )
    of_items, of_users = (prompts.load_template(config[f"{kind}_template"]) for kind in ("item", "user"))
    return prompts.item_prompt(of_items, items), prompts.user_prompt(of_users, split.train, split.log.items, prompts.item_titles(items))


def unit_rows(vectors: np.ndarray, center: bool) -> np.ndarray:
    """[rows, E] float32 rows of length one; with `center` the mean direction is taken out first (embeddings share a large one)."""
    unit = _normalise(vectors.astype(np.float32))
    return _normalise(unit - unit.mean(axis=0)) if center else unit


def _normalise(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)
