"""Scores of pairs by products D wide, with a bound on their error: enough to rank most items where gates hardly move.

A gate is a sigmoid of a logit that for the paper's scale is at most 1/sqrt(E) (Eq. 3), so a pair's first layer stays near that of an
item whose gates rest at the logit 0. With gates g = rest + e and the projections p of an item (`models.holistic`),

    x = x0 + sum_k e_k p_k,    act(x) = act(x0) + act'(x0) (x - x0) + r,    |r| <= C/2 (x - x0)^2,    |x - x0| <= max_k |e_k| sum_k |p_k|

with C the largest curvature of the activation. The last layer is linear, so act(x0) and each act'(x0) p_k go through it once per item,
and the score o . W act(x) of a pair is four products of D numbers, in place of H activations; its bound is a product of H numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

EXACT = jax.lax.Precision.HIGHEST  # TF32 would be coarser than the bound
GELU_CURVATURE = 0.797885  # of the tanh form, at 0, where it is sqrt(2 / pi)


class Expansion(NamedTuple):
    """What the bounds need of items, [...] of them.

    Attributes:
      terms: [..., 4, D] act(x0), and act'(x0) times each of the three projections, through the last layer.
      spread: [..., H] C/2 (sum_k |p_k|)^2.
      size: [..., 2] length over H of act(x0), and those of each act'(x0) p_k, added: what rounding is a share of.
    """

    terms: jax.Array
    spread: jax.Array
    size: jax.Array


def expand(
    features: jax.Array, rest: jax.Array, bias: jax.Array, activation: Callable[[jax.Array], jax.Array], curvature: float,
    last_kernel: jax.Array,
) -> Expansion:  # fmt: skip
    """[C, 3, H] projections, [3] gates at rest and the [H, D] matrix of the last layer."""
    x0 = jnp.einsum("k,ckh->ch", rest, features) + bias
    value, slope = jax.jvp(activation, (x0,), (jnp.ones_like(x0),))
    terms = jnp.concatenate([value[:, None], slope[:, None] * features], axis=1)
    spread = 0.5 * curvature * jnp.abs(features).sum(axis=1) ** 2
    lengths = jnp.linalg.norm(terms, axis=-1)
    size = jnp.stack([lengths[:, 0], lengths[:, 1:].sum(axis=1)], axis=-1)
    return Expansion(jnp.einsum("cth,hd->ctd", terms, last_kernel, precision=EXACT), spread, size)


def bounded_scores(
    expansion: Expansion, states: jax.Array, moved: jax.Array, last_kernel: jax.Array, items: str
) -> tuple[jax.Array, jax.Array]:
    """Scores, without the last layer's bias, and how far at most the exact ones are from them: [B, C] each.

    Args:
      expansion: of C items that all users share, or of [B, C] items.
      states: o [B, D].
      moved: [B, C, 3] gates less their rest.
      last_kernel: as for `expand`.
      items: "c" of C items, "bc" of [B, C] items; axes for einsum.
    """
    value, *slopes = jnp.einsum(f"bd,{items}td->tbc", states, expansion.terms, precision=EXACT)
    score = value + sum(moved[..., k] * slopes[k] for k in range(3))
    weights = jnp.abs(jnp.einsum("bd,hd->bh", states, last_kernel, precision=EXACT))
    most = jnp.abs(moved).max(axis=-1)
    curved = most**2 * jnp.einsum(f"bh,{items}h->bc", weights, expansion.spread, precision=EXACT)
    size = expansion.size[..., 0] + most * expansion.size[..., 1]
    rounding = 0.5 * jnp.finfo(jnp.float32).eps * sum(last_kernel.shape)  # of two sums, one after the other
    return score, curved + rounding * jnp.linalg.norm(states, axis=-1)[:, None] * jnp.linalg.norm(last_kernel) * size
