"""An exported model: two programs, their arrays and the items, which need only jax, numpy and flatbuffers.

states.stablehlo        histories -> states, `programs.states_of`
top_k.stablehlo         states -> the best items, `programs.top_k_of`
parameters.safetensors  by their path in the tree
items.safetensors       `ServedModel.items`: the item vectors of a model without gates
items.parquet           row, id, title and training interactions of each item, and whether it is recommended
manifest.json           sealed: what this is, how to call the programs, checksums of the rest; the last to be moved into the folder

An export is written and compared in the subfolder `.unfinished`, and then moved: until then an earlier export stays as it is. If the
process is killed between two moves, the next export or `read_export` makes the rest (`serving.replaced_files`).
"""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import safetensors.numpy
from jax import export

import grasp_jax
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import (
    checksums,
    first_damaged,
    read_sealed,
    remove_left_behind,
    write_sealed,
)
from grasp_jax.core.locks import only_one
from grasp_jax.core.paths import other_files
from grasp_jax.serving.answers import Answer, ItemChoice, People, answer
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.serving.histories import audience_of_histories, place
from grasp_jax.serving.programs import (
    PLATFORMS,
    PRECISION,
    QUERIES,
    VECTORS,
    Arrays,
    Programs,
    ServedModel,
    programs,
    served_model,
    without_kernels,
)
from grasp_jax.serving.replaced_files import (
    UNFINISHED,
    finish_replacing,
    is_complete,
    replacing_together,
)

MANIFEST = "manifest.json"
STATES, TOP_K = "states.stablehlo", "top_k.stablehlo"
PARAMETERS, ITEMS, TABLE = "parameters.safetensors", "items.safetensors", "items.parquet"
FILES = (STATES, TOP_K, PARAMETERS, ITEMS, TABLE)
LOCK, BUSY = ".exporting", "it exports a model; wait for it, or name another folder"
KIND, FORMAT_VERSION = "grasp_jax export", 1
REMEDY = "copy the whole folder again, or export the model again"
TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}  # of the largest score, by `config.model.dtype`
HISTORY = "int32 item rows, oldest first from the left; entries beyond the length of a history are not read"
ARGUMENTS = {  # of the programs, by whether the model is gated
    (STATES, False): ("parameters", "vectors", "histories", "lengths"),
    (STATES, True): ("parameters", "items", "histories", "lengths", *QUERIES),
    (TOP_K, False): ("states", "vectors", "seen"),
    (TOP_K, True): ("parameters", "states", "items", "seen"),
}


class ExportedModel(NamedTuple):
    """An exported model, as `read_export` returns it.

    Attributes:
      manifest: content of `MANIFEST`.
      states, top_k: the programs.
      parameters, items: arrays by name, the arguments of the programs.
    """

    manifest: Mapping[str, Any]
    states: export.Exported
    top_k: export.Exported
    parameters: Arrays
    items: Arrays

    @property
    def gated(self) -> bool:
        """Whether the programs read the text vectors of people."""
        return VECTORS not in self.items

    def top_items(
        self, histories: Sequence[np.ndarray], queries: Sequence[np.ndarray] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """[B, k] scores and item rows for histories of item rows, without the items of the histories. A gated model also needs
        `query_vectors`.
        """
        newest = [rows[-self.manifest["sizes"]["max_history"] :] for rows in histories]
        lengths = np.array([len(rows) for rows in newest], np.int32)
        items = self.items if self.gated else self.items[VECTORS]
        state = self.states.call(self.parameters, items, padded(newest, 0), lengths, *queries)
        first = (self.parameters, state) if self.gated else (state,)
        scores, rows = jax.device_get(self.top_k.call(*first, items, padded(histories, -1)))
        return scores, rows


def padded(lists: Sequence[np.ndarray], value: int) -> np.ndarray:
    """[B, longest] int32: lists of numbers, padded at the right with a value."""
    array = np.full((len(lists), max(map(len, lists))), value, np.int32)
    for row, numbers in zip(array, lists, strict=True):
        row[: len(numbers)] = numbers
    return array


def export_artifact(artifact: Artifact, folder: pathlib.Path, k: int = 100) -> float:
    """Writes the files, reads them back and compares their scores with those of the package. If this fails, an earlier
    export stays.

    Args:
      artifact: the model.
      folder: a new or empty folder, or the folder of an earlier export, which is replaced.
      k: number of items for each person that the program returns; all items if the catalogue has fewer.

    Returns:
      The largest difference between two scores, as a share of the person's largest score.

    Raises:
      UserError: `k` is not allowed, the folder contains something else, the model cannot be exported, a package is missing, the scores
        differ, or another process exports into the folder.
    """
    k = min(ItemChoice(k).k, len(artifact.catalogue.ids))
    _check_free(folder)
    is_new = not folder.exists()
    try:
        with (
            only_one(folder / LOCK, BUSY),
            replacing_together(folder, (*FILES, MANIFEST)) as unfinished,
        ):
            largest = _write_and_compare(artifact, k, unfinished)
    finally:
        if is_new:  # a call that was refused leaves nothing behind
            with contextlib.suppress(OSError):
                folder.rmdir()
    return largest


def _write_and_compare(artifact: Artifact, k: int, folder: pathlib.Path) -> float:
    """Writes all files into an empty folder; what it returns and raises is described in `export_artifact`."""
    artifact = without_kernels(artifact)
    with jax.default_matmul_precision(PRECISION):
        served = served_model(artifact)
        exported = programs(served, k)
        manifest = _write(artifact, served, exported, folder)
        largest = _difference(artifact, _opened(folder, manifest))
    if not largest <= (allowed := TOLERANCE[artifact.config.model.dtype]):
        raise UserError(
            f"{folder.parent}: exported scores differ from the model's own by {largest:.1e} of the largest; expected at most {allowed:.0e};"
            " nothing was exported; report it with method, backbone and the version of jax"
        )
    write_sealed(folder / MANIFEST, manifest)
    return largest


def read_export(folder: pathlib.Path) -> ExportedModel:
    """Opens an exported model.

    Raises:
      UserError: there is no exported model, a later version wrote it, or a file has changed since it was written; or an export into the
        folder was interrupted between its last moves, and they cannot be made now.
    """
    _finish_interrupted(folder)
    manifest = read_sealed(folder / MANIFEST, REMEDY)
    if (manifest.get("kind"), manifest.get("format")) != (KIND, FORMAT_VERSION):
        raise UserError(
            f"{folder / MANIFEST}: {manifest.get('kind')!r} of format {manifest.get('format')}; expected {KIND!r} of format "
            f"{FORMAT_VERSION}; {REMEDY}"
        )
    if damage := first_damaged(folder, manifest["files"]):
        raise UserError(f"{damage}, by the checksum in {folder / MANIFEST}; {REMEDY}")
    return _opened(folder, manifest)


def _finish_interrupted(folder: pathlib.Path) -> None:
    """Makes the moves that are left of an export that was killed between them."""
    if not is_complete(folder, MANIFEST):
        return
    try:
        with only_one(folder / LOCK, BUSY):
            finish_replacing(folder, (*FILES, MANIFEST))
    except OSError as error:
        raise UserError(
            f"{folder}: the last export was interrupted before all its files were moved out of {UNFINISHED}, and they cannot be moved now "
            f"({error.strerror}); read it once where the folder can be written, or export the model again"
        ) from error


def _opened(folder: pathlib.Path, manifest: dict[str, Any]) -> ExportedModel:
    """The files of a folder, which the manifest describes."""
    states, top_k = (
        export.deserialize(bytearray((folder / name).read_bytes())) for name in (STATES, TOP_K)
    )
    parameters, items = (safetensors.numpy.load_file(folder / name) for name in (PARAMETERS, ITEMS))
    return ExportedModel(manifest, states, top_k, parameters, items)


def _check_free(folder: pathlib.Path) -> None:
    """Raises UserError if the folder has files that no export has written."""
    if not folder.is_dir():
        return
    for manifest in (folder / MANIFEST, folder / UNFINISHED / MANIFEST):
        with contextlib.suppress(UserError):
            if read_sealed(manifest, REMEDY).get("kind") == KIND:
                return
    for name in (*FILES, MANIFEST):
        remove_left_behind(folder / name)
    # a folder with no other files is that of an interrupted export
    names = {path.name for path in folder.iterdir() if not path.name.startswith(f"{LOCK}.")}
    if names - {*FILES, UNFINISHED, LOCK}:
        raise other_files(folder, "exported model")


def _write(
    artifact: Artifact, served: ServedModel, exported: Programs, folder: pathlib.Path
) -> dict[str, Any]:
    """Writes all files except the manifest; returns the content of the manifest."""
    try:
        contents = {STATES: exported.states.serialize(), TOP_K: exported.top_k.serialize()}
    except ImportError as error:
        raise UserError(
            f"export: the Python package flatbuffers is missing, and jax writes programs with it ({error}); pip install flatbuffers"
        ) from error
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for name, arrays in ((PARAMETERS, served.parameters), (ITEMS, served.items)):
        safetensors.numpy.save_file(arrays, folder / name)
    pa.parquet.write_table(_table(artifact.catalogue), folder / TABLE)
    return _manifest(artifact, served, exported) | {"files": checksums(folder, FILES)}


def _table(items: Catalogue) -> pa.Table:
    """Rows of the items with their ids and titles."""
    columns = {
        "row": np.arange(len(items.ids), dtype=np.int32),
        "id": items.ids,
        "title": items.titles,
        "count": items.counts.astype(np.int64),
        "recommended": items.recommended,
    }
    return pa.table({name: pa.array(values.tolist()) for name, values in columns.items()})


def _manifest(artifact: Artifact, served: ServedModel, exported: Programs) -> dict[str, Any]:
    """The content of `MANIFEST` without the checksums."""
    gated, vectors = served.model.gated, served.items.get(VECTORS)
    (_, k), (width, *_) = exported.top_k.out_avals[0].shape, exported.states.out_avals[0].shape[1:]
    sizes = {"items": len(artifact.catalogue.ids), "width": width, "k": k}
    sizes |= {"max_history": served.max_history}
    sizes |= {"text_width": served.items["items"].shape[1]} if gated else {}
    return {
        "kind": KIND,
        "format": FORMAT_VERSION,
        "version": grasp_jax.__version__,
        "jax": jax.__version__,
        "platforms": list(PLATFORMS),
        "method": artifact.method,
        "backbone": artifact.backbone,
        "dot_product": not gated,
        "unit_vectors": vectors is not None and _are_unit(vectors),
        "sizes": sizes,
        "histories": HISTORY,
        "programs": {
            name: {
                "arguments": _described(ARGUMENTS[name, gated], program),
                "results": jax.tree.unflatten(
                    program.out_tree, list(map(_shape, program.out_avals))
                ),
            }
            for name, program in ((STATES, exported.states), (TOP_K, exported.top_k))
        },
        "made_from": dict(artifact.made_from),
    }


def _are_unit(vectors: np.ndarray) -> bool:
    return bool(np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4))


def _described(names: Sequence[str], program: export.Exported) -> dict[str, Any]:
    """Type and shape of each argument; of a dictionary, of each of its arrays."""
    arguments, _ = jax.tree.unflatten(program.in_tree, list(map(_shape, program.in_avals)))
    return dict(zip(names, arguments, strict=True))


def _shape(argument: Any) -> str:
    return f"{argument.dtype}[{', '.join(map(str, argument.shape))}]"


def _difference(artifact: Artifact, model: ExportedModel) -> float:
    """The difference between the scores of an exported model and of the package, for some histories of the model's items;
    infinite if lists differ.
    """
    num_items = len(artifact.catalogue.ids)
    rng, longest = np.random.default_rng(0), artifact.config.data.max_length
    lengths = [1, 2, 3, 5, max(1, longest - 1), longest, longest + 3]
    histories = [rng.integers(0, num_items, length).astype(np.int32) for length in lengths]
    largest = 0.0
    for people in (histories, histories[3:4]):
        queries: list[np.ndarray] = []
        # any users' text vectors will do; the encoder is not called, because it may be slow or cost money
        if artifact.gated:
            users = rng.integers(0, len(artifact.tables["users"]), (2, len(people)))
            queries = [np.asarray(artifact.tables["users"][rows], np.float32) for rows in users]
        audience = audience_of_histories(artifact, people, place(artifact), queries=queries)
        everybody = np.arange(len(people))
        all_known = People(everybody, np.ones(len(people), bool), audience, everybody)
        answers = answer(
            artifact, all_known, ItemChoice(model.manifest["sizes"]["k"], exclude_seen=True)
        )
        for own, scores, rows in zip(answers, *model.top_items(people, queries), strict=True):
            allowed = TOLERANCE[artifact.config.model.dtype]
            largest = max(largest, difference(own, scores, rows, allowed))
    return largest


def difference(expected: Answer, scores: np.ndarray, rows: np.ndarray, allowed: float) -> float:
    """The largest difference between two lists of scores, as a share of the largest score.

    Args:
      expected: the answer of the package, n items.
      scores, rows: [k] of an exported model, -inf from n on.
      allowed: score difference below which two items may swap places.

    Returns:
      The difference; infinity if the numbers of items differ, or if items differ whose scores are not nearly equal.
    """
    n = len(expected.items)
    if not n or n > len(scores):
        return 0.0 if n == len(scores) or not np.isfinite(scores).any() else np.inf
    if not np.isfinite(scores[:n]).all() or np.isfinite(scores[n:]).any():
        return np.inf
    largest = max(float(np.abs(expected.scores).max()), np.finfo(np.float32).tiny)
    steps = np.concatenate([[np.inf], -np.diff(expected.scores) / largest, [0.0]])
    # the last item may tie with one that was cut off
    ties = np.minimum(steps[:-1], steps[1:]) <= allowed
    if not (ties | (expected.items == rows[:n])).all():
        return np.inf
    return float(np.abs(expected.scores - scores[:n]).max() / largest)
