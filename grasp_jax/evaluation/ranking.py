"""Ranks of the held-out item: among stored negatives, and among the whole catalogue, in blocks of bounded memory.

Ties are pessimistic: the rank is the number of other candidates that score at least as high, so a constant model scores 0. A score
that is not a number counts as at least as high.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import pack_in_blocks
from grasp_jax.data.split import Histories
from grasp_jax.models.device_data import DeviceData, all_pair_logits, gather_batch, interaction_logits
from grasp_jax.models.recommender import Recommender, Tables, apply, has_gates
from grasp_jax.models.score_bounds import Expansion

CPU_CACHE_FLOATS = 320_000  # candidates' features scored together on a CPU: what stays in cache is 2.5 times as fast as 64 users at once
MOST_UNSURE = 128  # items of a block that a user's bounds may leave open; with more, the whole block is scored
MOST_UNSURE_NEGATIVES = 8  # the same of the stored negatives
TIE_TOLERANCE = 1e-6  # the target's score and the others' may be summed in another order; closer than this is a tie


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Everything of one split that does not depend on the model; made once.

    Attributes:
      users: [n] evaluated user rows, in the order of every `ranks` array.
      targets: [n] item rows.
      batches: [S, B] user rows, -1 for none.
      order: [S, B] place of each user in `users`, -1 for none.
      slots: [S, R, L] packed histories, on the device.
      newest: [S, B] place of the newest item, or of the mask after it, on the device.
      candidates: [S, B, 1+C] target first, then the stored negatives, on the device.
      queries: [S, B] int32 row of the query tables with which each target is asked for, on the device.
      candidate_logits: [S, B, 1+C, 2] or None.
    """

    users: np.ndarray
    targets: np.ndarray
    batches: np.ndarray
    order: np.ndarray
    slots: jax.Array
    newest: jax.Array
    candidates: jax.Array
    queries: jax.Array
    candidate_logits: jax.Array | None


def evaluation_set(
    histories: Histories, negatives: np.ndarray, tables: Tables, user_block: int, mask_at: str = "", queries: np.ndarray | None = None
) -> EvaluationSet:
    """Packs the histories of the evaluated users and caches the gate logits of their candidates.

    Args:
      histories: validation or test windows.
      negatives: [n, C] stored negatives of `histories.evaluated`, in that order.
      tables: frozen knowledge, empty for models without.
      user_block: B.
      mask_at: the backbone's.
      queries: [N] row of the query tables for each user's target; None: the user's own.
    """
    users = histories.evaluated
    batches, slots, newest = pack_in_blocks(histories, users, user_block, mask_at)
    order = np.where(batches >= 0, np.searchsorted(users, batches), -1)
    targets = histories.target[users]
    candidates = jnp.asarray(np.concatenate([targets[:, None], negatives], axis=1)[order])
    asked_with = np.maximum(batches, 0) if queries is None else queries[np.maximum(batches, 0)]
    rows = jnp.asarray(asked_with.astype(np.int32))
    logits = interaction_logits(tables, jnp.broadcast_to(rows[..., None], candidates.shape), candidates) if has_gates(tables) else None
    return EvaluationSet(
        users=users,
        targets=targets,
        batches=batches,
        order=order,
        slots=jnp.asarray(slots),
        newest=jnp.asarray(newest),
        candidates=candidates,
        queries=rows,
        candidate_logits=logits,
    )


def lowest_tie(target_scores: jax.Array) -> jax.Array:
    """[B] scores of the targets -> [B, 1] the least score that ranks before them."""
    return (target_scores - TIE_TOLERANCE * jnp.maximum(1.0, jnp.abs(target_scores)))[:, None]


def count_by_bounds(
    model: Recommender, params: Any, features: jax.Array, states: jax.Array, ids: jax.Array, logits: jax.Array, threshold: jax.Array,
    skip: jax.Array | bool, bounded: tuple[jax.Array, jax.Array], most: int, by_scores: Callable[[], jax.Array],
) -> jax.Array:  # fmt: skip
    """How many of C items score a user's threshold [B, 1] or more: [B].

    Args:
      ids: [B, C] item rows of `features`; logits [B, C, 2] are theirs.
      skip: [B, C], items that do not count.
      bounded: [B, C] scores and how far at most the exact ones are from them.
      most: items of a user that bounds may leave open, which are then scored; if any user has more, `by_scores` counts instead.
    """
    scores, slack = bounded
    higher = scores - slack >= threshold
    unsure = ~higher & ~(scores + slack < threshold) & ~skip
    most = min(most, ids.shape[1])

    def by_bounds() -> jax.Array:
        places = jax.vmap(lambda row: jnp.nonzero(row, size=most, fill_value=0)[0])(unsure)
        there = jnp.arange(most) < unsure.sum(axis=1, keepdims=True)
        own, near = jnp.take_along_axis(ids, places, axis=1), jnp.take_along_axis(logits, places[..., None], axis=1)
        rescored = apply(model, params, "score_candidates", features[own], states, near, None)
        return (higher & ~skip).sum(axis=1) + (~(rescored < threshold) & there).sum(axis=1)

    return jax.lax.cond(unsure.sum(axis=1).max() <= most, by_bounds, by_scores)


@functools.partial(jax.jit, static_argnames="model")
def _sampled_ranks(
    model: Recommender, params: Any, data: DeviceData, tables: Tables, slots: jax.Array, newest: jax.Array,
    candidates: jax.Array, candidate_logits: jax.Array | None,
) -> jax.Array:  # fmt: skip
    features = apply(model, params, "item_features", tables)
    expansion = None if candidate_logits is None else apply(model, params, "expansion", features)

    def block(part: tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        block_slots, block_newest, block_candidates, block_logits = part
        states, normaliser = apply(model, params, "user_states", features, gather_batch(data, block_slots), block_newest)
        target, ids = block_candidates[:, :1], block_candidates[:, 1:]
        target_logits, logits = (None, None) if block_logits is None else (block_logits[:, :1], block_logits[:, 1:])
        threshold = lowest_tie(apply(model, params, "score_candidates", features[target], states, target_logits, normaliser)[:, 0])

        def one_user(user: tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]) -> jax.Array:
            own, *rest = jax.tree.map(lambda leaf: leaf[None], user)
            return apply(model, params, "score_candidates", features[own], *rest)[0]

        def by_scores() -> jax.Array:
            together = len(states)
            if jax.default_backend() == "cpu":
                together = min(together, max(1, CPU_CACHE_FLOATS // (ids.shape[1] * features[0].size)))
            scores = jax.lax.map(one_user, (ids, states, logits, normaliser), batch_size=together)
            return (~(scores < threshold)).sum(axis=1)

        if expansion is None or logits is None:
            return by_scores()
        own = jax.tree.map(lambda leaf: leaf[ids], expansion)
        bounded = apply(model, params, "bounded_scores", own, states, logits, "bd,bctd->tbc")
        return count_by_bounds(
            model, params, features, states, ids, logits, threshold, False, bounded, MOST_UNSURE_NEGATIVES, by_scores
        )  # fmt: skip

    return jax.lax.map(block, (slots, newest, candidates, candidate_logits))


def sampled_ranks(model: Recommender, params: Any, data: DeviceData, tables: Tables, evaluation: EvaluationSet) -> np.ndarray:
    """[n] int32 ranks of the targets among their stored negatives."""
    ranks = _sampled_ranks(
        model, params, data, tables, evaluation.slots, evaluation.newest, evaluation.candidates,
        evaluation.candidate_logits,
    )  # fmt: skip
    return in_user_order(jax.device_get(ranks), evaluation)


def in_user_order(values: np.ndarray, evaluation: EvaluationSet) -> np.ndarray:
    """[S, B, ...] values of packed blocks -> [n, ...] in the order of `evaluation.users`."""
    ordered = np.empty((len(evaluation.users), *values.shape[2:]), values.dtype)
    filled = evaluation.order >= 0
    ordered[evaluation.order[filled]] = values[filled]
    return ordered


def seen_pairs(log: InteractionLog, histories: Histories, batches: np.ndarray) -> np.ndarray:
    """[S, P, 2] int32 (row within the block, item) of everything a user has seen before the target; filled up with -1."""
    parts = []
    for block in batches:
        filled = block[block >= 0]
        begin, end = log.offsets[filled], histories.end[filled]
        items = np.concatenate([log.items[a:b] for a, b in zip(begin, end, strict=True)])
        parts.append(np.stack([np.repeat(np.flatnonzero(block >= 0), end - begin), items], axis=1))
    padded = np.full((len(parts), max(map(len, parts)), 2), -1, np.int32)
    for s, part in enumerate(parts):
        padded[s, : len(part)] = part
    return padded


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


def seen_in_block(seen: jax.Array, num_users: int, first: jax.Array, size: int) -> jax.Array:
    """[P, 2] pairs of `seen_pairs` -> [B, size] bool, the seen items among `first .. first + size`."""
    inside = (seen[:, 1] >= first) & (seen[:, 1] < first + size)
    column = jnp.where(inside, seen[:, 1] - first, size)  # out of range, hence dropped
    return jnp.zeros((num_users, size), bool).at[seen[:, 0], column].set(True, mode="drop")


@functools.partial(jax.jit, static_argnames=("model", "item_block"))
def _full_ranks(
    model: Recommender, params: Any, data: DeviceData, tables: Tables, features: jax.Array, expansion: Expansion | None,
    queries: jax.Array, slots: jax.Array, newest: jax.Array, targets: jax.Array, seen: jax.Array, item_block: int,
) -> jax.Array:  # fmt: skip
    """[B] ranks of one block of users over all items, item block by item block; what bounds decide is not scored."""
    num_items = features.shape[0]
    states, normaliser = apply(model, params, "user_states", features, gather_batch(data, slots), newest)
    target_logits = gate_logits(tables, queries, targets)
    threshold = lowest_tie(jnp.diagonal(apply(model, params, "score_items", features[targets], states, target_logits, normaliser)))

    def count(total: jax.Array, block: jax.Array) -> tuple[jax.Array, None]:
        # The last block overlaps the one before it, so that no row is padded; what was counted already is masked.
        first = jnp.minimum(block * item_block, num_items - item_block)
        ids = first + jnp.arange(item_block)
        skip = seen_in_block(seen, len(queries), first, item_block)
        skip |= (ids[None, :] == targets[:, None]) | (ids < block * item_block)[None, :]

        own, logits = jax.lax.dynamic_slice_in_dim(features, first, item_block), gate_logits(tables, queries, ids)

        def by_scores() -> jax.Array:
            scores = apply(model, params, "score_items", own, states, logits, normaliser)
            return (~(scores < threshold) & ~skip).sum(axis=1)

        if expansion is None or logits is None:
            return total + by_scores(), None
        near = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, item_block), expansion)
        bounded = apply(model, params, "bounded_scores", near, states, logits, "bd,ctd->tbc")
        every = jnp.broadcast_to(ids, skip.shape)
        return total + count_by_bounds(
            model, params, features, states, every, logits, threshold, skip, bounded, MOST_UNSURE, by_scores
        ), None  # fmt: skip

    blocks = jnp.arange(-(-num_items // item_block))
    return jax.lax.scan(count, jnp.zeros(len(queries), jnp.int32), blocks)[0]


def full_ranks(
    model: Recommender, params: Any, data: DeviceData, tables: Tables, evaluation: EvaluationSet, item_block: int,
    seen: np.ndarray | None, progress: Any = None,
) -> np.ndarray:  # fmt: skip
    """[n] int32 ranks of the targets among all items; `seen` from `seen_pairs` leaves those out (never the target itself)."""
    features = item_features(model, params, tables)
    expansion = item_expansion(model, params, features) if has_gates(tables) else None
    item_block = min(item_block, features.shape[0])
    nothing = np.full((1, 2), -1, np.int32)
    ranks = []
    for s, block in enumerate(evaluation.batches):
        targets = evaluation.candidates[s, :, 0]
        left_out = jnp.asarray(nothing if seen is None else seen[s])
        ranks.append(
            _full_ranks(
                model,
                params,
                data,
                tables,
                features,
                expansion,
                evaluation.queries[s],
                evaluation.slots[s],
                evaluation.newest[s],
                targets,
                left_out,
                item_block,
            )  # fmt: skip
        )
        if progress:
            ranks[-1].block_until_ready()
            progress((block >= 0).sum())
    return in_user_order(np.stack([np.asarray(part) for part in ranks]), evaluation)


@functools.partial(jax.jit, static_argnames="model")
def item_features(model: Recommender, params: Any, tables: Tables) -> jax.Array:
    """[V, ...] features of the whole catalogue."""
    return apply(model, params, "item_features", tables)


@functools.partial(jax.jit, static_argnames="model")
def item_expansion(model: Recommender, params: Any, features: jax.Array) -> Expansion | None:
    """What bounds of scores need of the whole catalogue; None for encoders without."""
    return apply(model, params, "expansion", features)


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
