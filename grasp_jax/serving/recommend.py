"""Top-n items of each user over the whole catalogue, written as Parquet with original ids and scores."""

import contextlib
import os
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jax.sharding import Mesh

from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import pack_in_blocks
from grasp_jax.data.split import Histories
from grasp_jax.errors import UserError
from grasp_jax.evaluation.catalogue import item_features, seen_pairs, top_items
from grasp_jax.models.device_data import DeviceData, with_query_rows
from grasp_jax.models.recommender import Recommender, Tables
from grasp_jax.parallel.mesh import everywhere, on_host, shared_out
from grasp_jax.parallel.processes import is_first
from grasp_jax.progress import progress_bar


def read_users(path: str | None, log: InteractionLog) -> np.ndarray:
    """Rows of the users listed in a file, one original id per line; all users for None.

    Raises:
      UserError: the file is missing, empty, or names a user that the data lacks.
    """
    if path is None:
        return np.arange(log.num_users)
    if not pathlib.Path(path).is_file():
        raise UserError(f"--users: {path} does not exist; expected one user id per line")
    wanted = pathlib.Path(path).read_text(encoding="utf-8").split()
    if not wanted:
        raise UserError(f"--users: {path} is empty; expected one user id per line")
    row_of = {name: row for row, name in enumerate(log.user_ids.astype(str))}
    for number, name in enumerate(wanted, start=1):
        if name not in row_of:
            raise UserError(f"--users: {path}: entry {number}, {name!r}, is no user of the data; ids look like {log.user_ids[0]}")
    return np.array([row_of[name] for name in dict.fromkeys(wanted)])


def recommend(
    config: ConfigDict, model: Recommender, params: Any, data: DeviceData, tables: Tables, log: InteractionLog,
    users: np.ndarray, queries: np.ndarray, mesh: Mesh, path: pathlib.Path,
) -> None:  # fmt: skip
    """Writes columns user, rank (from 1), item, score; each user's whole history is the model's input.

    `queries` [N] is the row of the query tables with which each user's next item is asked for; `mesh` shares out the users of a block.

    Raises:
      UserError: a user would get fewer than `top_n` items.
    """
    top_n, exclude_seen = config.recommend.top_n, config.recommend.exclude_seen
    begin, end = log.offsets[:-1], log.offsets[1:]
    available = log.num_items - (int((end - begin)[users].max()) if exclude_seen else 0)
    if top_n > available:
        raise UserError(f"config.recommend.top_n: {top_n}; some user has only {available} items to choose from")
    histories = Histories(np.maximum(begin, end - config.data.max_length), end, np.full(log.num_users, -1, np.int32))
    batches, slots, newest = pack_in_blocks(histories, users, config.eval.user_block, model.backbone.mask_at, mesh.size)
    seen = seen_pairs(log, histories, batches) if exclude_seen else np.full((len(batches), 1, 2), -1, np.int32)
    features = item_features(model, params, tables)
    item_block = min(config.eval.item_block, log.num_items)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    writes: Any = pa.parquet.ParquetWriter(partial, _schema(log)) if is_first() else contextlib.nullcontext()
    with writes as writer, progress_bar(len(users), "recommend", "user") as bar:
        for s, block in enumerate(batches):
            read, asked_with = with_query_rows(tables, queries[np.maximum(block, 0)])
            asked = shared_out(mesh, (asked_with, slots[s], newest[s]), axis=0)
            scores, items = on_host(top_items(model, params, data, read, features, *asked, everywhere(mesh, seen[s]), item_block, top_n))
            filled = block >= 0
            count = int(filled.sum())
            columns = [
                np.repeat(log.user_ids[block[filled]], top_n),
                np.tile(np.arange(1, top_n + 1, dtype=np.int32), count),
                log.item_ids[items[filled].ravel()],
                scores[filled].ravel(),
            ]
            if writer:
                writer.write_table(pa.table([pa.array(column) for column in columns], schema=_schema(log)))
            bar.update(count)
    if is_first():
        os.replace(partial, path)


def _schema(log: InteractionLog) -> pa.Schema:
    ids = [pa.int64() if array.dtype.kind == "i" else pa.string() for array in (log.user_ids, log.item_ids)]
    return pa.schema([("user", ids[0]), ("rank", pa.int32()), ("item", ids[1]), ("score", pa.float32())])
