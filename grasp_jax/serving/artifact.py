"""A saved model: what answering takes, and neither optimiser nor training data.

model.json     sealed: method, backbone, config, sizes, what it was made from, checksums of the rest
params.npz     parameters of one replica, by their path in the tree
features.npy   what the item encoder has made of every item
items.npz      ids, titles and training counts of the items
tables/        frozen knowledge, of models with gates alone
fitted/        what was fitted to the items, by which new ones are read, of models with text
encoder/       templates and fitted text encoder, of models with text
"""

import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import grasp_jax
from grasp_jax.config import Config, as_changes, to_json
from grasp_jax.errors import UserError
from grasp_jax.files import (
    checksums,
    first_damaged,
    read_array,
    read_sealed,
    write_array,
    write_arrays,
    write_sealed,
)
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.models.build import build_model
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.sequence_model import SequenceModel

MODEL_FILE = "model.json"
ENCODER, FITTED = "encoder", "fitted"
FORMAT_VERSION = 1
MEND = "copy the whole folder again, or save the model again"


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The items of a model, in row order.

    Attributes:
      ids: [V] int64 or str.
      titles: [V] str.
      counts: [V] int64 training interactions.
      columns: other columns from which a user's text is written, by name.
    """

    ids: np.ndarray
    titles: np.ndarray
    counts: np.ndarray
    columns: Mapping[str, np.ndarray]

    @functools.cached_property
    def rows(self) -> dict[str, int]:
        """Row of each id, as text."""
        return {str(name): row for row, name in enumerate(self.ids.tolist())}

    @functools.cached_property
    def by_count(self) -> np.ndarray:
        """[V] int32 rows, those with the most training interactions first."""
        return np.argsort(-self.counts, kind="stable").astype(np.int32)

    def followed_by(self, more: "Catalogue") -> "Catalogue":
        """These items, followed by others with other ids. Properties that are cached for these items are not computed again."""
        columns = {
            name: np.concatenate([values, more.columns[name]])
            for name, values in self.columns.items()
        }
        both = Catalogue(
            np.concatenate([self.ids, more.ids]),
            np.concatenate([self.titles, more.titles]),
            np.concatenate([self.counts, more.counts.astype(self.counts.dtype)]),
            columns,
        )
        if "rows" in vars(self):  # millions of ids take seconds
            first = len(self.ids)
            vars(both)["rows"] = self.rows | {name: first + row for name, row in more.rows.items()}
        if "folded_titles" in vars(self):
            vars(both)["folded_titles"] = self.folded_titles + more.folded_titles
        return both

    @functools.cached_property
    def folded_titles(self) -> list[str]:
        """[V] case-folded titles, for searching."""
        return [title.casefold() for title in self.titles.tolist()]


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A trained model of one method on one backbone, on the host.

    Attributes:
      method, backbone: names.
      config: the config with the changes that the method makes.
      sizes: the sizes with which the model was built.
      params: nested dictionaries of arrays.
      features: [V, ...] `SequenceModel.item_features`.
      catalogue: the items.
      tables: only of a gated model, by name: "items" and "items_similar" [V, E], and "users" [N, E], among which the neighbours of new
        people are searched.
      encoder: encodes new texts; None for models without text, or if their knowledge bank has no encoder.
      made_from: what the model was made from (`provenance`); "added_items" is the number of items that were added later.
      fitted: arrays that `new_items` needs: those of `Method.fitted` by name; "neighbours" [V, E], text vectors of the items, if the method
        reads neighbours and has no gates; "groups" [V] str, if neighbours must be in the item's own group.
    """

    method: str
    backbone: str
    config: Config
    sizes: ModelSizes
    params: Mapping[str, Any]
    features: np.ndarray
    catalogue: Catalogue
    tables: Mapping[str, np.ndarray]
    encoder: SavedTextEncoder | None
    made_from: Mapping[str, Any]
    fitted: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def gated(self) -> bool:
        """Whether an item's vector depends on the user."""
        return METHODS[self.method].gated(self.config.model)

    @functools.cached_property
    def model(self) -> SequenceModel:
        """Encoder and backbone."""
        return build_model(self.config.model, self.method, self.backbone, self.sizes)


def save_artifact(artifact: Artifact, folder: pathlib.Path) -> None:
    """Writes a saved model; `MODEL_FILE` is written last, so a folder that has it is complete.

    Args:
      artifact: what to save.
      folder: a new or empty folder, or an earlier saved model, which is replaced.

    Raises:
      UserError: the folder contains something else.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MODEL_FILE).is_file():
        raise UserError(
            f"{folder}: holds other files and no saved model; name a new folder, or an empty one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).unlink(missing_ok=True)
    for left in ("tables", FITTED, ENCODER):
        shutil.rmtree(folder / left, ignore_errors=True)
    flat = {
        "/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(artifact.params).items()
    }
    write_arrays(folder / "params.npz", **flat)
    write_array(folder / "features.npy", artifact.features)
    items = artifact.catalogue
    columns = {f"column_{name}": values for name, values in items.columns.items()}
    write_arrays(
        folder / "items.npz", ids=items.ids, titles=items.titles, counts=items.counts, **columns
    )
    for part, arrays in (("tables", artifact.tables), (FITTED, artifact.fitted)):
        for name, table in arrays.items():
            write_array(folder / part / f"{name}.npy", np.asarray(table))
    if artifact.encoder is not None:
        artifact.encoder.save(folder / ENCODER)
    files = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    content = {
        "format": FORMAT_VERSION,
        "version": grasp_jax.__version__,
        "method": artifact.method,
        "backbone": artifact.backbone,
        "config": to_json(artifact.config),
        "sizes": dataclasses.asdict(artifact.sizes),
        "made_from": dict(artifact.made_from),
        "files": checksums(folder, files),
    }
    write_sealed(folder / MODEL_FILE, content)


def load_artifact(folder: pathlib.Path) -> Artifact:
    """Opens a saved model; large arrays are memory-mapped.

    Raises:
      UserError: there is no saved model, a file has changed since it was written, or a later version wrote it.
    """
    content = read_sealed(folder / MODEL_FILE, MEND)
    if content.get("format") != FORMAT_VERSION:
        raise UserError(
            f"{folder / MODEL_FILE}: format {content.get('format')}; this version reads {FORMAT_VERSION}; {MEND}"
        )
    if content["method"] not in METHODS:
        known = ", ".join(METHODS)
        raise UserError(
            f"{folder / MODEL_FILE}: method {content['method']!r}; known are {known}: register it before loading"
        )
    if damage := first_damaged(folder, content["files"]):
        raise UserError(f"{damage}, by the checksum in {folder / MODEL_FILE}; {MEND}")
    with np.load(folder / "params.npz", allow_pickle=False) as stored:
        params = unflatten_dict({tuple(name.split("/")): stored[name] for name in stored.files})
    with np.load(folder / "items.npz", allow_pickle=False) as stored:
        columns = {
            name.removeprefix("column_"): stored[name]
            for name in stored.files
            if name.startswith("column_")
        }
        catalogue = Catalogue(stored["ids"], stored["titles"], stored["counts"], columns)
    return Artifact(
        method=content["method"],
        backbone=content["backbone"],
        config=Config.from_dict(as_changes(content["config"])),
        sizes=ModelSizes(**content["sizes"]),
        params=params,
        features=read_array(folder / "features.npy", MEND, "r"),
        catalogue=catalogue,
        tables=_tables(folder / "tables"),
        encoder=SavedTextEncoder.load(folder / ENCODER) if (folder / ENCODER).is_dir() else None,
        made_from=content["made_from"],
        fitted=_tables(folder / FITTED),
    )


def is_saved_model(folder: pathlib.Path) -> bool:
    """Whether a folder is a saved model."""
    return (folder / MODEL_FILE).is_file()


def on_host(tree: Any) -> Any:
    """A tree of NumPy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(tree))


def _tables(folder: pathlib.Path) -> dict[str, np.ndarray]:
    return {path.stem: _table(path) for path in sorted(folder.glob("*.npy"))}


def _table(path: pathlib.Path) -> np.ndarray:
    table = read_array(path, MEND, "r")
    return (
        table.view(ml_dtypes.bfloat16) if table.dtype == np.dtype("V2") else table
    )  # NumPy's format has no name for it
