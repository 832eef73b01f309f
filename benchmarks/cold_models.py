"""Models with new items: with the vectors that `add_items` gives these items, and with other vectors."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from benchmarks.cold_case import ITEM, Case, K, Purchases
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.split import make_split
from grasp_jax.knowledge.encoders.geometry import unit_rows
from grasp_jax.serving.answers import ItemChoice, People, answer, rows_of_histories
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.serving.histories import audience_of_histories, place
from grasp_jax.serving.new_items import add_items, trained_items

PEOPLE = 4096  # people who are scored at the same time
NEAREST = 10  # number of trained items whose mean ID vector replaces that of a new item


def shown(
    artifact: Artifact, purchases: Purchases, candidates: Sequence[str] | None = None
) -> list[np.ndarray]:
    """For each purchase, ids of the ten best items without those that the person has had, as from `Recommender.recommend`.

    Args:
      artifact: the model.
      purchases: for which it recommends.
      candidates: ids to choose from; None: the whole catalogue.
    """
    on_device, ids = place(artifact), artifact.catalogue.ids.astype(str)
    choice = ItemChoice(K, candidates=candidates)
    histories, found = purchases.histories, []
    for begin in range(0, len(histories), PEOPLE):
        block = histories[begin : begin + PEOPLE]
        rows = rows_of_histories(artifact.catalogue, block, "popular")
        having = [own for own in rows if len(own)]
        audience = audience_of_histories(artifact, having, on_device)
        known = np.array([len(own) > 0 for own in rows])
        people = People(np.arange(len(rows)), known, audience, np.arange(len(having)))
        found += [ids[own.items] for own in answer(artifact, people, choice)]
    return found


def variants(
    method: str, model: Artifact, case: Case, text: np.ndarray, vectors: np.ndarray | None
) -> dict[str, Artifact]:
    """Versions of a model that was trained without the new items, by the name of their row.

    Args:
      method: of the model.
      model: trained on `case.known`.
      case: with the new items.
      text: [V + n, E] unit text vectors of the trained items and the new ones.
      vectors: [n, E] of the new items, if no encoder reads texts.
    """
    if method == "popularity":
        counts = case.counts[:, None].astype(np.float32)
        counted = _unknown(model, case, counts[len(model.features) :])
        return {
            "popularity in training": model,
            "popularity until the test": dataclasses.replace(counted, features=counts),
        }
    if method == "sasrec_ce":
        near = _of_nearest(text, np.asarray(model.features))
        return {
            "sasrec_ce": model,
            "sasrec_ce, ID vectors of the nearest texts": _unknown(model, case, near),
        }
    added = add_items(model, case.new, vectors)
    if method != "grasp_plus":
        return {method: added}
    ids = np.asarray(model.features[:, : _id_width(model)])
    rare = ids[model.catalogue.counts <= np.quantile(model.catalogue.counts, 0.25)]
    return {
        "grasp_plus": added,
        "grasp_plus, mean of all ID vectors": _with_ids(added, ids.mean(axis=0)),
        "grasp_plus, mean of rare ID vectors": _with_ids(added, rare.mean(axis=0)),
        "grasp_plus, ID vectors of the nearest texts": _with_ids(added, _of_nearest(text, ids)),
    }


def in_catalogue(method: str, model: Artifact, case: Case) -> dict[str, Artifact]:
    """Versions of a model that had the new items in training, as with `data.split=time`: unchanged, and with their ID vectors set to 0."""
    rows = np.array([model.catalogue.rows[str(item)] for item in case.new[ITEM]])
    features = np.array(model.features)
    features[rows, : _id_width(model)] = 0.0
    named = f"{method}, new items in the catalogue of training"
    without = dataclasses.replace(model, features=features)
    return {named: model, f"{named}, their ID vectors 0": without}


def vector_files(shop: Dataset, vectors: np.ndarray, folder: pathlib.Path) -> dict[str, str]:
    """Writes files of item vectors and user vectors; returns the config fields that name them.

    A user's vector is the mean over the items bought in training; vectors made from all purchases would contain test targets.

    Args:
      shop: the data of training.
      vectors: [V, E] of its items.
      folder: for the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, unit = shop.log, unit_rows(vectors.astype(np.float32))
    ends = make_split(shop.data, log).train.end
    users = np.zeros((log.num_users, vectors.shape[1]), np.float32)
    for user, (begin, end) in enumerate(zip(log.offsets[:-1], ends, strict=True)):
        if end > begin:
            users[user] = unit[log.items[begin:end]].mean(axis=0)
    fields = {"knowledge.encoder": "file"}
    for kind, own in (("item", vectors), ("user", users)):
        np.save(folder / f"{kind}s.npy", own.astype(np.float32))
        fields[f"knowledge.{kind}_file"] = str(folder / f"{kind}s.npy")
    return fields


def _id_width(model: Artifact) -> int:
    """How many of an item's features, from the first on, are its ID vectors: those of all ID towers, or of a model with IDs only."""
    towers = model.config.model.plus.id_towers if model.method == "grasp_plus" else 1
    return towers * model.config.model.features


def _with_ids(added: Artifact, ids: np.ndarray) -> Artifact:
    """The model with other ID vectors of its new items: [n, D], or one [D] for all."""
    features = np.array(added.features)
    features[trained_items(added) :, : _id_width(added)] = ids
    return dataclasses.replace(added, features=features)


def _unknown(model: Artifact, case: Case, features: np.ndarray) -> Artifact:
    """A model that reads no text, with given features [n, ...] of the new items, which it cannot compute itself."""
    old = model.catalogue
    catalogue = Catalogue(
        np.concatenate([old.ids, np.array(case.new[ITEM])]),
        np.concatenate([old.titles, np.array(case.new["title"]).astype(str)]),
        np.concatenate([old.counts, np.zeros(case.num_new, old.counts.dtype)]),
        {},
    )
    rows = np.concatenate([model.features, features.astype(model.features.dtype)])
    return dataclasses.replace(model, catalogue=catalogue, features=rows)


def _of_nearest(text: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[n, D] means of the ID vectors of the trained items with the nearest texts; [V + n, E] unit texts, [V, D] ID vectors."""
    nearest = np.argsort(-(text[len(ids) :] @ text[: len(ids)].T), axis=1)[:, :NEAREST]
    mean: np.ndarray = ids[nearest].mean(axis=1)
    return mean
