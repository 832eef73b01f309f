"""Top-n items of each user over the whole catalogue, written with original ids and scores, and what they were made from beside them."""

import contextlib
import csv
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import pack_in_blocks
from grasp_jax.data.split import Histories
from grasp_jax.errors import UserError
from grasp_jax.evaluation.catalogue import distinct_seen, item_features, seen_pairs, top_items
from grasp_jax.files import replacing, sha256, write_sealed, write_text
from grasp_jax.models.device_data import DeviceData, with_query_rows
from grasp_jax.models.recommender import Recommender, Tables
from grasp_jax.parallel.mesh import everywhere, on_host, shared_out
from grasp_jax.parallel.processes import is_first
from grasp_jax.progress import progress_bar
from grasp_jax.serving.users import Asked, read_users
from grasp_jax.serving.writers import open_writer

__all__ = ["Asked", "Served", "read_users", "recommend"]


class Served(NamedTuple):
    """How many users got a full list, how many a shorter one, and who none and why (id, reason)."""

    full: int
    short: int
    skipped: list[tuple[str, str]]


def recommend(
    config: ConfigDict, model: Recommender, params: Any, data: DeviceData, tables: Tables, log: InteractionLog,
    users: np.ndarray, queries: np.ndarray, mesh: Mesh, path: pathlib.Path, made_from: Mapping[str, Any] | None = None,
    skipped: Sequence[tuple[str, str]] = (),
) -> Served:  # fmt: skip
    """Writes columns user, rank (from 1), item, score; each user's whole history is the model's input.

    A user with fewer than `top_n` items left gets so many rows. Beside the file `<stem>.about.json` says what it was made from, and
    `<stem>.skipped.csv` who got nothing.

    Args:
      queries: [N] rows of the query tables with which each user's next item is asked for.
      mesh: shares out the users of a block.
      path: its suffix says the format, `writers.SUFFIXES`.
      made_from: fingerprints of data, model and what else decides the rows.
      skipped: ids that were asked for and are no users, with the reason.

    Raises:
      UserError: there are fewer than `top_n` items at all, or none of the users has one left.
    """
    top_n, exclude_seen, made_from = config.recommend.top_n, config.recommend.exclude_seen, made_from or {}
    if top_n > log.num_items:
        raise UserError(f"config.recommend.top_n: {top_n}; expected at most {log.num_items}, for there are so many items")
    begin, end = log.offsets[:-1], log.offsets[1:]
    histories = Histories(np.maximum(begin, end - config.data.max_length), end, np.full(log.num_users, -1, np.int32))
    left = np.full(log.num_users, log.num_items) - (distinct_seen(log, histories, users) if exclude_seen else 0)
    none = [(str(log.user_ids[user]), f"has seen all {log.num_items} items") for user in users if left[user] == 0]
    rows_of, users = np.minimum(left, top_n), users[left[users] > 0]
    if not len(users):
        raise UserError(f"config.recommend.exclude_seen: True, and none of the {len(none)} users has an item left; set it to False")
    batches, slots, newest = pack_in_blocks(histories, users, config.eval.user_block, model.backbone.mask_at, mesh.size)
    seen = seen_pairs(log, histories, batches) if exclude_seen else np.full((len(batches), 1, 2), -1, np.int32)
    features = item_features(model, params, tables)
    item_block = min(config.eval.item_block, log.num_items)
    numbers = (log.user_ids.dtype.kind == "i", log.item_ids.dtype.kind == "i")
    with contextlib.ExitStack() as stack:
        write = None
        if is_first():
            partial = stack.enter_context(replacing(path))
            write = stack.enter_context(open_writer(partial, path.suffix, numbers, made_from))
        bar = stack.enter_context(progress_bar(len(users), "recommend", "user"))
        for s, block in enumerate(batches):
            read, asked_with = with_query_rows(tables, queries[np.maximum(block, 0)])
            asked = shared_out(mesh, (asked_with, slots[s], newest[s]), axis=0)
            scores, items = on_host(top_items(model, params, data, read, features, *asked, everywhere(mesh, seen[s]), item_block, top_n))
            filled = block >= 0
            counts = rows_of[block[filled]]
            kept = np.arange(top_n) < counts[:, None]  # what is excluded comes last
            ranks = np.broadcast_to(np.arange(1, top_n + 1, dtype=np.int32), kept.shape)
            if write:
                columns = [ranks[kept], log.item_ids[items[filled][kept]], scores[filled][kept]]
                write([np.repeat(log.user_ids[block[filled]], counts), *columns])
            bar.update(len(counts))
    short = int((rows_of[users] < top_n).sum())
    served = Served(len(users) - short, short, [*skipped, *none])
    if is_first():
        _write_beside(path, served, made_from)
    return served


def _write_beside(path: pathlib.Path, served: Served, made_from: Mapping[str, Any]) -> None:
    """Who got nothing, and what the files were made from with their checksums."""
    written, left_out = [path], path.with_name(f"{path.stem}.skipped.csv")
    if served.skipped or left_out.exists():  # an older call's must not speak for this one
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("user", "reason"), *served.skipped])
        write_text(left_out, text.getvalue())
        written.append(left_out)
    about = {
        "made_from": dict(made_from),
        "files": {file.name: sha256(file) for file in written},
        "users": served.full + served.short,
        "skipped": len(served.skipped),
    }
    write_sealed(path.with_name(f"{path.stem}.about.json"), about)
