"""From a split and its items table to a `KnowledgeBank`: describe, encode, centre, retrieve, save. Reused when the recipe matches."""

import hashlib
import json
import pathlib
import time
from typing import Any

import ml_collections
import numpy as np
from tqdm import tqdm

from grasp_jax.data.items import ItemTable
from grasp_jax.data.split import Split
from grasp_jax.errors import UserError
from grasp_jax.knowledge import prompts
from grasp_jax.knowledge.bank import MANIFEST, KnowledgeBank, load_bank, save_bank
from grasp_jax.knowledge.corruption import ITEMS, USERS, corrupt_texts, corrupt_vectors
from grasp_jax.knowledge.encode import ENCODERS, load_vectors
from grasp_jax.knowledge.neighbours import mean_of_neighbours, top_neighbours

TRAINING_CUT_OFF = "training part of each history: all but the last two interactions"


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


def bank_recipe(config: ml_collections.ConfigDict, split: Split, items: ItemTable | None, user_texts: list[str] | None) -> dict[str, Any]:
    """Everything that the four tables depend on, as plain JSON."""
    recipe: dict[str, Any] = {
        "source": split.log.fingerprint(),
        "cut_off": TRAINING_CUT_OFF,
        "row_order": "users and items as in the source's sorted ids or its items table",
        "encoder": config.encoder,
        "num_neighbours": config.num_neighbours,
        "retrieval": config.retrieval,
        "center": config.center,
        "dtype": config.dtype,
    }
    if config.pooling != "mean":
        recipe["pooling"] = config.pooling
    if config.corruption.kind != "none":
        recipe["corruption"] = config.corruption.to_dict()
    if config.encoder == "file":
        recipe["files"] = {name: _file_identity(config[name]) for name in ("item_file", "user_file", "item_ids_file", "user_ids_file")}
        return recipe
    recipe["describer"] = "template"
    recipe["width"], recipe["seed"] = config.width, config.seed
    for kind in ("item", "user"):
        recipe[f"{kind}_template"] = _hash(prompts.load_template(config[f"{kind}_template"]))
    if items is not None:
        recipe["item_texts"] = _hash(json.dumps({name: list(values) for name, values in items.columns.items()}, default=str))
    # Ready-made texts, or the histories that the template is filled with, which config.data.max_length cuts.
    recipe["user_texts"] = _hash("\n".join(user_texts if user_texts is not None else map(str, split.train.start)))
    return recipe


def _make_tables(
    config: ml_collections.ConfigDict, split: Split, items: ItemTable | None, user_texts: list[str] | None
) -> dict[str, np.ndarray]:
    item_vectors, user_vectors = _encode(config, split, items, user_texts)
    if item_vectors.shape[1] != user_vectors.shape[1]:
        raise UserError(f"item vectors are {item_vectors.shape[1]} wide and user vectors {user_vectors.shape[1]}; expected one width")
    tables = {}
    for kind, vectors in (("items", item_vectors), ("users", user_vectors)):
        unit = unit_rows(vectors, config.center)
        with tqdm(total=len(unit), desc=f"neighbours of {kind}", unit="row", disable=None) as bar:
            neighbours = top_neighbours(unit, config.num_neighbours, config.retrieval, bar.update)
        tables[kind] = unit.astype(config.dtype)
        tables[f"{kind}_similar"] = mean_of_neighbours(unit, neighbours, config.pooling == "similarity").astype(config.dtype)
    return tables


def _encode(
    config: ml_collections.ConfigDict, split: Split, items: ItemTable | None, user_texts: list[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    log = split.log
    if config.encoder == "file":
        return (
            corrupt_vectors(config.corruption, load_vectors(config.item_file, log.item_ids, config.item_ids_file, "item"), ITEMS),
            corrupt_vectors(config.corruption, load_vectors(config.user_file, log.user_ids, config.user_ids_file, "user"), USERS),
        )
    if config.encoder not in ENCODERS:
        raise UserError(f"config.knowledge.encoder: {config.encoder!r}; expected one of {', '.join([*ENCODERS, 'file'])}")
    if items is None:
        raise UserError(
            f"config.knowledge.encoder={config.encoder!r} needs text, but config.data.items_file names no items table; "
            "give one, or bring vectors with encoder 'file', or train --config.model.method=plain"
        )
    item_texts = list(prompts.item_prompts(prompts.load_template(config.item_template), items))
    if user_texts is None:
        template = prompts.load_template(config.user_template)
        user_texts = list(prompts.user_prompts(template, split.train, log.items, prompts.item_titles(items)))
    item_texts, user_texts = corrupt_texts(config.corruption, item_texts, ITEMS), corrupt_texts(config.corruption, user_texts, USERS)
    return ENCODERS[config.encoder](item_texts, user_texts, config)


def unit_rows(vectors: np.ndarray, center: bool) -> np.ndarray:
    """[rows, E] float32 rows of length one; with `center` the mean direction is taken out first (embeddings share a large one)."""
    unit = _normalise(vectors.astype(np.float32))
    return _normalise(unit - unit.mean(axis=0)) if center else unit


def _normalise(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file_identity(path: str) -> str:
    if not pathlib.Path(path).is_file():
        return path
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
