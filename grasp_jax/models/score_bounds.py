"""Scores of all pairs by matrix products, with a bound on their error: enough to rank most items where gates hardly move.

A gate is a sigmoid of a logit that for the paper's scale is at most 1/sqrt(E) (Eq. 3), so a pair's first layer stays near that of an
item whose gates rest at the logit 0. With gates g = rest + e and the projections p of an item (`models.holistic`),

    x = x0 + sum_k e_k p_k,    act(x) = act(x0) + act'(x0) (x - x0) + r,    |r| <= C/2 (x - x0)^2,    |x - x0| <= max_k |e_k| sum_k |p_k|

with C the largest curvature of the activation. The score w . act(x) of all pairs is then four matrix products, its bound a fifth, in
place of H activations a pair.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

GELU_CURVATURE = 0.797885  # of the tanh form, at 0, where it is sqrt(2 / pi)


class Expansion(NamedTuple):
    """What the bounds need of C items.

    Attributes:
      terms: [C, 4, H] act(x0), and act'(x0) times each of the three projections.
      spread: [C, H] C/2 (sum_k |p_k|)^2.
      size: [C] length of act(x0).
    """

    terms: jax.Array
    spread: jax.Array
    size: jax.Array


def expand(
    features: jax.Array, rest: jax.Array, bias: jax.Array, activation: Callable[[jax.Array], jax.Array], curvature: float
) -> Expansion:
    """[C, 3, H] projections and [3] gates at rest."""
    x0 = jnp.einsum("k,ckh->ch", rest, features) + bias
    value, slope = jax.jvp(activation, (x0,), (jnp.ones_like(x0),))
    terms = jnp.concatenate([value[:, None], slope[:, None] * features], axis=1)
    return Expansion(terms, 0.5 * curvature * jnp.abs(features).sum(axis=1) ** 2, jnp.linalg.norm(value, axis=-1))


def bounded_scores(expansion: Expansion, weights: jax.Array, moved: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scores, and how far at most the exact ones are from them.

    Args:
      expansion: of C items.
      weights: [B, H] score weights of the users.
      moved: [B, C, 3] gates less their rest.

    Returns:
      [B, C] each.
    """
    exact = jax.lax.Precision.HIGHEST  # TF32 would be coarser than the bound
    value, *slopes = jnp.moveaxis(jnp.einsum("bh,cth->btc", weights, expansion.terms, precision=exact), 1, 0)
    score = value + sum(moved[..., k] * slopes[k] for k in range(3))
    curved = jnp.einsum("bh,ch->bc", jnp.abs(weights), expansion.spread, precision=exact)
    rounding = jnp.finfo(jnp.float32).eps * weights.shape[-1] * jnp.linalg.norm(weights, axis=-1)[:, None] * expansion.size
    return score, jnp.abs(moved).max(axis=-1) ** 2 * curved + rounding
