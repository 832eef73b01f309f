"""Ranks of the held-out item: among stored negatives, and among the whole catalogue, in blocks of bounded memory.

Ties are pessimistic: the rank is the number of other candidates that score at least as high, so a constant model scores 0. A score
that is not a number counts as at least as high.

One pass over the catalogue gives two ranks: among all items, and among the items that the user has not had before the target. The second
is the first minus the number of seen items that score at least as high. The target itself is in neither number, so a target that the user
has had before is ranked like any other target.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.evaluation.bounds import Expansion, bounded_scores
from grasp_jax.evaluation.evaluation_set import EvaluationBlocks, EvaluationSet, in_user_order
from grasp_jax.evaluation.ranker import NO_PAIRS, Ranker, UserBlock, UserStates
from grasp_jax.evaluation.seen import seen_in_block
from grasp_jax.parallel.mesh import on_host

# Candidates' features that are scored together on a CPU. XLA divides the work of such a block among the cores; for larger blocks, a size
# that fits into one core's cache is 2.5 times as fast as 64 users at once.
CPU_SHARED_FLOATS, CPU_CACHE_FLOATS = 1_000_000, 320_000
# largest number of items of a user whose order the bounds do not decide; if a user of a block has more, the whole block is scored
MAX_UNDECIDED = 128
MAX_UNDECIDED_NEGATIVES = 16  # the same for the stored negatives
# scores that differ by less are ties, because sums may have been computed in another order
TIE_TOLERANCE = 1e-6


def lowest_tie(target_scores: jax.Array) -> jax.Array:
    """[B] scores of the targets -> [B, 1] the lowest score that counts as at least as high."""
    return (target_scores - TIE_TOLERANCE * jnp.maximum(1.0, jnp.abs(target_scores)))[:, None]


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The items that are ranked against each user's target.

    Attributes:
      users: B users.
      items: [B, C] int32 item rows.
      logits: [B, C, 2] their pair logits.
      threshold: [B, 1] `lowest_tie` of the targets.
      skip: [B, C] bool, items that do not count; or False.
      seen: [B, C] bool, items that are also counted separately; None: no separate count.
    """

    users: UserStates
    items: jax.Array
    logits: jax.Array
    threshold: jax.Array
    skip: jax.Array | bool
    seen: jax.Array | None = None


class FullRanks(NamedTuple):
    """[n] int32 ranks of the targets, from 0.

    Attributes:
      full: among all items.
      unseen: among those that the user has not had before the target.
    """

    full: np.ndarray
    unseen: np.ndarray


def count(higher: jax.Array, seen: jax.Array | None) -> jax.Array:
    """Number of items of each user in the mask `higher` [B, C], and number of these that are seen: [B, 2], or [B, 1] if `seen` is None."""
    counts = [higher.sum(axis=1)]
    if seen is not None:
        counts.append((higher & seen).sum(axis=1))
    return jnp.stack(counts, axis=1)


def count_by_bounds(
    ranker: Ranker,
    candidates: Candidates,
    bounded: tuple[jax.Array, jax.Array],
    max_undecided: int,
    by_scores: Callable[[], jax.Array],
) -> jax.Array:
    """`count` of the items whose score is at least a user's threshold.

    Args:
      ranker: the model.
      candidates: users and items.
      bounded: [B, C] approximate scores, and bounds of their distance from the exact scores.
      max_undecided: largest number of a user's items that the bounds do not decide, and that are then scored exactly; if a user has more,
        `by_scores` counts instead.
      by_scores: function that counts from all exact scores.
    """
    scores, errors = bounded
    threshold = candidates.threshold
    higher = scores - errors >= threshold
    undecided = ~higher & ~(scores + errors < threshold) & ~candidates.skip
    size = min(max_undecided, candidates.items.shape[1])

    def by_bounds() -> jax.Array:
        index = jax.vmap(lambda row: jnp.nonzero(row, size=size, fill_value=0)[0])(undecided)
        exist = jnp.arange(size) < undecided.sum(axis=1, keepdims=True)
        items = jnp.take_along_axis(candidates.items, index, axis=1)
        logits = jnp.take_along_axis(candidates.logits, index[..., None], axis=1)
        users = candidates.users._replace(normaliser=None)
        exact = ranker.candidate_scores(users, items, logits)
        seen = candidates.seen
        undecided_seen = None if seen is None else jnp.take_along_axis(seen, index, axis=1)
        decided = count(higher & ~candidates.skip, seen)
        return decided + count(~(exact < threshold) & exist, undecided_seen)

    counts: jax.Array = jax.lax.cond(undecided.sum(axis=1).max() <= size, by_bounds, by_scores)
    return counts


@jax.jit
def _sampled_ranks(ranker: Ranker, evaluation: EvaluationBlocks) -> jax.Array:
    """[S, B] ranks of the targets among their stored negatives."""
    expansion = None if evaluation.candidate_logits is None else ranker.expansion()

    def block(part: EvaluationBlocks) -> jax.Array:
        users = ranker.states(UserBlock(part.slots, part.newest, part.queries))
        target, items = part.candidates[:, :1], part.candidates[:, 1:]
        target_logits, logits = None, None
        if part.candidate_logits is not None:
            target_logits, logits = part.candidate_logits[:, :1], part.candidate_logits[:, 1:]
        threshold = lowest_tie(ranker.candidate_scores(users, target, target_logits)[:, 0])

        def one_user(user: tuple[jax.Array, jax.Array | None, UserStates]) -> jax.Array:
            items, logits, state = jax.tree.map(lambda leaf: leaf[None], user)
            return ranker.candidate_scores(state, items, logits)[0]

        def by_scores() -> jax.Array:
            at_once = _users_at_once(len(users.states), items.shape[1] * ranker.features[0].size)
            scores: jax.Array = jax.lax.map(one_user, (items, logits, users), batch_size=at_once)
            return count(~(scores < threshold), None)

        if expansion is None or logits is None:
            return by_scores()[:, 0]
        of_items = jax.tree.map(lambda leaf: leaf[items], expansion)
        bounded = bounded_scores(ranker.model, ranker.params, of_items, users.states, logits)
        candidates = Candidates(users, items, logits, threshold, False)
        counts = count_by_bounds(ranker, candidates, bounded, MAX_UNDECIDED_NEGATIVES, by_scores)
        return counts[:, 0]

    ranks: jax.Array = jax.lax.map(block, evaluation)
    return ranks


def _users_at_once(num_users: int, floats_of_user: int) -> int:
    """How many users' candidates are scored together: all of them, except on a CPU if they do not fit into its cache."""
    if jax.default_backend() != "cpu" or num_users * floats_of_user <= CPU_SHARED_FLOATS:
        return num_users
    return max(1, CPU_CACHE_FLOATS // floats_of_user)


def sampled_ranks(ranker: Ranker, evaluation: EvaluationSet) -> np.ndarray:
    """[n] int32 ranks of the targets among their stored negatives."""
    return in_user_order(on_host(_sampled_ranks(ranker, evaluation.blocks)), evaluation)


@functools.partial(jax.jit, static_argnames="item_block")
def _full_ranks(
    ranker: Ranker,
    expansion: Expansion | None,
    block: UserBlock,
    targets: jax.Array,
    seen: jax.Array,
    item_block: int,
) -> jax.Array:
    """[B, 2] ranks of one block of users among all items, and the number of seen items that rank before the target. Items that the bounds
    decide are not scored.
    """
    num_items, num_users = ranker.num_items, block.newest.shape[0]
    users = ranker.states(block)
    threshold = lowest_tie(jnp.diagonal(ranker.scores(users, targets)))

    def one_block(total: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
        # The last block overlaps the one before it, so that no row is padded; items that were counted already are masked.
        first = jnp.minimum(step * item_block, num_items - item_block)
        items = first + jnp.arange(item_block)
        skip = (items[None, :] == targets[:, None]) | (items < step * item_block)[None, :]
        seen_items = seen_in_block(seen, num_users, first, item_block)
        logits = ranker.logits(users, items)

        def by_scores() -> jax.Array:
            scores = ranker.block_scores(users, first, item_block)
            return count(~(scores < threshold) & ~skip, seen_items)

        if expansion is None or logits is None:
            return total + by_scores(), None
        of_items = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, item_block), expansion
        )
        bounded = bounded_scores(ranker.model, ranker.params, of_items, users.states, logits)
        items = jnp.broadcast_to(items, skip.shape)
        candidates = Candidates(users, items, logits, threshold, skip, seen_items)
        counts = count_by_bounds(ranker, candidates, bounded, MAX_UNDECIDED, by_scores)
        return total + counts, None

    steps = jnp.arange(-(-num_items // item_block))
    return jax.lax.scan(one_block, jnp.zeros((num_users, 2), jnp.int32), steps)[0]


def full_ranks(
    ranker: Ranker,
    evaluation: EvaluationSet,
    item_block: int,
    seen: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> FullRanks:
    """Ranks of the targets among all items, and among the items that their users have not had.

    Args:
      ranker: the model.
      evaluation: the users and their targets.
      item_block: items scored at once.
      seen: [S, J, 2] from `seen_pairs`, the items that users have had; None: nothing, so both ranks are the same.
      progress: called with the number of users after each block.
    """
    expansion = ranker.expansion()
    item_block = min(item_block, ranker.num_items)
    counts = []
    for step, rows in enumerate(evaluation.batches):
        block, targets = evaluation.block(step)
        block_ranker, block = ranker.for_block(block)
        pairs = jax.device_put(NO_PAIRS if seen is None else seen[step])
        counts.append(_full_ranks(block_ranker, expansion, block, targets, pairs, item_block))
        if progress:
            counts[-1].block_until_ready()
            progress(int((rows >= 0).sum()))
    full, seen_above = in_user_order(np.stack(on_host(counts)), evaluation).T
    return FullRanks(full, full - seen_above)
