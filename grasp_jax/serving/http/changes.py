"""Adds items to a served model, corrects their texts, removes them, and restores removed ones."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from grasp_jax.knowledge.text.columns import as_texts
from grasp_jax.serving.answers import as_text
from grasp_jax.serving.http.placing import with_items, with_rows
from grasp_jax.serving.http.requests import Refused, shown
from grasp_jax.serving.http.snapshot import ServingSnapshot
from grasp_jax.serving.new_item_columns import ignored_columns, is_number
from grasp_jax.serving.new_items import add_items, encode_items, with_rows_of

Item = dict[str, Any]


class Changes(NamedTuple):
    """What a `PUT /items` changes.

    Attributes:
      new: items with ids that the model does not know.
      corrected: items that an earlier `PUT` has added with another text; their texts are replaced.
      restored: rows of removed items that are recommended again with the texts that they have: items of the model itself, and items that
        an earlier `PUT` has added with the same text.
      titles: sent titles, by row, of restored items that the items table of the model lacks, so that the model has only their ids.
      old_text: ids of those of the model itself for which the request has a text that is not, or may not be, the one that they have.
    """

    new: list[Item]
    corrected: list[Item]
    restored: list[int]
    titles: dict[int, str]
    old_text: list[Any]


def check_new(
    items: Sequence[Item], snapshot: ServingSnapshot, added: Mapping[str, Item] | None = None
) -> Changes:
    """What the items of a request change.

    Args:
      items: the items.
      snapshot: the model that is served.
      added: items that earlier requests added, by id.

    Raises:
      Refused: an id is given twice, is that of an item of the model that is recommended already, or has another type than the ids of the
        catalogue.
    """
    catalogue, first_added = snapshot.catalogue, len(snapshot.base.catalogue.ids)
    seen: set[str] = set()
    changes = Changes([], [], [], {}, [])
    for n, item in enumerate(items):
        name = as_text(item["item"])
        if name in seen:
            raise Refused(422, f"items[{n}]: the id {shown(name)} is given twice; leave one out")
        seen.add(name)
        row = catalogue.rows.get(name)
        if row is None:
            if catalogue.has_numbers and not is_number(name):
                raise Refused(
                    422,
                    f"items[{n}]: the id {shown(name)}; ids of this catalogue are whole numbers of 64 bits",
                )
            changes.new.append(item)
        elif row >= first_added:
            if not _same_text(item, (added or {}).get(name)):
                changes.corrected.append(item)
            elif row in snapshot.removed:
                changes.restored.append(row)
        elif row in snapshot.removed:
            changes.restored.append(row)
            if not catalogue.recommended[row]:
                changes.titles[row] = item["title"]
            if not _is_text_of_row(item, row, snapshot):
                changes.old_text.append(item["item"])
        else:
            raise Refused(
                409,
                f"items[{n}]: an item with the id {shown(name)} is recommended already, and its text is that of the model; leave it out; "
                "to change the text, train again and POST /reload",
            )
    return changes


def _same_text(item: Item, earlier: Item | None) -> bool:
    """Whether two items have the same text, so that it need not be encoded again."""
    return earlier is not None and item | {"item": earlier["item"]} == earlier


def _is_text_of_row(item: Item, row: int, snapshot: ServingSnapshot) -> bool:
    """Whether the model was loaded with all columns of an item that it reads, with the same values."""
    catalogue = snapshot.base.catalogue
    if item["title"] != catalogue.titles[row]:
        return False
    read = set(item) - {"item", "title", *ignored_columns(snapshot.artifact, set(item))}
    return read <= set(catalogue.columns) and all(
        as_texts([item[name]])[0] == catalogue.columns[name][row] for name in read
    )


def with_changes(snapshot: ServingSnapshot, changes: Changes) -> ServingSnapshot:
    """The same model after a `PUT /items`; encodes the texts of new and corrected items.

    Raises:
      UserError: the method of the model reads no text, or the texts cannot be encoded.
    """
    rows = [snapshot.catalogue.rows[as_text(item["item"])] for item in changes.corrected]
    changed = with_titles(snapshot, changes.titles)
    changed = dataclasses.replace(changed, removed=snapshot.removed - {*changes.restored, *rows})
    if changes.corrected:
        changed = with_corrected(changed, changes.corrected, np.array(rows))
    return with_new_items(changed, changes.new) if changes.new else changed


def with_titles(snapshot: ServingSnapshot, title_of: Mapping[int, str]) -> ServingSnapshot:
    """The same model with other titles of items in answers and in the search, by row; its vectors stay as they are."""
    if not title_of:
        return snapshot
    catalogue = snapshot.catalogue
    titles = catalogue.titles.copy()
    titles[list(title_of)] = list(title_of.values())
    catalogue = catalogue.with_texts(titles, catalogue.columns)
    return dataclasses.replace(
        snapshot, artifact=dataclasses.replace(snapshot.artifact, catalogue=catalogue)
    )


def with_corrected(
    snapshot: ServingSnapshot, items: Sequence[Item], rows: np.ndarray
) -> ServingSnapshot:
    """The same model with other texts of items that were added to it, in rows [n]."""
    encoded = encode_items(snapshot.base, columns_of(items, snapshot))
    return with_rows(snapshot, with_rows_of(snapshot.artifact, encoded, rows), rows)


def with_new_items(snapshot: ServingSnapshot, items: Sequence[Item]) -> ServingSnapshot:
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


def columns_of(items: Sequence[Item], snapshot: ServingSnapshot) -> dict[str, np.ndarray]:
    """Columns of a table of items, of dtype object, None for a missing value; ids in the type of the catalogue, if they can have it."""
    names = dict.fromkeys(name for item in items for name in item)
    columns = {name: _column([item.get(name) for item in items]) for name in names}
    ids = [as_text(item["item"]) for item in items]
    numbers = snapshot.catalogue.has_numbers
    columns["item"] = _column([int(name) if numbers and is_number(name) else name for name in ids])
    return columns


def with_removed(
    snapshot: ServingSnapshot, names: Collection[str], restored: Mapping[str, str]
) -> ServingSnapshot:
    """The same model without the items of these ids, and with those that were brought back; unknown ids are ignored.

    Args:
      snapshot: the model.
      names: ids of removed items.
      restored: titles by id of items that were brought back; shown for those that the items table of this model lacks too.
    """
    rows_of = snapshot.catalogue.rows
    removed = {rows_of[name] for name in names if name in rows_of}
    back = {rows_of[name] for name in restored if name in rows_of}
    if not removed and not back:
        return snapshot
    recommended = snapshot.catalogue.recommended
    titles = {
        rows_of[name]: title
        for name, title in restored.items()
        if name in rows_of and not recommended[rows_of[name]]
    }
    changed = with_titles(snapshot, titles)
    return dataclasses.replace(changed, removed=(snapshot.removed - back) | removed)


def _column(values: Sequence[object]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column
