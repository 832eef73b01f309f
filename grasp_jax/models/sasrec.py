"""SASRec (Kang and McAuley, 2018, arXiv 1808.09781) over packed rows.

A row holds several users' histories end to end; attention stays within a segment and, by default, looks only backwards.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from grasp_jax.models.dropout import Dropout


def attention_mask(segments: jax.Array, causal: bool) -> jax.Array:
    """[R, L] segment ids -> [R, L, L] bool: may position q (axis 1) look at position k (axis 2)?

    Empty positions (segment -1) look at themselves alone, so that no softmax runs over nothing.
    """
    length = segments.shape[1]
    allowed = segments[:, :, None] == segments[:, None, :]
    if causal:
        allowed &= jnp.tril(jnp.ones((length, length), bool))
    return (allowed & (segments >= 0)[:, :, None]) | jnp.eye(length, dtype=bool)


class SelfAttention(nn.Module):
    """Softmax attention in which queries are normalised and keys and values are not, as in the published SASRec."""

    features: int
    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, queries: jax.Array, values: jax.Array, allowed: jax.Array, dropout: jax.Array | None) -> jax.Array:
        head_width = self.features // self.num_heads

        def project(x: jax.Array, name: str) -> jax.Array:
            y = nn.Dense(self.features, dtype=self.dtype, kernel_init=nn.initializers.xavier_normal(), name=name)(x)
            return y.reshape(*x.shape[:-1], self.num_heads, head_width)

        q, k, v = project(queries, "query"), project(values, "key"), project(values, "value")
        scores = jnp.einsum("rqnd,rknd->rnqk", q, k, preferred_element_type=jnp.float32) / jnp.sqrt(jnp.float32(head_width))
        weights = jax.nn.softmax(jnp.where(allowed[:, None], scores, -1e9), axis=-1).astype(self.dtype)
        weights = Dropout()(weights, dropout)
        attended = jnp.einsum("rnqk,rknd->rqnd", weights, v).reshape(queries.shape)
        return nn.Dense(self.features, dtype=self.dtype, kernel_init=nn.initializers.xavier_normal(), name="out")(attended)


class SASRec(nn.Module):
    """Stacked self-attention blocks; the state at a position predicts the item after it.

    Attributes:
      features: D.
      max_length: number of position embeddings.
      num_layers, num_heads: blocks and heads per block.
      causal: False reproduces LLM-ESR, whose mask is switched off (docs/deviations.md).
      dtype: compute type; parameters and normalisation are float32.
    """

    features: int
    max_length: int
    num_layers: int = 2
    num_heads: int = 1
    causal: bool = True
    dtype: jnp.dtype = jnp.float32

    bidirectional = False

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict, max_length: int) -> "SASRec":
        """The backbone of a config's `model` section, for histories of up to `max_length` items."""
        return cls(config.features, max_length, config.num_layers, config.num_heads, config.causal, jnp.dtype(config.dtype))

    @nn.compact
    def __call__(self, vectors: jax.Array, segments: jax.Array, positions: jax.Array, dropout: jax.Array | None = None) -> jax.Array:
        """Item vectors [R, L, D] with segments and positions [R, L] -> states o [R, L, D] float32.

        `dropout` is the rate, or None outside training (needs the random stream "dropout" otherwise).
        """
        table = self.param("positions", nn.initializers.xavier_normal(), (self.max_length, self.features))
        x = vectors * jnp.sqrt(jnp.float32(self.features)) + table[jnp.clip(positions, 0, self.max_length - 1)]
        x = Dropout()(x, dropout).astype(self.dtype)
        allowed = attention_mask(segments, self.causal)
        for _ in range(self.num_layers):
            normalised = nn.LayerNorm(epsilon=1e-8)(x)
            x = normalised + SelfAttention(self.features, self.num_heads, self.dtype)(normalised, x, allowed, dropout)
            x = nn.LayerNorm(epsilon=1e-8)(x)
            hidden = nn.Dense(self.features, dtype=self.dtype, kernel_init=nn.initializers.xavier_normal())(x)
            hidden = jax.nn.relu(Dropout()(hidden, dropout))
            hidden = nn.Dense(self.features, dtype=self.dtype, kernel_init=nn.initializers.xavier_normal())(hidden)
            x = (x + Dropout()(hidden, dropout)).astype(self.dtype)
        return nn.LayerNorm(epsilon=1e-8)(x).astype(jnp.float32)
