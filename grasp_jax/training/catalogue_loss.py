"""The loss "ce": cross-entropy over the whole catalogue, of scores that are a product and of scores that gates enter."""

import math

import jax
import jax.numpy as jnp

from grasp_jax.models.batch import BlockScores, CatalogueScores, parts_of_towers
from grasp_jax.parallel.blocks import ARRAYS_OF_GATES, rows_of_block
from grasp_jax.training.cross_entropy import CrossEntropy


def catalogue_cross_entropy(
    scores: CatalogueScores | BlockScores, core: CrossEntropy, towers: str = "each"
) -> jax.Array:
    """Cross-entropy, averaged over the targets that exist, plus the method's additional loss.

    Args:
      scores: of each target and every item.
      core: computes the cross-entropy of one product of states and items.
      towers: for scores that are a sum of several products: "each" (the sum of the losses of the products), "sum" (the loss of the summed
        score) or "both".
    """
    weights = scores.mask / jnp.maximum(scores.mask.sum(), 1)
    if isinstance(scores, BlockScores):
        return _in_blocks(scores, weights, core.smoothing) + scores.auxiliary
    losses = [
        core(states, items, scores.targets, weights) for states, items in _products(scores, towers)
    ]
    return jnp.stack(losses).sum() + scores.auxiliary


def _products(scores: CatalogueScores, towers: str) -> list[tuple[jax.Array, jax.Array]]:
    """States and items of each cross-entropy."""
    whole = [(scores.states, scores.items)]
    if not scores.towers or towers == "sum":
        return whole
    parts = (parts_of_towers(x, scores.towers) for x in whole[0])
    each = list(zip(*parts, strict=True))
    return each if towers == "each" else each + whole


def _in_blocks(scores: BlockScores, weights: jax.Array, smoothing: float) -> jax.Array:
    """Scores of a block of targets are computed again in the backward pass, so that none are stored."""
    count = len(scores.targets)
    example = jax.tree.map(lambda x: x[:1], scores.rows)
    num_items = jax.eval_shape(scores.score, example).shape[1]
    rows = rows_of_block(count, ARRAYS_OF_GATES * num_items, jax.default_backend())
    blocks = math.ceil(count / rows)
    index = jnp.arange(blocks * rows).reshape(blocks, rows)

    @jax.checkpoint
    def one_block(index: jax.Array) -> jax.Array:
        taken = jnp.minimum(index, count - 1)
        known = scores.score(jax.tree.map(lambda x: x[taken], scores.rows))
        asked = jnp.take_along_axis(known, scores.targets[taken][:, None], axis=1)[:, 0]
        loss = jax.nn.logsumexp(known, axis=1) - asked
        if smoothing:
            others = (known.sum(axis=1) - asked) / max(num_items - 1, 1)
            loss += smoothing * (asked - others)
        return (jnp.where(index < count, weights[taken], 0.0) * loss).sum()

    losses: jax.Array = jax.lax.map(one_block, index)
    return losses.sum()
