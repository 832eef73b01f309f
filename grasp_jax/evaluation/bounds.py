"""Scores of pairs by products D wide, with a bound on their error: this is enough to rank most items if gates hardly move.

A gate is a sigmoid of a logit that for the paper's scale is at most 1/sqrt(E) (Eq. 3), so a pair's first layer stays near that of an
item whose gates rest at the logit 0. With gates g = rest + e and the projections p of an item (`models.encoders.holistic`),

    x = x0 + sum_k e_k p_k,    act(x) = act(x0) + act'(x0) (x - x0) + r,    |r| <= C/2 (x - x0)^2,    |x - x0| <= max_k |e_k| sum_k |p_k|

with C the largest curvature of the activation. The last layer is linear, so act(x0) and each act'(x0) p_k go through it once per item,
and the score o . W act(x) of a pair is four products of D numbers, instead of H activations; its bound is a product of H numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.models.batch import Params
from grasp_jax.models.encoders.base import GatedHead
from grasp_jax.models.sequence_model import SequenceModel, apply

EXACT = jax.lax.Precision.HIGHEST  # TF32 would be coarser than the bound


class Expansion(NamedTuple):
    """What the bounds need to know about items, [...] of them.

    Attributes:
      terms: [..., 4, D] act(x0), and act'(x0) times each of the three projections, through the last layer.
      spread: [..., H] C/2 (sum_k |p_k|)^2.
      size: [..., 2] the length over H of act(x0), and the sum of the lengths of each act'(x0) p_k; rounding errors are shares of these.
    """

    terms: jax.Array
    spread: jax.Array
    size: jax.Array


def expansion(model: SequenceModel, params: Params, features: jax.Array) -> Expansion | None:
    """Computes what `bounded_scores` needs from the `item_features` [C, 3, H] of items; None for models without such bounds."""
    head = apply(model, params, SequenceModel.gated_head)
    return None if head is None else expand(head, features)


def bounded_scores(
    model: SequenceModel, params: Params, of_items: Expansion, states: jax.Array, logits: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Approximate scores of pairs, and bounds of their distance from the exact scores: [B, C] each.

    Args:
      model, params: a model whose `expansion` is not None.
      of_items: of C items that all users share, or of each user's own [B, C] items.
      states: o [B, D].
      logits: [B, C, 2] pair logits.
    """
    gates, head = (
        apply(model, params, SequenceModel.gates, logits),
        apply(model, params, SequenceModel.gated_head),
    )
    assert gates is not None and head is not None
    scores, slack = near_scores(head, of_items, states, gates - head.rest)
    return scores + apply(model, params, SequenceModel.score_offset, states)[:, None], slack


def expand(head: GatedHead, features: jax.Array) -> Expansion:
    """Of the projections [C, 3, H] of items."""
    x0 = jnp.einsum("k,ckh->ch", head.rest, features) + head.bias
    value, slope = jax.jvp(head.activation, (x0,), (jnp.ones_like(x0),))
    terms = jnp.concatenate([value[:, None], slope[:, None] * features], axis=1)
    spread = 0.5 * head.curvature * jnp.abs(features).sum(axis=1) ** 2
    lengths = jnp.linalg.norm(terms, axis=-1)
    size = jnp.stack([lengths[:, 0], lengths[:, 1:].sum(axis=1)], axis=-1)
    return Expansion(jnp.einsum("cth,hd->ctd", terms, head.kernel, precision=EXACT), spread, size)


def near_scores(
    head: GatedHead, of_items: Expansion, states: jax.Array, moved: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Approximate scores without the last layer's bias, and bounds of their distance from the exact ones: [B, C] each.

    Args:
      head: of the encoder.
      of_items: of C items that all users share, or of each user's own [B, C] items.
      states: o [B, D].
      moved: [B, C, 3] gates minus their value at rest.
    """
    items = "bc" if of_items.spread.ndim == 3 else "c"
    value, *slopes = jnp.einsum(f"bd,{items}td->tbc", states, of_items.terms, precision=EXACT)
    score = value + sum(moved[..., k] * slopes[k] for k in range(3))
    weights = jnp.abs(jnp.einsum("bd,hd->bh", states, head.kernel, precision=EXACT))
    most = jnp.abs(moved).max(axis=-1)
    curved = most**2 * jnp.einsum(f"bh,{items}h->bc", weights, of_items.spread, precision=EXACT)
    size = of_items.size[..., 0] + most * of_items.size[..., 1]
    rounding = (
        0.5 * float(np.finfo(np.float32).eps) * sum(head.kernel.shape)
    )  # of two sums, one after the other
    of_state = jnp.linalg.norm(states, axis=-1)[:, None] * jnp.linalg.norm(head.kernel)
    return score, curved + rounding * of_state * size
