"""The whole catalogue: what is computed of its items once, their scores block by block, and the best of them for a user."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Histories
from grasp_jax.models.device_data import DeviceData, all_pair_logits, gather_batch
from grasp_jax.models.recommender import Recommender, Tables, apply, has_gates
from grasp_jax.models.score_bounds import Expansion


@functools.partial(jax.jit, static_argnames="model")
def item_features(model: Recommender, params: Any, tables: Tables) -> jax.Array:
    """[V, ...] features of the whole catalogue."""
    return apply(model, params, "item_features", tables)


@functools.partial(jax.jit, static_argnames="model")
def item_expansion(model: Recommender, params: Any, features: jax.Array) -> Expansion | None:
    """What bounds of scores need of the whole catalogue; None for encoders without."""
    return apply(model, params, "expansion", features)


def gate_logits(tables: Tables, queries: jax.Array, items: jax.Array) -> jax.Array | None:
    """[B, C, 2] pair logits of rows [B] of the query tables and items [C]; None for models without gates."""
    return all_pair_logits(tables, queries, items) if has_gates(tables) else None


def block_scores(
    model: Recommender, params: Any, tables: Tables, features: jax.Array, queries: jax.Array, states: jax.Array,
    normaliser: jax.Array | None,
    first: jax.Array, size: int,
) -> jax.Array:  # fmt: skip
    """Scores of B users, asked with rows [B] of the query tables, for the items `first .. first + size`: [B, size]."""
    block = jax.lax.dynamic_slice_in_dim(features, first, size)
    logits = gate_logits(tables, queries, first + jnp.arange(size))
    return apply(model, params, "score_items", block, states, logits, normaliser)


def seen_pairs(log: InteractionLog, histories: Histories, batches: np.ndarray) -> np.ndarray:
    """[S, P, 2] int32 (row within the block, item), each once, of what a user saw before the target or rated low; filled up with -1."""
    steps, rows = np.nonzero(batches >= 0)
    owners, items = _seen(log, histories, batches[steps, rows])
    counts = np.bincount(steps[owners], minlength=len(batches))
    padded = np.full((len(batches), max(1, int(counts.max(initial=0))), 2), -1, np.int32)
    places = np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)  # owners ascend, and so do their blocks
    padded[steps[owners], places] = np.stack([rows[owners], items], axis=1)
    return padded


def distinct_seen(log: InteractionLog, histories: Histories, users: np.ndarray) -> np.ndarray:
    """[N] int64 different items of `seen_pairs` for each of `users`, 0 for all others."""
    owners, _ = _seen(log, histories, users)
    return np.bincount(users[owners], minlength=log.num_users)


def _seen(log: InteractionLog, histories: Histories, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place in `users` and item of everything that each of them has seen or rated low, the target itself not among the latter."""
    owners, flat = _ranges(log.offsets[users], histories.end[users])
    keys = owners * log.num_items + log.items[flat]
    if log.low_rated is not None and len(log.low_rated):
        low = log.low_rated[np.argsort(log.low_rated[:, 0], kind="stable")].astype(np.int64)
        first, last = (np.searchsorted(low[:, 0], users, side) for side in ("left", "right"))
        owners, flat = _ranges(first, last)
        kept = low[flat, 1] != histories.target[users[owners]]
        keys = np.concatenate([keys, (owners * log.num_items + low[flat, 1])[kept]])
    known = np.unique(keys)
    return known // log.num_items, known % log.num_items


def _ranges(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of `begin[k] .. end[k]` one after the other, and before them the k of each."""
    lengths = np.asarray(end - begin, np.int64)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    return owners, np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(begin, lengths)


def seen_in_block(seen: jax.Array, num_users: int, first: jax.Array, size: int) -> jax.Array:
    """[P, 2] pairs of `seen_pairs` -> [B, size] bool, the seen items among `first .. first + size`."""
    inside = (seen[:, 1] >= first) & (seen[:, 1] < first + size)
    column = jnp.where(inside, seen[:, 1] - first, size)  # out of range, hence dropped
    return jnp.zeros((num_users, size), bool).at[seen[:, 0], column].set(True, mode="drop")


@functools.partial(jax.jit, static_argnames=("model", "item_block", "top_n"))
def top_items(
    model: Recommender, params: Any, data: DeviceData, tables: Tables, features: jax.Array, queries: jax.Array,
    slots: jax.Array, newest: jax.Array, seen: jax.Array, item_block: int, top_n: int,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Running top-n over item blocks: [B, n] scores and item rows."""
    num_items = features.shape[0]
    states, normaliser = apply(model, params, "user_states", features, gather_batch(data, slots), newest)

    def merge(best: tuple[jax.Array, jax.Array], block: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        first = jnp.minimum(block * item_block, num_items - item_block)
        scores = block_scores(model, params, tables, features, queries, states, normaliser, first, item_block)
        ids = first + jnp.arange(item_block)
        skip = seen_in_block(seen, len(queries), first, item_block) | (ids < block * item_block)[None, :]
        joined = jnp.concatenate([best[0], jnp.where(skip, -jnp.inf, scores)], axis=1)
        joined_ids = jnp.concatenate([best[1], jnp.broadcast_to(ids, scores.shape)], axis=1)
        top, places = jax.lax.top_k(joined, top_n)
        return (top, jnp.take_along_axis(joined_ids, places, axis=1)), None

    start = (jnp.full((len(queries), top_n), -jnp.inf), jnp.zeros((len(queries), top_n), jnp.int32))
    return jax.lax.scan(merge, start, jnp.arange(-(-num_items // item_block)))[0]
