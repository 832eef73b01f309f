"""Adds items to a served model, removes them, and restores removed ones."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from grasp_jax.serving.answers import as_text
from grasp_jax.serving.http.placing import with_items
from grasp_jax.serving.http.requests import Refused, shown
from grasp_jax.serving.http.snapshot import Snapshot
from grasp_jax.serving.new_items import add_items, is_number

Item = dict[str, Any]


def check_new(items: Sequence[Item], snapshot: Snapshot) -> tuple[list[Item], list[int]]:
    """The items that are new, and the rows of those that were removed before and are restored with their old texts.

    Raises:
      Refused: an id is given twice, is recommended already, or has another type than the ids of the catalogue.
    """
    catalogue = snapshot.catalogue
    seen: set[str] = set()
    new, restored = [], []
    for n, item in enumerate(items):
        name = as_text(item["item"])
        if name in seen:
            raise Refused(422, f"items[{n}]: the id {shown(name)} is given twice; leave one out")
        seen.add(name)
        row = catalogue.rows.get(name)
        if row is not None and row not in snapshot.removed:
            raise Refused(
                409,
                f"items[{n}]: an item with the id {shown(name)} is recommended already; leave it out",
            )
        if row is not None:
            restored.append(row)
            continue
        if catalogue.has_numbers and not is_number(name):
            raise Refused(
                422,
                f"items[{n}]: the id {shown(name)}; ids of this catalogue are whole numbers of 64 bits",
            )
        new.append(item)
    return new, restored


def with_new_items(snapshot: Snapshot, items: Sequence[Item]) -> Snapshot:
    """The same model with new items; encodes their texts.

    Raises:
      UserError: the method of the model reads no text, or the texts cannot be encoded.
    """
    encoder = snapshot.artifact.encoder
    if encoder is not None and not encoder.encoder.reads_text:
        raise Refused(
            422,
            "items: the vectors of this model's items came from a file, so a text cannot be encoded; add the items in Python by "
            "model.add_items(frame, vectors=...), save the model, and POST /reload",
        )
    return with_items(snapshot, add_items(snapshot.artifact, columns_of(items, snapshot)))


def columns_of(items: Sequence[Item], snapshot: Snapshot) -> dict[str, np.ndarray]:
    """Columns of a table of items, of dtype object, None for a missing value; ids in the type of the catalogue, if they can have it."""
    names = dict.fromkeys(name for item in items for name in item)
    columns = {name: _column([item.get(name) for item in items]) for name in names}
    ids = [as_text(item["item"]) for item in items]
    numbers = snapshot.catalogue.has_numbers
    columns["item"] = _column([int(name) if numbers and is_number(name) else name for name in ids])
    return columns


def with_removed(snapshot: Snapshot, names: Collection[str]) -> Snapshot:
    """The same model without the items of these ids; unknown ids are ignored."""
    rows = {snapshot.catalogue.rows[name] for name in names if name in snapshot.catalogue.rows}
    return dataclasses.replace(snapshot, removed=snapshot.removed | rows) if rows else snapshot


def _column(values: Sequence[object]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column
