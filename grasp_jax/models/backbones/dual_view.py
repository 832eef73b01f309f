"""LLM-ESR's backbone for items with two views (Liu et al., 2024, arXiv 2405.20646), around any other backbone.

Cross-attention in both directions joins the views, and one shared backbone runs on each. A state is the concatenation of the states of both
views, like an item's vector (`encoders.dual_view`), and a score is the inner product.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.kernels.attention_blocks import attention_mask
from grasp_jax.models.backbones.base import BackboneWrapper
from grasp_jax.models.backbones.sasrec import embedded, position_table
from grasp_jax.models.dropout import for_each
from grasp_jax.models.masked import MASKED


class CrossAttention(nn.Module):
    """Queries of one view attend to the other view's sequence; no bias except in the output, no residual."""

    features: int
    num_heads: int

    @nn.compact
    def __call__(self, queries: jax.Array, values: jax.Array, allowed: jax.Array) -> jax.Array:
        """[R, L, D], [R, L, D] and the mask [R, L, L] -> [R, L, D]."""
        split = (*queries.shape[:-1], self.num_heads, self.features // self.num_heads)
        q = nn.Dense(self.features, use_bias=False, name="query")(queries).reshape(split)
        k = nn.Dense(self.features, use_bias=False, name="key")(values).reshape(split)
        v = nn.Dense(self.features, use_bias=False, name="value")(values).reshape(split)
        scores = jnp.einsum("rqnd,rknd->rnqk", q, k) / jnp.sqrt(jnp.float32(split[-1]))
        weights = jax.nn.softmax(jnp.where(allowed[:, None], scores, MASKED), axis=-1)
        return nn.Dense(self.features, name="out")(
            jnp.einsum("rnqk,rknd->rqnd", weights, v).reshape(queries.shape)
        )


class DualView(BackboneWrapper):
    """Cross-attention before a backbone that both views share.

    As in LLM-ESR's code (https://github.com/liuqidong07/LLM-ESR, models/DualLLMSRS.py) each view is scaled by sqrt(D), gets position
    embeddings and passes dropout once, before the cross-attention; the result enters the layers of the backbone unchanged.

    Attributes:
      backbone: of width D; without its own input stage, if `with_positions`.
      features: D.
      max_length: number of position embeddings.
      causal: whether the cross-attention only looks backwards; as the backbone.
      with_positions: whether there is an input stage before the cross-attention; LLM-ESR's GRU4Rec has none.
      num_heads: of the cross-attention.
    """

    features: int
    max_length: int
    causal: bool
    with_positions: bool = True
    num_heads: int = 2

    @property
    def is_causal(self) -> bool:
        """`causal`."""
        return self.causal

    @nn.compact
    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Item vectors [R, L, 2D] -> states [R, L, 2D], both [ID view | text view]; with [B] `places`, only their states [B, 2D]."""
        ids, text = jnp.split(vectors, 2, axis=-1)
        if self.with_positions:
            table = self.param("positions", *position_table(self.max_length, self.features))
            ids, text = embedded([ids, text], table, positions, dropout)
        allowed = attention_mask(segments, self.causal)
        crossed = [
            CrossAttention(self.features, self.num_heads, name="text_to_id")(text, ids, allowed),
            CrossAttention(self.features, self.num_heads, name="id_to_text")(ids, text, allowed),
        ]
        views = for_each(
            self.backbone,
            lambda backbone, view: backbone(view, segments, positions, dropout, places),
            jnp.stack(crossed),
        )
        return jnp.concatenate([*views], axis=-1)
