"""The gates: sigmoid attention between a user and an item (Eq. 3), one scalar per pair, and the variants of `config.model.gate`.

With one query and one key per pair, `A(q, v) = gate(q.v / sqrt(E)) v`. The three logits of a pair come from two dot products:
`s1 = u.i / sqrt(E)`, `s2 = ubar.ibar / sqrt(E)`, and for the concatenated vectors of width 2E `(s1 + s2) / sqrt(2)`.
"""

import jax
import jax.numpy as jnp

NAMES = ("self", "similar", "global")  # of the gates, in the order of `pair_gates`


def sigmoid_attention(query: jax.Array, value: jax.Array) -> jax.Array:
    """Eq. 3 as written, [..., E] and [..., E] -> [..., E]; the plain reference for everything else in this file."""
    logit = jnp.einsum("...e,...e->...", query, value) / jnp.sqrt(query.shape[-1])
    return jax.nn.sigmoid(logit)[..., None] * value


def pair_logits(
    users: jax.Array,
    users_similar: jax.Array,
    items: jax.Array,
    items_similar: jax.Array,
    subscripts: str = "...e,...e->...",
) -> jax.Array:
    """The two logits (s1, s2) of user-item pairs. The tables are frozen, so the logits are constants: they are computed once and stored as
    two floats.

    Args:
      users, users_similar: u and ubar.
      items, items_similar: i and ibar.
      subscripts: einsum of one of the two products; "ue,ve->uv" gives all pairs.

    Returns:
      [..., 2] float32.
    """
    scale = 1.0 / jnp.sqrt(jnp.float32(items.shape[-1]))
    own = _dot(subscripts, users, items)
    similar = _dot(subscripts, users_similar, items_similar)
    return jnp.stack([own, similar], axis=-1) * scale


def _dot(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    # Half-precision tables are converted to float32, because a logit is a sum of E small terms.
    return jnp.einsum(subscripts, a.astype(jnp.float32), b.astype(jnp.float32))


def three_logits(logits: jax.Array) -> jax.Array:
    """(s1, s2) -> logits of self, similar and global attention (Eq. 4); [..., 2] -> [..., 3]."""
    return jnp.concatenate([logits, logits.sum(axis=-1, keepdims=True) / jnp.sqrt(2.0)], axis=-1)


def pair_gates(
    kind: str,
    logits: jax.Array,
    temperature: jax.Array | None = None,
    bias: jax.Array | None = None,
    normaliser: jax.Array | None = None,
) -> jax.Array:
    """The gates of self, similar and global attention.

    Args:
      kind: "paper" (sigmoid, Eq. 3), "learned" (a temperature and a bias for each of the three), "none" (all one) or "softmax".
      logits: [..., 2] from `pair_logits`.
      temperature, bias: [3], for "learned".
      normaliser: [..., 3] log of the softmax denominator, for "softmax".

    Returns:
      [..., 3].
    """
    if kind == "none":
        return jnp.ones((*logits.shape[:-1], 3), logits.dtype)
    three = three_logits(logits)
    if kind == "softmax":
        assert normaliser is not None
        return jnp.exp(three - normaliser)
    if kind == "learned":
        assert temperature is not None and bias is not None
        three = three * temperature + bias
    return jax.nn.sigmoid(three)


def history_normaliser(logits: jax.Array, segments: jax.Array) -> jax.Array:
    """Softmax denominators over each user's history up to a position, the "list at hand" of Table 4.

    They are causal: a gate never depends on what the user bought later. The denominator of position t+1 is that of position t with item t+1
    appended. So an item has the same gate as input and as target, and `candidate_normaliser` computes the same gate for a candidate.

    Args:
      logits: [R, L, 2].
      segments: [R, L] int32; equal values of one row belong to one user, -1 is empty.

    Returns:
      [R, L, 3] log of the sum over the history that a position belongs to, itself and earlier positions.
    """
    length = segments.shape[1]
    in_sum = (
        (segments[:, :, None] == segments[:, None, :])
        & (segments >= 0)[:, None, :]
        & jnp.tril(jnp.ones((length, length), bool))
    )
    terms = jnp.where(in_sum[..., None], three_logits(logits)[:, None, :, :], -jnp.inf)
    return jnp.where(segments[..., None] >= 0, jax.nn.logsumexp(terms, axis=2), 0.0)


def normaliser_with_candidates(
    logits: jax.Array | None, history: jax.Array | None
) -> jax.Array | None:
    """[n, C, 2] logits of candidates and [n, 3] denominators of histories -> the denominators of the candidates' gates, [n, C, 3].

    None if there are no logits, or no denominators because gates are not normalised.
    """
    if logits is None or history is None:
        return None
    return candidate_normaliser(logits, history[:, None])


def candidate_normaliser(logits: jax.Array, normaliser: jax.Array) -> jax.Array:
    """Denominators for candidates: the history with this candidate appended. [..., 2] and [..., 3] -> [..., 3]."""
    return jnp.logaddexp(three_logits(logits), normaliser)
