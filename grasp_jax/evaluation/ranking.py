"""Ranks of the held-out item: among stored negatives, and among the whole catalogue, in blocks of bounded memory.

Ties are pessimistic: the rank is the number of other candidates that score at least as high, so a constant model scores 0. A score
that is not a number counts as at least as high.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.evaluation.catalogue import gate_logits, item_expansion, item_features, seen_in_block
from grasp_jax.evaluation.questions import EvaluationSet, in_user_order
from grasp_jax.models.device_data import DeviceData, gather_batch, with_query_rows
from grasp_jax.models.recommender import Recommender, Tables, apply
from grasp_jax.models.score_bounds import Expansion
from grasp_jax.parallel.mesh import on_host

# Candidates' features scored together on a CPU. A block of so few is shared out among the cores; of more, what stays in one core's cache is
# 2.5 times as fast as 64 users at once.
CPU_SHARED_FLOATS, CPU_CACHE_FLOATS = 1_000_000, 320_000
MOST_UNSURE = 128  # items of a block that a user's bounds may leave open; with more, the whole block is scored
MOST_UNSURE_NEGATIVES = 16  # the same of the stored negatives
TIE_TOLERANCE = 1e-6  # the target's score and the others' may be summed in another order; closer than this is a tie


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
                of_user = ids.shape[1] * features[0].size
                together = together if together * of_user <= CPU_SHARED_FLOATS else max(1, CPU_CACHE_FLOATS // of_user)
            scores = jax.lax.map(one_user, (ids, states, logits, normaliser), batch_size=together)
            return (~(scores < threshold)).sum(axis=1)

        if expansion is None or logits is None:
            return by_scores()
        own = jax.tree.map(lambda leaf: leaf[ids], expansion)
        bounded = apply(model, params, "bounded_scores", own, states, logits, "bc")
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
    return in_user_order(on_host(ranks), evaluation)


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
        bounded = apply(model, params, "bounded_scores", near, states, logits, "c")
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
    expansion = item_expansion(model, params, features)
    item_block = min(item_block, features.shape[0])
    nothing = np.full((1, 2), -1, np.int32)
    ranks = []
    for s, block in enumerate(evaluation.batches):
        targets = evaluation.candidates[s, :, 0]
        left_out = nothing if seen is None else seen[s]
        read, queries = with_query_rows(tables, evaluation.queries[s])
        own = queries, evaluation.slots[s], evaluation.newest[s], targets
        ranks.append(_full_ranks(model, params, data, read, features, expansion, *own, left_out, item_block))
        if progress:
            ranks[-1].block_until_ready()
            progress((block >= 0).sum())
    return in_user_order(np.stack(on_host(ranks)), evaluation)
