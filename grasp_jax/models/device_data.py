"""What lives on the device for a whole run: flat interactions, exclusion index, cached logits; and batches gathered from slots."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from grasp_jax.data.packing import MASK_SLOT
from grasp_jax.models.attention import pair_logits
from grasp_jax.models.recommender import PackedBatch, Tables

LOGIT_BLOCK = 4096


class DeviceData(NamedTuple):
    """Flat arrays that packed slots point into.

    Attributes:
      items: [I] int32 item of each interaction.
      users: [I] int32 user of each interaction.
      logits: [I, 2] float32 cached pair logits, or None without knowledge.
      excluded: [J] int32 and
      excluded_offsets: [N+1] int32, the `ExclusionIndex` of the training items.
      queries: [I] int32 row of the query tables ("users") that each interaction is asked with, or None: that of its user.
    """

    items: jax.Array
    users: jax.Array
    logits: jax.Array | None
    excluded: jax.Array
    excluded_offsets: jax.Array
    queries: jax.Array | None = None


def gather_batch(data: DeviceData, slots: jax.Array) -> PackedBatch:
    """[R, L] slots of `data.packing.pack` -> the packed batch; a slot below -1 is a mask, the question "what comes next?"."""
    filled, asked = slots >= 0, slots < -1
    place = jnp.maximum(slots, 0)
    segments = jnp.where(filled, data.users[place], jnp.where(asked, MASK_SLOT - slots, -1))
    column = jnp.arange(slots.shape[1])
    first = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    positions = column - jax.lax.cummax(jnp.where(first, column, 0), axis=1)
    return PackedBatch(
        items=jnp.where(filled, data.items[place], 0),
        segments=segments,
        positions=jnp.where(segments >= 0, positions, 0),
        logits=None if data.logits is None else data.logits[place],
        masked=asked,
        queries=jnp.maximum(segments, 0) if data.queries is None else data.queries[place],
    )


@jax.jit
def interaction_logits(tables: Tables, users: jax.Array, items: jax.Array) -> jax.Array:
    """Pair logits of matching entries of query rows and items, [...] each -> [..., 2], in blocks of bounded memory."""
    flat_users, flat_items = users.ravel(), items.ravel()
    padded = -(-flat_users.size // LOGIT_BLOCK) * LOGIT_BLOCK - flat_users.size
    blocks = [jnp.pad(flat, (0, padded)).reshape(-1, LOGIT_BLOCK) for flat in (flat_users, flat_items)]
    logits = jax.lax.map(lambda block: logits_of(tables, block[0], block[1]), tuple(blocks))
    return logits.reshape(-1, 2)[: flat_users.size].reshape(*users.shape, 2)


def all_pair_logits(tables: Tables, users: jax.Array, items: jax.Array) -> jax.Array:
    """Pair logits of all pairs of [B] query rows and [C] item rows: [B, C, 2]."""
    with jax.named_scope("gather"):
        rows = tables["users"][users], tables["users_similar"][users], tables["items"][items], tables["items_similar"][items]
    return pair_logits(*rows, "be,ce->bc")


def logits_of(tables: Tables, users: jax.Array, items: jax.Array) -> jax.Array:
    """Pair logits of rows that broadcast against each other: [...] and [...] -> [..., 2]."""
    users, items = jnp.broadcast_arrays(users, items)
    with jax.named_scope("gather"):
        rows = tables["users"][users], tables["users_similar"][users], tables["items"][items], tables["items_similar"][items]
    return pair_logits(*rows)
