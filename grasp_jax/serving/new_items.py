"""Adds items to a trained model by their texts, which are encoded as in training. Nothing is trained.

A new item has a text and no history: no training interactions, no items that were bought shortly before or after it, and an ID vector only
if the method computes start values of ID vectors. Its neighbours are items that the model was trained with, so the order in which items are
added does not matter, and the rows of the other items do not change.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from grasp_jax.config.model import ID_PART, MATCH_PART
from grasp_jax.core.errors import UserError
from grasp_jax.core.padding import next_power_of_two
from grasp_jax.evaluation.ranker import item_features
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.knowledge.text.columns import as_texts
from grasp_jax.models.build import build_model
from grasp_jax.models.frozen import ITEM_TABLES
from grasp_jax.models.fusion_parts import part_weights
from grasp_jax.models.id_table_params import has_id_table, id_table, put_id_table
from grasp_jax.models.methods import METHODS
from grasp_jax.models.new_items import NewTexts
from grasp_jax.serving.artifact import GROUPS, Artifact
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.serving.new_item_columns import (
    ITEM,
    TITLE,
    checked_columns,
    checked_vectors,
)

BLOCK = 1024  # items encoded, and compared with all others, at a time
# items for which a program is compiled; larger numbers are padded to the next power of two
FEWEST = 16
ADDED = "added_items"  # key of `Artifact.made_from`
SAME_TEXT = 1.0 - 1e-6  # two texts with at least this cosine count as the same


class EncodedItems(NamedTuple):
    """New items by themselves.

    Attributes:
      catalogue: of these n items alone.
      arrays: "features" [n, ...], "items" [n, E], "items_similar" [n, E] if the method reads neighbours, and "table" [n, D] if it has ID
        vectors; empty if there are no items.
    """

    catalogue: Catalogue
    arrays: Mapping[str, np.ndarray]


def add_items(
    artifact: Artifact,
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    vectors: np.ndarray | None = None,
) -> Artifact:
    """Returns a model that also knows the new items; the given model does not change.

    Args:
      artifact: the model.
      columns: "item" (ids), "title", and all other columns that the saved encoder's template reads, [n] each; None for a missing value.
        Other columns are not read. With `vectors` the ids are enough.
      vectors: [n, at least E] in place of texts, made by the program that made the vectors of the other items.

    Returns:
      The model with n more rows at the end of the catalogue (with no training interactions), of the features and, for a gated model, of the
      tables "items" and "items_similar".

    Raises:
      UserError: the model reads no texts of items, or no part of its score does; an id is known already or occurs twice, a column is
        missing or has another length, an item has no text, or the encoder raises it.
    """
    encoded = encode_items(artifact, columns, vectors)
    return _joined(artifact, encoded) if len(encoded.catalogue.ids) else artifact


def encode_items(
    artifact: Artifact,
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    vectors: np.ndarray | None = None,
) -> EncodedItems:
    """What `add_items` adds to the model; arguments and errors as there."""
    method = METHODS[artifact.method]
    if not method.needs_bank:
        raise UserError(
            f"add_items: the method {artifact.method} reads no text, so it knows nothing of a new item; use a method with text, such "
            "as grasp_plus, or train on data with these items"
        )
    _check_parts(artifact)
    if artifact.encoder is None:
        raise UserError(
            f"add_items: the knowledge bank of this {artifact.method} has no saved text encoder, because an earlier version made it; "
            "prepare the bank again with this version and train on it"
        )
    given = checked_columns(artifact, columns, vectors is not None)
    count = len(given[ITEM])
    if vectors is not None:
        vectors = checked_vectors(vectors, count, len(artifact.encoder.geometry["items"].centre))
    parts = [
        _added(artifact, given, vectors, np.arange(begin, min(begin + BLOCK, count)))
        for begin in range(0, count, BLOCK)
    ]
    names = parts[0] if parts else {}
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return EncodedItems(_catalogue(artifact, given), arrays)


def with_rows_of(artifact: Artifact, encoded: EncodedItems, rows: np.ndarray) -> Artifact:
    """The same model with other texts of items that `add_items` has added to it.

    Args:
      artifact: the model.
      encoded: the n items with the new texts.
      rows: [n] rows of these items in `artifact`.
    """

    def replaced(values: np.ndarray, new: np.ndarray) -> np.ndarray:
        changed = np.array(values)
        changed[rows] = new.astype(changed.dtype)
        return changed

    tables = {
        name: replaced(table, encoded.arrays[name]) if name in ITEM_TABLES else table
        for name, table in artifact.tables.items()
    }
    params = artifact.params
    if has_id_table(params):
        params = put_id_table(params, replaced(id_table(params), encoded.arrays["table"]))
    old, new = artifact.catalogue, encoded.catalogue
    columns = {name: replaced(old.columns[name], new.columns[name]) for name in old.columns}
    return dataclasses.replace(
        artifact,
        params=params,
        features=replaced(artifact.features, encoded.arrays["features"]),
        catalogue=old.with_texts(replaced(old.titles, new.titles), columns),
        tables=tables,
    )


def _check_parts(artifact: Artifact) -> None:
    """Refuses a model of late fusion if all parts that count give a new item a score of 0.

    Raises:
      UserError: naming the parts that count.
    """
    plus, weights = artifact.config.model.plus, part_weights(artifact.model, artifact.params)
    counted = [part for part, weight in weights.items() if weight]
    starts_from_text = METHODS[artifact.method].starts_from_text(artifact.config.model)
    # all other parts read texts
    scored = {ID_PART: starts_from_text, MATCH_PART: plus.match_new > 0}
    if counted and not any(scored.get(part, True) for part in counted):
        raise UserError(
            f"add_items: the score of this {artifact.method} is that of {' and '.join(counted)} alone (config.model.plus.parts="
            f"{plus.parts!r}), which is 0 for a new item; train a model on data with these items, or one with config.model.plus.parts=all"
        )


def trained_items(artifact: Artifact) -> int:
    """The number of items that the model was trained with; these have the first rows."""
    return len(artifact.catalogue.ids) - int(artifact.made_from.get(ADDED, 0))


def _added(
    artifact: Artifact,
    given: Mapping[str, list[Any]],
    vectors: np.ndarray | None,
    rows: np.ndarray,
) -> dict[str, np.ndarray]:
    """Arrays of some of the new items: "features", "table" (their ID vectors), "items", and "items_similar" if the
    method reads neighbours.
    """
    encoder, config = artifact.encoder, artifact.config
    assert encoder is not None
    if vectors is None:
        read = [name for name in encoder.item_columns if name in given]
        raw = encoder.item_vectors([{name: given[name][row] for name in read} for row in rows])
    else:
        raw = vectors[rows]
    items = _rounded(encoder.rows_of("items", raw), config.knowledge.dtype)
    similar = _similar(artifact, encoder, items, [given.get(config.knowledge.group_column), rows])
    texts = NewTexts(items, similar, raw, artifact.fitted, config.model)
    found = {**_made(artifact, texts), "items": items}
    return found if similar is None else {**found, "items_similar": similar}


def _rounded(rows: np.ndarray, dtype: str) -> np.ndarray:
    """Rounds vectors to the dtype of the tables of a bank."""
    rounded: np.ndarray = rows.astype(jnp.dtype(dtype)).astype(np.float32)
    return rounded


def _similar(
    artifact: Artifact,
    encoder: SavedTextEncoder,
    items: np.ndarray,
    groups: Sequence[Any],
) -> np.ndarray | None:
    """[n, E] means of the neighbours among the items that the model was trained with; None if the method reads no neighbours."""
    knowledge = artifact.config.knowledge
    table = artifact.tables["items"] if artifact.gated else artifact.fitted.get("neighbours")
    if table is None:
        return None
    table, allowed = table[: trained_items(artifact)], None
    if GROUPS in artifact.fitted:
        values, rows = groups
        own = [str(values[row] if values else None) for row in rows]
        allowed = np.array(own, object)[:, None] == artifact.fitted[GROUPS][None, : len(table)]
    if knowledge.exclude_copies:
        other = items @ np.asarray(table, np.float32).T < SAME_TEXT
        allowed = other if allowed is None else allowed & other
    return _rounded(encoder.similar(items, table, allowed), knowledge.dtype)


def _made(artifact: Artifact, texts: NewTexts) -> dict[str, np.ndarray]:
    """Arrays of the new items: "features" [n, ...], the output of the item encoder, and "table" [n, D], their ID vectors if the method has
    any.

    Raises:
      UserError: as in `Method.of_new_items`, or the encoder reads a table that `Method.of_new_items` does not return.
    """
    read, count = METHODS[artifact.method].of_new_items(texts), len(texts.items)
    size = max(FEWEST, next_power_of_two(count))
    params, found = artifact.params, {}
    if has_id_table(params):
        ids = np.zeros((size, *id_table(params).shape[1:]), np.float32)
        if read.ids is not None:
            ids[:count] = read.ids
        params, found["table"] = put_id_table(params, ids), ids[:count]
    of_bank = dict.fromkeys(ITEM_TABLES, jnp.dtype(artifact.config.model.table_dtype))
    tables = {
        name: jnp.asarray(_padded(rows, size), of_bank.get(name, jnp.float32))
        for name, rows in read.tables.items()
    }
    sizes = dataclasses.replace(artifact.sizes, num_items=size)
    model = build_model(artifact.config.model, artifact.method, artifact.backbone, sizes)
    try:
        found["features"] = np.asarray(item_features(model, params, tables))[:count]
    except KeyError as error:
        raise UserError(
            f"add_items: the method {artifact.method} reads the table {error.args[0]!r} and does not say what it is for new items; define "
            "`Method.of_new_items`"
        ) from error
    return found


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """[n, ...] -> [size, ...], padded with zeros."""
    return np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def _catalogue(artifact: Artifact, given: Mapping[str, list[Any]]) -> Catalogue:
    """The catalogue of the new items alone."""
    old, ids = artifact.catalogue, given[ITEM]
    numbers = old.has_numbers
    new_ids = np.array(
        [int(name) for name in ids] if numbers else ids, np.int64 if numbers else object
    )
    titles = given.get(TITLE) or ids
    columns = {name: as_texts(given.get(name) or [None] * len(ids)) for name in old.columns}
    named = np.array([str(title or name) for title, name in zip(titles, ids, strict=True)], object)
    return Catalogue(new_ids, named, np.zeros(len(ids), np.int64), columns)


def _joined(artifact: Artifact, encoded: EncodedItems) -> Artifact:
    """The model with the rows of the new items."""
    count = len(encoded.catalogue.ids)

    def extended(rows: np.ndarray, name: str) -> np.ndarray:
        """Rows of the model followed by those of the new items, in the dtype of the model."""
        return np.concatenate([rows, encoded.arrays[name].astype(rows.dtype)])

    tables = {
        name: extended(table, name) if name in ITEM_TABLES else table
        for name, table in artifact.tables.items()
    }
    params = artifact.params
    if has_id_table(params):
        params = put_id_table(params, extended(id_table(params), "table"))
    return dataclasses.replace(
        artifact,
        sizes=dataclasses.replace(artifact.sizes, num_items=artifact.sizes.num_items + count),
        params=params,
        features=extended(artifact.features, "features"),
        catalogue=artifact.catalogue.followed_by(encoded.catalogue),
        tables=tables,
        made_from={**artifact.made_from, ADDED: artifact.made_from.get(ADDED, 0) + count},
    )
