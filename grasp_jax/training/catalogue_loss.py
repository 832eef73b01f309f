"""The loss "ce": cross-entropy over the whole catalogue, for scores that are inner products and for scores that depend on gates."""

import math

import jax
import jax.numpy as jnp

from grasp_jax.models.batch import BlockScores, CatalogueScores, split_towers
from grasp_jax.parallel.blocks import ARRAYS_OF_GATES, rows_of_block
from grasp_jax.training.cross_entropy import CrossEntropy


def catalogue_cross_entropy(
    scores: CatalogueScores | BlockScores, cross_entropy: CrossEntropy
) -> jax.Array:
    """Cross-entropy, averaged over the targets that exist, plus the method's additional loss. If the score is a sum of towers, their
    cross-entropies are added.

    Args:
      scores: of each target and every item.
      cross_entropy: the loss of one product of states and items.
    """
    weights = scores.mask / jnp.maximum(scores.mask.sum(), 1)
    if isinstance(scores, BlockScores):
        return _in_blocks(scores, weights, cross_entropy.smoothing) + scores.auxiliary
    losses = [
        cross_entropy(states, items, scores.targets, weights) for states, items in _products(scores)
    ]
    return jnp.stack(losses).sum() + scores.auxiliary


def _products(scores: CatalogueScores) -> list[tuple[jax.Array, jax.Array]]:
    """States and items of each cross-entropy."""
    if not scores.towers:
        return [(scores.states, scores.items)]
    parts = (split_towers(x, scores.towers) for x in (scores.states, scores.items))
    return list(zip(*parts, strict=True))


def _in_blocks(scores: BlockScores, weights: jax.Array, smoothing: float) -> jax.Array:
    """The weighted sum of the losses, one block of targets after the other. The backward pass computes the scores again, so none is
    stored.
    """
    count = len(scores.targets)
    example = jax.tree.map(lambda x: x[:1], scores.rows)
    num_items = jax.eval_shape(scores.score, example).shape[1]
    rows = rows_of_block(count, ARRAYS_OF_GATES * num_items, jax.default_backend())
    blocks = math.ceil(count / rows)
    index = jnp.arange(blocks * rows).reshape(blocks, rows)

    @jax.checkpoint
    def one_block(index: jax.Array) -> jax.Array:
        block = jnp.minimum(index, count - 1)
        item_scores = scores.score(jax.tree.map(lambda x: x[block], scores.rows))
        target_scores = jnp.take_along_axis(item_scores, scores.targets[block][:, None], axis=1)[
            :, 0
        ]
        loss = jax.nn.logsumexp(item_scores, axis=1) - target_scores
        if smoothing:
            mean_of_others = (item_scores.sum(axis=1) - target_scores) / max(num_items - 1, 1)
            loss += smoothing * (target_scores - mean_of_others)
        return (jnp.where(index < count, weights[block], 0.0) * loss).sum()

    losses: jax.Array = jax.lax.map(one_block, index)
    return losses.sum()
