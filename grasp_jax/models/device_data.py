"""Arrays that stay on the device during a run: flat interactions, exclusion index, cached logits; and batches gathered from slots."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.core.padding import next_power_of_two
from grasp_jax.data.packing import MASK_SLOT
from grasp_jax.models.batch import PackedBatch, Tables
from grasp_jax.models.gates import pair_logits
from grasp_jax.parallel.mesh import on_host
from grasp_jax.parallel.pairs import RequestedRows, from_pairs, requested_rows
from grasp_jax.parallel.rows import HostRows, ShardedRows, from_rows

LOGIT_BLOCK = 4096
QUERY_TABLES = ("users", "users_similar")


class DeviceData(NamedTuple):
    """Flat arrays; packed slots are indices into them.

    Attributes:
      items: [I] int32 item of each interaction.
      users: [I] int32 user of each interaction.
      logits: [I, 2] float32 cached pair logits, or None without knowledge.
      excluded: [J] int32 and
      excluded_offsets: [N+1] int32, the `ExclusionIndex` of the training items.
      queries: [I] int32 row of the query tables ("users") that belongs to each interaction; None: the row of its user.
      popularity: [V] int32 cumulative numbers of training interactions, or None if no draw reads them.
    """

    items: jax.Array
    users: jax.Array
    logits: jax.Array | None
    excluded: jax.Array
    excluded_offsets: jax.Array
    queries: jax.Array | None = None
    popularity: jax.Array | None = None


def gather_batch(data: DeviceData, slots: jax.Array) -> PackedBatch:
    """[R, L] slots of `data.packing.pack` -> the packed batch; a slot below -1 is a mask for the next item."""
    is_item, is_mask = slots >= 0, slots < -1
    interactions = jnp.maximum(slots, 0)
    users = data.users[interactions]
    segments = jnp.where(is_item, users, jnp.where(is_mask, MASK_SLOT - slots, -1))
    column = jnp.arange(slots.shape[1])
    is_first = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    positions = column - jax.lax.cummax(jnp.where(is_first, column, 0), axis=1)
    return PackedBatch(
        items=jnp.where(is_item, data.items[interactions], 0),
        segments=segments,
        positions=jnp.where(segments >= 0, positions, 0),
        logits=None if data.logits is None else data.logits[interactions],
        masked=is_mask,
        queries=jnp.maximum(segments, 0) if data.queries is None else data.queries[interactions],
    )


def interaction_logits(tables: Tables, users: Any, items: Any) -> Any:
    """Pair logits of matching entries of query rows and items, [...] each -> [..., 2], in blocks of bounded memory.

    The result is a NumPy array if the query tables are on the host.
    """
    if not isinstance(tables["users"], HostRows):
        return _interaction_logits(tables, users, items)
    flat_users, flat_items = on_host((users.ravel(), items.ravel()))
    logits = np.empty((flat_users.size, 2), np.float32)
    for begin in range(0, flat_users.size, LOGIT_BLOCK):
        block = slice(begin, begin + LOGIT_BLOCK)
        # all blocks have the same shape: the last one is filled up with repetitions
        block_users = np.resize(flat_users[block], LOGIT_BLOCK)
        block_items = np.resize(flat_items[block], LOGIT_BLOCK)
        block_tables, queries = with_query_rows(tables, block_users)
        block_logits = on_host(_logits_of(block_tables, queries, block_items))
        logits[block] = block_logits[: len(flat_users[block])]
    return logits.reshape(*users.shape, 2)


def with_query_rows(
    tables: Tables, queries: jax.Array | np.ndarray
) -> tuple[Tables, jax.Array | np.ndarray]:
    """Tables with only the needed query rows, and the [...] queries as rows of these; unchanged if the tables are on devices."""
    if not isinstance(tables.get("users"), HostRows):
        return tables, queries
    rows, index = np.unique(on_host(queries), return_inverse=True)
    # a power of two: few shapes, so that few programs are compiled
    rows = np.pad(rows, (0, next_power_of_two(len(rows)) - len(rows)), mode="edge")
    query_tables = {name: tables[name].read(rows) for name in QUERY_TABLES}
    return {**tables, **query_tables}, index.reshape(queries.shape).astype(np.int32)


class QueryUsers(NamedTuple):
    """The users whose query rows a step needs, if these are not on every device.

    Attributes:
      users: [B] int32 users of the batch, ascending, padded with N.
      rows: [B', E] rows of each query table if they come from the host; B' is a multiple of the number of devices, and padding has the rows
        of any user. None: they are on the devices.
    """

    users: jax.Array
    rows: Mapping[str, jax.Array] | None


def with_batch_queries(
    tables: Tables, batch: PackedBatch, query_users: QueryUsers | None, replicated: bool
) -> tuple[Tables, PackedBatch]:
    """`with_query_rows` for a batch, within a step: rows of its users, if query tables are not on every device.

    Args:
      tables, batch: the tables and the batch of the step; its queries are users.
      query_users: the users; None if query tables are on every device.
      replicated: whether every device needs the rows of all users.
    """
    if not isinstance(users := tables.get("users"), ShardedRows | HostRows):
        return tables, batch
    assert query_users is not None
    if query_users.rows is None:
        requested = requested_rows(tuple(tables[name] for name in QUERY_TABLES), query_users.users)
    else:
        rows = tuple(query_users.rows[name] for name in QUERY_TABLES)
        requested = RequestedRows(rows, None, users.shape[0], users.mesh)
    query_tables: Tables = (
        dict(zip(QUERY_TABLES, requested.on_every_device(), strict=True))
        if replicated or users.mesh.size == 1
        else dict.fromkeys(QUERY_TABLES, requested)
    )
    count = query_users.users.size
    index = jnp.minimum(jnp.searchsorted(query_users.users, batch.queries), count - 1)
    # padding refers to different rows, so that no device gets more requests than the others
    fillers = jnp.arange(batch.queries.size).reshape(batch.queries.shape) % count
    return {**tables, **query_tables}, batch._replace(
        queries=jnp.where(batch.segments >= 0, index, fillers).astype(jnp.int32)
    )


@jax.jit
def _interaction_logits(tables: Tables, users: jax.Array, items: jax.Array) -> jax.Array:
    flat_users, flat_items = users.ravel(), items.ravel()
    padding = -flat_users.size % LOGIT_BLOCK
    blocks = [
        jnp.pad(flat, (0, padding)).reshape(-1, LOGIT_BLOCK) for flat in (flat_users, flat_items)
    ]
    logits: jax.Array = jax.lax.map(
        lambda block: logits_of(tables, block[0], block[1]), tuple(blocks)
    )
    return logits.reshape(-1, 2)[: flat_users.size].reshape(*users.shape, 2)


def all_pair_logits(tables: Tables, users: jax.Array, items: jax.Array) -> jax.Array:
    """Pair logits of all pairs of [B] query rows and [C] item rows: [B, C, 2]."""
    with jax.named_scope("gather"):
        queries = tables["users"][users], tables["users_similar"][users]
    # B numbers are sent for each item instead of 2E
    if isinstance(tables["items"], ShardedRows) and len(users) < len(items):

        def logits_of_items(
            queries: tuple[jax.Array, jax.Array], items: jax.Array, items_similar: jax.Array
        ) -> jax.Array:
            return pair_logits(*queries, items, items_similar, "be,ce->cb")

        return from_rows(logits_of_items, queries, _item_tables(tables), items).swapaxes(0, 1)
    with jax.named_scope("gather"):
        rows = tables["items"][items], tables["items_similar"][items]
    return pair_logits(*queries, *rows, "be,ce->bc")


def logits_of(tables: Tables, users: jax.Array, items: jax.Array) -> jax.Array:
    """Pair logits of rows that broadcast against each other: [...] and [...] -> [..., 2]."""
    users, items = jnp.broadcast_arrays(users, items)
    queries = tables["users"], tables["users_similar"]
    if isinstance(tables["users"], ShardedRows):
        requested = requested_rows(queries, users.ravel())
        index = jnp.arange(users.size, dtype=jnp.int32).reshape(users.shape)
        return from_pairs(pair_logits, requested, _item_tables(tables), index, items)
    if isinstance(tables["users"], RequestedRows):
        return from_pairs(pair_logits, tables["users"], _item_tables(tables), users, items)

    def logits_of_pairs(
        queries: tuple[jax.Array, jax.Array],
        items: jax.Array,
        items_similar: jax.Array,
        users: jax.Array,
    ) -> jax.Array:
        with jax.named_scope("gather"):
            rows = queries[0][users], queries[1][users]
        return pair_logits(*rows, items, items_similar)

    return from_rows(logits_of_pairs, queries, _item_tables(tables), items, users)


_logits_of = jax.jit(logits_of)


def _item_tables(tables: Tables) -> tuple[Any, Any]:
    return tables["items"], tables["items_similar"]
