"""A saved model: everything that recommendations need, without optimiser state and training data.

model.json         sealed: method, backbone, config, sizes, what it was made from, the checksums of its files, and their folder:
files-0a1b2c3d/
    params.npz     parameters of one replica, by their path in the tree
    features.npy   what the item encoder has made of every item
    items.npz      ids, titles and training counts of the items, and rows of those that are not recommended
    tables/        frozen knowledge, of models with gates alone
    fitted/        what was fitted to the items and is needed to read new ones, of models with text
    encoder/       templates and fitted text encoder, of models with text

A later save writes another folder of files, replaces model.json in one step, and then removes the earlier files: whenever a process is
killed or a disk is full, the earlier model or the later one can be loaded. Format 1 has the files next to model.json; a save over such a
model notes in model.json that they are to be removed, until they are.
"""

import dataclasses
import functools
import json
import pathlib
import re
import shlex
import shutil
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import grasp_jax
from grasp_jax.config import Config, as_changes, to_json
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import (
    checksums,
    first_damaged,
    open_table,
    read_array,
    read_sealed,
    write_array,
    write_arrays,
    write_sealed,
)
from grasp_jax.core.locks import only_one
from grasp_jax.core.log import logger
from grasp_jax.core.paths import SAVED_MODEL, other_files
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.build import build_model
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.registration import code_of
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.provenance import difference
from grasp_jax.serving.catalogue import Catalogue

TABLES, FITTED, ENCODER = "tables", "fitted", "encoder"
GROUPS = "groups"  # in `Artifact.fitted`
FORMAT_VERSION = 2
READABLE = (1, FORMAT_VERSION)  # format 1 has its texts in arrays of fixed width
REQUIRED_FILES = ("params.npz", "features.npy", "items.npz")  # the files that every model has
FORMAT_1_NAMES = (*REQUIRED_FILES, TABLES, FITTED, ENCODER)
# in `SAVED_MODEL`: 1 until the files of a model of format 1 are removed
REPLACES = "replaces_format"
REMEDY = "copy the whole folder again, or save the model again"
LOCK = ".saving"
# names of what `save_artifact` makes in a folder, next to `SAVED_MODEL`
_WRITTEN_NAME = re.compile(
    rf"files-[0-9a-f]{{8}}|{re.escape(LOCK)}(\..*)?|\.{re.escape(SAVED_MODEL)}\..*\.partial"
)


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
        reads neighbours and has no gates; `GROUPS` [V] str, as objects, if neighbours must be in the item's own group.
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

    @property
    def trained_on_all(self) -> bool:
        """Whether it was trained on all interactions, as a refit is, and none were held back for validation and test."""
        return self.config.data.split == "none"

    @functools.cached_property
    def model(self) -> SequenceModel:
        """Encoder and backbone."""
        return build_model(self.config.model, self.method, self.backbone, self.sizes)


def save_command(workdir: pathlib.Path, config_file: str = "") -> tuple[str, str]:
    """The shell command that saves the model of a workdir, and the folder of the saved model.

    Args:
      workdir: the workdir.
      config_file: what `open_config` takes, where running this file registers the method; empty: the method is of this package.
    """
    saved = f"models/{workdir.resolve().name}"
    register = f"gj.open_config({json.dumps(config_file)}); " if config_file else ""
    line = f"import grasp_jax as gj; {register}gj.Recommender.load({json.dumps(str(workdir))}).save({json.dumps(saved)})"
    return f"python -c {shlex.quote(line)}", shlex.quote(saved)


def save_artifact(artifact: Artifact, folder: pathlib.Path) -> None:
    """Writes a saved model. Until all is written, an earlier model in the folder can be loaded.

    Args:
      artifact: what to save.
      folder: a new or empty folder, or an earlier saved model, which is replaced.

    Raises:
      UserError: the folder contains something else, or another process saves a model there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder / LOCK, "it saves a model; wait for it, or name another folder"):
        earlier = [path for path in folder.iterdir() if _WRITTEN_NAME.fullmatch(path.name)]
        of_format_1 = []
        if (folder / SAVED_MODEL).is_file():
            if _has_files_of_format_1(folder):
                of_format_1 = [folder / name for name in FORMAT_1_NAMES]
        elif len(earlier) < len(list(folder.iterdir())):
            raise other_files(folder, "saved model")
        files = folder / f"files-{uuid.uuid4().hex[:8]}"
        try:
            _write_files(artifact, files)
        except BaseException:
            shutil.rmtree(files, ignore_errors=True)  # a full disk must not stay full
            raise
        content = {
            "format": FORMAT_VERSION,
            "version": grasp_jax.__version__,
            "method": artifact.method,
            "backbone": artifact.backbone,
            "config": to_json(artifact.config),
            "sizes": dataclasses.asdict(artifact.sizes),
            "made_from": dict(artifact.made_from),
            "folder": files.name,
            "files": checksums(
                files,
                (path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()),
            ),
        }
        # if this process is killed now, the next save must find the texts of users in the files of format 1
        write_sealed(folder / SAVED_MODEL, content | ({REPLACES: 1} if of_format_1 else {}))
        for path in earlier + of_format_1:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith(LOCK):
                path.unlink(missing_ok=True)
        if of_format_1 and not any(path.exists() for path in of_format_1):
            # from now on files of these names are the user's
            write_sealed(folder / SAVED_MODEL, content)


def _has_files_of_format_1(folder: pathlib.Path) -> bool:
    """Whether files of a model of format 1 are next to `SAVED_MODEL`: it says so, or it is damaged and has all `REQUIRED_FILES`."""
    try:
        content = read_sealed(folder / SAVED_MODEL, REMEDY)
    except UserError:
        return all((folder / name).is_file() for name in REQUIRED_FILES)
    return 1 in (content.get("format"), content.get(REPLACES))


def _write_files(artifact: Artifact, files: pathlib.Path) -> None:
    """Writes everything but `SAVED_MODEL`."""
    flat = {
        "/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(artifact.params).items()
    }
    write_arrays(files / "params.npz", **flat)
    write_array(files / "features.npy", artifact.features)
    items = artifact.catalogue
    columns = {f"column_{name}": values for name, values in items.columns.items()}
    arrays = {"ids": items.ids, "titles": items.titles, "counts": items.counts, **columns}
    if len(items.unlisted):
        arrays["unlisted"] = items.unlisted
    write_arrays(files / "items.npz", **{name: _stored(array) for name, array in arrays.items()})
    for subfolder, arrays_by_name in ((TABLES, artifact.tables), (FITTED, artifact.fitted)):
        for name, table in arrays_by_name.items():
            write_array(files / subfolder / f"{name}.npy", _stored(np.asarray(table)))
    if artifact.encoder is not None:
        artifact.encoder.save(files / ENCODER)


def load_artifact(folder: pathlib.Path) -> Artifact:
    """Opens a saved model; large arrays are memory-mapped.

    Raises:
      UserError: there is no saved model, a file has changed since it was written, or a later version wrote it.
    """
    while True:
        content = read_sealed(folder / SAVED_MODEL, REMEDY)
        try:
            return _loaded(folder, content)
        except (UserError, OSError):
            if read_sealed(folder / SAVED_MODEL, REMEDY) == content:
                raise
            # otherwise another process has replaced the model meanwhile: read the new one


def _loaded(folder: pathlib.Path, content: Mapping[str, Any]) -> Artifact:
    """The model that `SAVED_MODEL` describes; errors as in `load_artifact`."""
    if content.get("format") not in READABLE:
        raise UserError(
            f"{folder / SAVED_MODEL}: format {content.get('format')}; this version of grasp_jax reads formats 1 to {FORMAT_VERSION}; "
            "load it with the version that saved it, or save the model again with this one"
        )
    if content["method"] not in METHODS:
        known = ", ".join(METHODS)
        raise UserError(
            f"{folder / SAVED_MODEL}: method {content['method']!r}; known are {known}: register it before loading "
            "(grasp-serve: --import=MODULE)"
        )
    if content["backbone"] not in BACKBONES:
        raise UserError(
            f"{folder / SAVED_MODEL}: backbone {content['backbone']!r}; known are {', '.join(BACKBONES)}: register it before "
            "loading (grasp-serve: --import=MODULE)"
        )
    code = {"code": code_of([content["method"], content["backbone"]])}
    if reason := difference({"code": content["made_from"].get("code", {})}, code):
        logger.warning(
            f"warning: {folder / SAVED_MODEL}: {reason}, and the model is used with the present code"
        )
    files = folder / content.get("folder", "")
    if damage := first_damaged(files, content["files"]):
        raise UserError(f"{damage}, by the checksum in {folder / SAVED_MODEL}; {REMEDY}")
    with np.load(files / "params.npz", allow_pickle=False) as stored:
        params = unflatten_dict({tuple(name.split("/")): stored[name] for name in stored.files})
    with np.load(files / "items.npz", allow_pickle=False) as stored:
        arrays = {name: _as_stored(stored[name]) for name in stored.files}
    columns = {
        name.removeprefix("column_"): values
        for name, values in arrays.items()
        if name.startswith("column_")
    }
    fitted = _tables(files, FITTED, content["files"])
    if GROUPS in fitted:
        fitted[GROUPS] = _as_stored(fitted[GROUPS])
    has_encoder = any(name.startswith(f"{ENCODER}/") for name in content["files"])
    return Artifact(
        method=content["method"],
        backbone=content["backbone"],
        config=Config().with_stored_fields(as_changes(content["config"])),
        sizes=ModelSizes(**content["sizes"]),
        params=params,
        features=read_array(files / "features.npy", REMEDY, "r"),
        catalogue=Catalogue(
            arrays["ids"],
            arrays["titles"],
            arrays["counts"],
            columns,
            arrays.get("unlisted", np.empty(0, np.int32)),
        ),
        tables=_tables(files, TABLES, content["files"]),
        encoder=SavedTextEncoder.load(files / ENCODER) if has_encoder else None,
        made_from=content["made_from"],
        fitted=fitted,
    )


def no_model(folder: pathlib.Path) -> UserError:
    """The error about a folder from which no model can be opened."""
    if not folder.exists():
        return UserError(
            f"{folder}: does not exist, so it is neither a saved model nor the workdir of a run"
        )
    return UserError(
        f"{folder}: neither a saved model (model.json) nor the workdir of a run (config.json); name one of them"
    )


def is_saved_model(folder: pathlib.Path) -> bool:
    """Whether a folder is a saved model."""
    return (folder / SAVED_MODEL).is_file()


def on_host(tree: Any) -> Any:
    """A tree of NumPy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(tree))


def _tables(files: pathlib.Path, part: str, listed: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of `tables/` or `fitted/`. `SAVED_MODEL` says which there are: in the folder, those that a later save has just removed are
    missing without an error.
    """
    paths = (files / name for name in sorted(listed) if name.startswith(f"{part}/"))
    return {path.stem: open_table(path, REMEDY) for path in paths}


def _stored(values: np.ndarray) -> np.ndarray:
    """An array as it is stored: texts as the bytes of a JSON list, so that each takes only as many bytes as it has."""
    if values.dtype != object:
        return values
    return np.frombuffer(json.dumps(values.tolist()).encode(), np.uint8)


def _as_stored(values: np.ndarray) -> np.ndarray:
    """What `_stored` was given; an array of format 1 as it is."""
    if values.dtype != np.uint8:
        return values
    return np.array(json.loads(values.tobytes()), object)
