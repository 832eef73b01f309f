"""LLM-ESR's two views of an item (Liu et al., 2024, arXiv 2405.20646): a trained ID vector and an adapted text vector.

Over a sequence the views are joined by cross-attention, in both directions, and one shared backbone runs on both; a state is the two
views side by side, as is an item's vector, and a score is their product.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.dropout import Dropout, for_each
from grasp_jax.models.id_encoder import UngatedEncoder, id_rows
from grasp_jax.models.sasrec import attention_mask
from grasp_jax.parallel.rows import from_all_rows, from_rows


class DualViewEncoder(UngatedEncoder):
    """Item vectors [ID | adapter(text)], 2D wide.

    The adapter is two linear layers with nothing between them, E -> E/2 -> D; their matrices are multiplied first, so that a text row
    meets one [E, D] matrix.

    Attributes:
      num_items: V.
      width: E.
      view: D, the width of one view.
    """

    num_items: int
    width: int
    view: int

    @property
    def features(self) -> int:
        return 2 * self.view

    def setup(self) -> None:
        init = nn.initializers.lecun_normal()
        self.table = self.param("table", nn.initializers.xavier_normal(), (self.num_items, self.view))
        self.down = self.param("down", init, (self.width, self.width // 2))
        self.down_bias = self.param("down_bias", nn.initializers.zeros, (self.width // 2,))
        self.out = self.param("out", init, (self.width // 2, self.view))
        self.out_bias = self.param("out_bias", nn.initializers.zeros, (self.view,))

    def item_features(self, tables: Mapping[str, Any], ids: jax.Array | None = None) -> jax.Array:
        """[...] item rows -> [..., 2D]; the whole catalogue for None."""
        adapter = self.down @ self.out, self.down_bias @ self.out + self.out_bias

        def adapted(adapter: tuple[jax.Array, jax.Array], text: jax.Array) -> jax.Array:
            return text.astype(jnp.float32) @ adapter[0] + adapter[1]

        if ids is None:
            return jnp.concatenate([self.table, from_all_rows(adapted, adapter, (tables["items"],))], axis=-1)
        return jnp.concatenate([id_rows(self.table, tables, ids), from_rows(adapted, adapter, (tables["items"],), ids)], axis=-1)


class CrossAttention(nn.Module):
    """Queries of one view look at the other view's sequence; no bias but in the output, no residual."""

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
        weights = jax.nn.softmax(jnp.where(allowed[:, None], scores, -1e9), axis=-1)
        return nn.Dense(self.features, name="out")(jnp.einsum("rnqk,rknd->rqnd", weights, v).reshape(queries.shape))


class DualView(nn.Module):
    """Cross-attention in front of a backbone that is shared by both views.

    Attributes:
      backbone: `SASRec`, `BERT4Rec` or `GRU4Rec`, D wide.
      features: D.
      max_length: number of position embeddings.
      causal: whether the cross-attention looks backwards only; like the backbone.
      with_positions: scale the views by sqrt(D) and add positions before they meet, as LLM-ESR's code does but for GRU4Rec.
      num_heads: of the cross-attention.
    """

    backbone: nn.Module
    features: int
    max_length: int
    causal: bool
    with_positions: bool = True
    num_heads: int = 2

    @property
    def bidirectional(self) -> bool:
        return self.backbone.bidirectional

    @property
    def mask_at(self) -> str:
        return self.backbone.mask_at

    @nn.compact
    def __call__(
        self, vectors: jax.Array, segments: jax.Array, positions: jax.Array, dropout: jax.Array | None = None,
        asked: jax.Array | None = None,
    ) -> jax.Array:  # fmt: skip
        """Item vectors [R, L, 2D] -> states [R, L, 2D], both [ID view | text view]; of [B] places `asked` alone, [B, 2D]."""
        own, text = jnp.split(vectors, 2, axis=-1)
        if self.with_positions:
            table = self.param("positions", nn.initializers.xavier_normal(), (self.max_length, self.features))
            place = table[jnp.clip(positions, 0, self.max_length - 1)]
            own, text = (Dropout()(view * jnp.sqrt(jnp.float32(self.features)) + place, dropout) for view in (own, text))
        allowed = attention_mask(segments, self.causal)
        crossed = [
            CrossAttention(self.features, self.num_heads, name="text_to_id")(text, own, allowed),
            CrossAttention(self.features, self.num_heads, name="id_to_text")(own, text, allowed),
        ]
        views = for_each(
            self.backbone, lambda backbone, view: backbone(view, segments, positions, dropout, asked), jnp.stack(crossed)
        )  # fmt: skip
        return jnp.concatenate([*views], axis=-1)
