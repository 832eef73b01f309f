"""Representations of users and items as Parquet, for a downstream model such as a click model (arXiv 2511.20177, Appendix A.4).

representations.json                 sealed: the model, when it was written, D, and a checksum of every file
items.parquet                        item, interactions (in training), vector [D] float32
users/shard-00003-of-00016.parquet   user, interactions, history (a fingerprint of what the model read), vector [D] float32
checks/shard-00003.json              sealed: the checksum of the shard, which shows an interrupted run that the shard is complete

A hash of the user's id decides the shard, so it stays the same from day to day. A later call on the same folder keeps the vector of a user
whose model and history are the same, and leaves the file of a shard alone where no row has changed. So a call continues an interrupted one,
and a day's call costs what changed that day.
"""

import dataclasses
import datetime
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from grasp_jax.core.files import read_sealed, replacing, sha256, write_sealed
from grasp_jax.core.hashing import hash_of_texts, mixed
from grasp_jax.core.log import logger
from grasp_jax.core.paths import other_files
from grasp_jax.core.progress import progress_bar
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Histories
from grasp_jax.evaluation.audience import whole_histories
from grasp_jax.serving.answers import row_of_items
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.serving.new_items import trained_items

MANIFEST, ITEMS, SHARDS, CHECKS = "representations.json", "items.parquet", "users", "checks"
KEY = b"grasp_jax"  # key of a Parquet file's metadata: the model, as JSON
USERS_OF_A_SHARD = 100_000  # users of a shard in a new folder; bounds the memory
REMEDY = "remove the folder, and everything is computed again"
States = Callable[[np.ndarray], np.ndarray]


class Represented(NamedTuple):
    """The number of users whose vector was computed, whose vector was kept, and of whom the model knows no item; the last get no row."""

    computed: int
    kept: int
    unknown: int


@dataclasses.dataclass(frozen=True)
class Representations:
    """The content of a folder of representations.

    Attributes:
      user_ids: [N] int64 or str.
      interactions: [N] number of each user's interactions.
      histories: [N] uint64 `history_fingerprints`.
      states: function from [n] rows of users to [n, D] float32; NaN for users of whom the model knows no item.
      item_ids: [V] int64 or str.
      item_counts: [V] training interactions.
      item_vectors: [V, D] float32.
      model: what the vectors are made from (`provenance`).
    """

    user_ids: np.ndarray
    interactions: np.ndarray
    histories: np.ndarray
    states: States
    item_ids: np.ndarray
    item_counts: np.ndarray
    item_vectors: np.ndarray
    model: Mapping[str, Any]


def representations_of(
    artifact: Artifact,
    log: InteractionLog,
    states: States,
    vectors: np.ndarray,
    texts_of_bank: bool = False,
) -> Representations:
    """The representations of a log's users and a model's items.

    Args:
      artifact: the model.
      log: the interactions of the users; the model may know only some of the items.
      states: see `Representations`.
      vectors: [V, D] float32 `serving.vectors.item_vectors`.
      texts_of_bank: for a gated model, whether users' texts come from the knowledge bank; otherwise they are written from the histories in
        the log.
    """
    catalogue = artifact.catalogue
    known = _known_items(log, catalogue)
    longest = len(known.items) if artifact.gated else artifact.config.data.max_length
    # gates read the text of a user, which depends on all items of the history
    read = whole_histories(known, longest)
    model = {"method": artifact.method, "backbone": artifact.backbone, **artifact.made_from}
    if artifact.gated:
        model["user_texts"] = "knowledge bank" if texts_of_bank else "histories"
    if len(catalogue.ids) > (trained := trained_items(artifact)):
        model["added_vectors"] = hashlib.sha256(vectors[trained:].tobytes()).hexdigest()
    return Representations(
        log.user_ids,
        log.lengths,
        history_fingerprints(known, read),
        states,
        catalogue.ids,
        catalogue.counts,
        vectors,
        model,
    )


def _known_items(log: InteractionLog, catalogue: Catalogue) -> InteractionLog:
    """The log without the interactions whose items the model does not know."""
    kept = (row_of_items(catalogue, log) >= 0)[log.items]
    offsets = np.concatenate([[0], np.cumsum(kept)])[log.offsets]
    return dataclasses.replace(log, items=log.items[kept], offsets=offsets, timestamps=None)


def represent(
    source: Representations,
    folder: pathlib.Path,
    write: Callable[["Shards"], Iterator[np.ndarray]] | None = None,
) -> Represented:
    """Brings a folder of representations up to date.

    Args:
      source: users, items and the model.
      folder: a new or empty folder, or the folder of an earlier call.
      write: function that updates all shards and returns the results of `write_shard`, in any order; None: update them here, one after the
        other.

    Raises:
      UserError: the folder contains something else, or a file has changed since it was written.
    """
    shards = shards_of(source, folder)
    totals = np.zeros(3, np.int64)
    with progress_bar(len(source.user_ids), "represent", "user") as bar:
        for counts in write(shards) if write is not None else _one_by_one(source, shards):
            totals += counts
            bar.update(int(counts.sum()))
    items = {"item": source.item_ids, "interactions": source.item_counts}
    _write(folder / ITEMS, _table(items, source.item_vectors, source.model))
    write_sealed(
        folder / MANIFEST,
        {
            "model": dict(source.model),
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "width": int(source.item_vectors.shape[1]),
            "users": int(totals[:2].sum()),
            "items": len(source.item_ids),
            "shards": len(shards.paths),
            "files": {
                path.relative_to(folder).as_posix(): _recorded_checksum(path)
                for path in shards.paths
            }
            | {ITEMS: sha256(folder / ITEMS)},
        },
    )
    return Represented(*totals.tolist())


class Shards(NamedTuple):
    """Which users are in which file of a folder.

    Attributes:
      paths: of the files.
      rows: for each file, the rows of its users.
    """

    paths: list[pathlib.Path]
    rows: list[np.ndarray]


def shards_of(source: Representations, folder: pathlib.Path) -> Shards:
    """The shards of a folder, the same in every process.

    Raises:
      UserError: the folder holds something else.
    """
    count = _shards_of(folder, len(source.user_ids))
    shards = (hash_of_ids(source.user_ids) % count).astype(np.int64)
    order = np.argsort(shards, kind="stable")
    bounds = np.searchsorted(shards[order], np.arange(1, count))
    paths = [folder / SHARDS / f"shard-{k:05d}-of-{count:05d}.parquet" for k in range(count)]
    return Shards(paths, np.split(order, bounds))


def _one_by_one(source: Representations, shards: Shards) -> Iterator[np.ndarray]:
    for path, rows in zip(*shards, strict=True):
        yield write_shard(source, rows, path)


def _shards_of(folder: pathlib.Path, num_users: int) -> int:
    """The number of shards that a folder has or will have."""
    if (folder / MANIFEST).is_file():
        return int(read_sealed(folder / MANIFEST, REMEDY)["shards"])
    # left by an interrupted first run
    left = sorted((folder / SHARDS).glob("shard-*-of-*.parquet"))
    if left:
        return int(left[0].stem.rpartition("-")[2])
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SHARDS).is_dir():
        raise other_files(folder, "representations")
    return max(1, -(-num_users // USERS_OF_A_SHARD))


def write_shard(source: Representations, rows: np.ndarray, path: pathlib.Path) -> np.ndarray:
    """Updates one shard, that of the users `rows`. Returns [3] numbers of users: computed, kept and unknown."""
    stored_row, stored = _stored_rows(path, source, rows)
    changed = np.flatnonzero(stored_row < 0)
    states = np.full((len(rows), source.item_vectors.shape[1]), np.nan, np.float32)
    if stored is not None:
        vectors = stored["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        states[stored_row >= 0] = vectors.reshape(-1, states.shape[1])[stored_row[stored_row >= 0]]
    if len(changed):
        states[changed] = source.states(rows[changed])
    known: np.ndarray = np.asarray(~np.isnan(states).any(axis=1))
    columns = {
        "user": source.user_ids[rows[known]],
        "interactions": source.interactions[rows[known]],
        "history": source.histories[rows[known]],
    }
    computed = int(known[changed].sum())
    table = _table(columns, states[known], source.model)
    if stored is None or not stored.equals(table):
        _write(path, table)
        write_sealed(_checksum_file(path), {"sha256": sha256(path)})
    return np.array([computed, int(known.sum()) - computed, int((~known).sum())])


def _stored_rows(
    path: pathlib.Path, source: Representations, rows: np.ndarray
) -> tuple[np.ndarray, pa.Table | None]:
    """The row of each user's vector in the stored shard (-1 if the vector must be computed), and the stored table if it is of the same
    model.
    """
    stored_row = np.full(len(rows), -1)
    if not path.is_file():
        return stored_row, None
    if not _checksum_file(path).is_file() or _recorded_checksum(path) != sha256(path):
        logger.warning(f"{path}: is not as it was written; its users are computed again")
        return stored_row, None
    stored = pa.parquet.read_table(path)
    if stored.schema.metadata[KEY] != _as_json(source.model):
        return stored_row, None
    histories = stored["history"].to_numpy()
    row_of = {name: n for n, name in enumerate(stored["user"].to_pylist())}
    found = np.array([row_of.get(name, -1) for name in source.user_ids[rows].tolist()], np.int64)
    known = np.flatnonzero(found >= 0)
    unchanged = known[histories[found[known]] == source.histories[rows[known]]]
    stored_row[unchanged] = found[unchanged]
    return stored_row, stored


def _table(
    columns: Mapping[str, np.ndarray], vectors: np.ndarray, model: Mapping[str, Any]
) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    arrays = {name: pa.array(values) for name, values in columns.items()}
    arrays["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.table(arrays).replace_schema_metadata({KEY: _as_json(model)})


def _as_json(model: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(model), sort_keys=True).encode()


def _write(path: pathlib.Path, table: pa.Table) -> None:
    with replacing(path) as partial:
        pa.parquet.write_table(table, partial)


def _checksum_file(shard: pathlib.Path) -> pathlib.Path:
    number = shard.stem.partition("-of-")[0]
    return shard.parent.parent / CHECKS / f"{number}.json"


def _recorded_checksum(shard: pathlib.Path) -> str:
    """The checksum of a shard when it was written."""
    return str(read_sealed(_checksum_file(shard), REMEDY)["sha256"])


def hash_of_ids(ids: np.ndarray) -> np.ndarray:
    """[n] uint64 of ids, the same on every machine and day."""
    if ids.dtype.kind == "i":
        return _splitmix64(ids.astype(np.uint64))
    return hash_of_texts(ids.tolist())


def history_fingerprints(log: InteractionLog, histories: Histories) -> np.ndarray:
    """[N] uint64, equal if a user's items and their order are equal. Items are identified by id, because their rows may change from day to
    day.
    """
    items = hash_of_ids(log.item_ids)[log.items]
    users = np.repeat(np.arange(log.num_users), log.lengths)
    position = np.arange(len(log.items))
    read = (position >= histories.start[users]) & (position < histories.end[users])
    from_end = (histories.end[users] - position).astype(np.uint64)
    terms = np.where(read, _splitmix64(items + _splitmix64(from_end)), np.uint64(0))
    totals = np.concatenate([[np.uint64(0)], np.cumsum(terms, dtype=np.uint64)])  # wraps around
    fingerprints: np.ndarray = totals[log.offsets[1:]] - totals[log.offsets[:-1]]
    return fingerprints


def _splitmix64(numbers: np.ndarray) -> np.ndarray:
    """The outputs of SplitMix64 from the states [n] uint64."""
    return mixed(numbers + np.uint64(0x9E3779B97F4A7C15))
