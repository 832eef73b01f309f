"""Approximate scores of pairs by products of width D, with bounds of their error: enough to rank most items if gates hardly vary.

A gate is a sigmoid of a logit that is at most 1/sqrt(E) for the paper's scale (Eq. 3), so a pair's first layer is near that of an item with
the gates at logit 0, `rest`. With gates g = rest + e and the projections p of an item (`models.encoders.holistic`),

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
    """The values of items [...] from which approximate scores and bounds are computed.

    Attributes:
      terms: [..., 4, D] act(x0), and act'(x0) times each of the three projections, through the last layer.
      spread: [..., H] C/2 (sum_k |p_k|)^2.
      size: [..., 2] the length over H of act(x0), and the sum of the lengths of each act'(x0) p_k; rounding errors are shares of these.
    """

    terms: jax.Array
    spread: jax.Array
    size: jax.Array


def expansion(model: SequenceModel, params: Params, features: jax.Array) -> Expansion | None:
    """Computes what `bounded_scores` needs from the `item_features` of items, [C, 3, H]; None for models without such bounds."""
    head = apply(model, params, SequenceModel.gated_head)
    return None if head is None else expand(head, features)


def bounded_scores(
    model: SequenceModel, params: Params, of_items: Expansion, states: jax.Array, logits: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Approximate scores of pairs, and bounds of their distance from the exact scores: [B, C] each.

    Args:
      model, params: a model whose `expansion` is not None.
      of_items: expansion of C items that all users share, or of separate items [B, C] for each user.
      states: o [B, D].
      logits: [B, C, 2] pair logits.
    """
    gates, head = (
        apply(model, params, SequenceModel.gates, logits),
        apply(model, params, SequenceModel.gated_head),
    )
    assert gates is not None and head is not None
    scores, errors = approximate_scores(head, of_items, states, gates - head.rest)
    return scores + apply(model, params, SequenceModel.score_offset, states)[:, None], errors


def expand(head: GatedHead, features: jax.Array) -> Expansion:
    """The expansion of items with the projections [C, 3, H]."""
    x0 = jnp.einsum("k,ckh->ch", head.rest, features) + head.bias
    value, slope = jax.jvp(head.activation, (x0,), (jnp.ones_like(x0),))
    terms = jnp.concatenate([value[:, None], slope[:, None] * features], axis=1)
    spread = 0.5 * head.curvature * jnp.abs(features).sum(axis=1) ** 2
    lengths = jnp.linalg.norm(terms, axis=-1)
    size = jnp.stack([lengths[:, 0], lengths[:, 1:].sum(axis=1)], axis=-1)
    return Expansion(jnp.einsum("cth,hd->ctd", terms, head.kernel, precision=EXACT), spread, size)


def approximate_scores(
    head: GatedHead, of_items: Expansion, states: jax.Array, gate_changes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Approximate scores without the last layer's bias, and bounds of their distance from the exact ones: [B, C] each.

    Args:
      head: `gated_head` of the encoder.
      of_items: expansion of C items that all users share, or of separate items [B, C] for each user.
      states: o [B, D].
      gate_changes: [B, C, 3] gates minus their values at logit 0.
    """
    items = "bc" if of_items.spread.ndim == 3 else "c"
    value, *slopes = jnp.einsum(f"bd,{items}td->tbc", states, of_items.terms, precision=EXACT)
    score = value + sum(gate_changes[..., k] * slopes[k] for k in range(3))
    weights = jnp.abs(jnp.einsum("bd,hd->bh", states, head.kernel, precision=EXACT))
    largest = jnp.abs(gate_changes).max(axis=-1)
    remainder = largest**2 * jnp.einsum(
        f"bh,{items}h->bc", weights, of_items.spread, precision=EXACT
    )
    size = of_items.size[..., 0] + largest * of_items.size[..., 1]
    # of two sums, one after the other
    rounding = 0.5 * float(np.finfo(np.float32).eps) * sum(head.kernel.shape)
    of_state = jnp.linalg.norm(states, axis=-1)[:, None] * jnp.linalg.norm(head.kernel)
    return score, remainder + rounding * of_state * size
