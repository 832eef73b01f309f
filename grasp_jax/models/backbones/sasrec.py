"""SASRec (Kang and McAuley, 2018, arXiv 1808.09781) over packed rows.

A row has the histories of several users, one after the other. Attention stays within a segment and is causal by default.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from grasp_jax.config import ModelConfig
from grasp_jax.kernels.attention_blocks import attention_mask
from grasp_jax.kernels.counter_bits import SeededDropout
from grasp_jax.kernels.sasrec_layer import Layer, LayersForm, fits, sasrec_layers
from grasp_jax.kernels.sasrec_layer_kernels import Finish, Project
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.dropout import Dropout
from grasp_jax.models.masked import MASKED


def mask_at_places(segments: jax.Array, causal: bool, places: jax.Array) -> jax.Array:
    """The rows of `attention_mask` for [B] places, row * L + column, over all concatenated rows: [1, B, R * L] bool."""
    length, flat = segments.shape[1], segments.ravel()
    keys, queries = jnp.arange(flat.size), places[:, None]
    allowed = (flat[queries] == flat) & (flat[queries] >= 0) & (queries // length == keys // length)
    if causal:
        allowed &= keys <= queries
    return (allowed | (keys == queries))[None]


def rows_at_places(x: jax.Array, places: jax.Array | None) -> jax.Array:
    """The values at [B] places, row * L + column, as one row: [R, L, ...] -> [1, B, ...]; for None all of x."""
    return x if places is None else x.reshape(-1, *x.shape[2:])[places][None]


def position_table(max_length: int, features: int) -> tuple[Initializer, tuple[int, int]]:
    """The initialiser of the position embeddings, and the shape of their table."""
    return nn.initializers.xavier_normal(), (max_length, features)


def embedded(
    views: Sequence[jax.Array], table: jax.Array, positions: jax.Array, dropout: jax.Array | None
) -> list[jax.Array]:
    """The input of SASRec's layers: item vectors times sqrt(D) plus position embeddings, with dropout.

    Args:
      views: [R, L, D] vectors, of one or several views of the items.
      table: [places, D] position embeddings.
      positions: [R, L] int32.
      dropout: [] the rate, or None.
    """
    position_vectors = table[jnp.clip(positions, 0, len(table) - 1)]
    scale = jnp.sqrt(jnp.float32(table.shape[1]))
    return [Dropout()(view * scale + position_vectors, dropout) for view in views]


class SelfAttention(nn.Module):
    """Softmax attention with normalised queries, but not normalised keys and values, as in the published SASRec."""

    features: int
    num_heads: int
    dtype: jnp.dtype
    causal: bool = True

    @nn.compact
    def __call__(
        self,
        queries: jax.Array,
        values: jax.Array,
        segments: jax.Array,
        dropout: jax.Array | None,
        padding: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Queries [R, L, D] attend to values [R, L, D] of their segment [R, L], and to `padding` [R, L] zeros before them, if given.

        With [B] `places`, queries are of those places only, [1, B, D].
        """
        if places is not None:
            values = values.reshape(1, -1, self.features)
        # all these keys are equal, so one key with their number as its weight replaces them
        if padding is not None:
            padding = rows_at_places(padding, places)
            values = jnp.pad(values, ((0, 0), (0, 1), (0, 0)))
        head_width = self.features // self.num_heads

        def project(x: jax.Array, name: str) -> jax.Array:
            y = nn.Dense(
                self.features,
                dtype=self.dtype,
                kernel_init=nn.initializers.xavier_normal(),
                name=name,
            )(x)
            return y.reshape(*x.shape[:-1], self.num_heads, head_width)

        q, k, v = project(queries, "query"), project(values, "key"), project(values, "value")
        allowed = (
            attention_mask(segments, self.causal)
            if places is None
            else mask_at_places(segments, self.causal, places)
        )
        attended = self._attend(q, k, v, allowed, dropout, padding)
        return nn.Dense(
            self.features, dtype=self.dtype, kernel_init=nn.initializers.xavier_normal(), name="out"
        )(attended.reshape(queries.shape))

    def _attend(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        allowed: jax.Array,
        dropout: jax.Array | None,
        padding: jax.Array | None,
    ) -> jax.Array:
        """Attention over the pairs of a row that `allowed` [R, queries, keys] permits."""
        scores = jnp.einsum("rqnd,rknd->rnqk", q, k, preferred_element_type=jnp.float32) / jnp.sqrt(
            jnp.float32(q.shape[-1])
        )
        if padding is not None:
            allowed = jnp.concatenate([allowed, padding[..., None] > 0], axis=-1)
            scores = scores.at[..., -1].add(jnp.log(jnp.maximum(padding, 1.0))[:, None])
        weights = jax.nn.softmax(jnp.where(allowed[:, None], scores, MASKED), axis=-1).astype(
            self.dtype
        )
        dropped = Dropout()(weights, dropout)
        if padding is not None:  # for so many equal keys dropout is replaced by its mean
            dropped = dropped.at[..., -1].set(weights[..., -1])
        return jnp.einsum("rnqk,rknd->rqnd", dropped, v)


def has_kernel(block: str, padded_length: int, features: int, num_heads: int) -> bool:
    """Whether `kernels.sasrec_layer` computes blocks of this kind and these sizes."""
    return block == "sasrec" and not padded_length and fits(features, num_heads)


def _layer_of(params: Any, number: int, last: Any) -> Layer:
    """The parameters of a block, with the names of `SASRec._published`, and of the norm `last` after all blocks."""
    attention = params[f"SelfAttention_{number}"]
    before, after = (params[f"LayerNorm_{2 * number + k}"] for k in range(2))
    first, second = (params[f"Dense_{2 * number + k}"] for k in range(2))

    q, k, v, out = (attention[name] for name in ("query", "key", "value", "out"))

    def arrays(name: str, *layers: Any) -> tuple[Any, Any, Any]:
        a, b, c = (layer[name] for layer in layers)
        return a, b, c

    norms = before["scale"], before["bias"]
    norms_after = after["scale"], after["bias"], last["scale"], last["bias"]
    return (
        Project(*arrays("kernel", q, k, v), *arrays("bias", q, k, v), *norms),
        Finish(
            *arrays("kernel", out, first, second),
            *arrays("bias", out, first, second),
            *norms_after,
        ),
    )


class SASRec(Backbone):
    """Stacked self-attention blocks; the state at a position predicts the item after it.

    Attributes:
      features: D.
      max_length: number of position embeddings.
      num_layers, num_heads: blocks and heads per block.
      causal: False reproduces LLM-ESR, whose mask is switched off (docs/deviations.md).
      dtype: compute type; parameters and normalisation are float32.
      padded_length: above 0, attention also sees the zeros that would pad a history to this length, as in LLM-ESR's code.
      block: "sasrec"; or "prenorm": RMSNorm before attention and before a SwiGLU layer.
      kernels: `config.kernels`; "backbone": blocks by `kernels.sasrec_layer`, where it supports them (`has_kernel`). They are computed in
        float32 for every dtype, and their dropout has other random bits than that of the plain blocks.
      input_stage: whether item vectors are scaled by sqrt(D), get position embeddings and pass dropout before the first block; False if an
        earlier module has done this (`without_input_stage`).
    """

    features: int
    max_length: int
    num_layers: int = 2
    num_heads: int = 1
    causal: bool = True
    dtype: jnp.dtype = jnp.float32
    block: str = "sasrec"
    padded_length: int = 0
    kernels: str = "xla"
    input_stage: bool = True

    @property
    def is_causal(self) -> bool:
        """`causal`."""
        return self.causal

    def without_input_stage(self) -> "SASRec":
        """`input_stage` is False."""
        return self.clone(input_stage=False)

    @classmethod
    def from_config(cls, config: ModelConfig, max_length: int) -> "SASRec":
        """The backbone of a config's `model` section, for histories of up to `max_length` items."""
        return cls(
            features=config.features,
            max_length=max_length,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            causal=config.causal,
            dtype=jnp.dtype(config.dtype),
            block=config.block,
            padded_length=config.padded_length,
            kernels=config.kernels,
        )

    @nn.compact
    def __call__(
        self,
        vectors: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dropout: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Item vectors [R, L, D] with segments and positions [R, L] -> states o [R, L, D] float32.

        `dropout` is the rate, or None outside training; a rate needs the random stream "dropout". With [B] `places`, row * L + column, only
        their states [B, D] are computed: the last block then has B queries, not R * L.
        """
        x = vectors
        by_kernels = (
            self.kernels == "backbone"
            and has_kernel(self.block, self.padded_length, self.features, self.num_heads)
            and places is None
            and not self.is_initializing()
        )
        if self.input_stage:
            table = self.param("positions", *position_table(self.max_length, self.features))
            (x,) = embedded([vectors], table, positions, None if by_kernels else dropout)
        if by_kernels:
            return self._by_kernels(x.astype(jnp.float32), segments, dropout)
        x = x.astype(self.dtype)
        padding = None
        if self.padded_length:
            lengths = (segments[:, :, None] == segments[:, None, :]).sum(axis=-1)
            padding = jnp.maximum(self.padded_length - lengths, 0).astype(jnp.float32)
        blocks = {"sasrec": self._published, "prenorm": self._prenorm}
        step = blocks[self.block]
        for _ in range(self.num_layers - 1):
            x = step(x, segments, dropout, padding, None)
        x = step(x, segments, dropout, padding, places)
        norm = nn.RMSNorm() if self.block == "prenorm" else nn.LayerNorm(epsilon=1e-8)
        states: jax.Array = norm(x).astype(jnp.float32)
        return states if places is None else states[0]

    def _by_kernels(
        self, x: jax.Array, segments: jax.Array, dropout: jax.Array | None
    ) -> jax.Array:
        """All blocks, computed by `kernels.sasrec_layer` with the parameters of `_published`."""
        params = self.variables["params"]
        last = params[f"LayerNorm_{2 * self.num_layers}"]
        layers = [_layer_of(params, number, last) for number in range(self.num_layers)]
        form = LayersForm(self.num_heads, self.causal, self.input_stage)
        if dropout is None:
            return sasrec_layers(x, layers, segments, form)
        seeded = SeededDropout(dropout, jax.random.bits(self.make_rng("dropout")))
        return sasrec_layers(x, layers, segments, form, seeded)

    def _published(
        self,
        x: jax.Array,
        segments: jax.Array,
        dropout: jax.Array | None,
        padding: jax.Array | None,
        places: jax.Array | None,
    ) -> jax.Array:
        """A block of the published SASRec: the result of attention is added to the normalised queries."""
        normalised = nn.LayerNorm(epsilon=1e-8)(rows_at_places(x, places))
        x = normalised + self._attention()(normalised, x, segments, dropout, padding, places)
        x = nn.LayerNorm(epsilon=1e-8)(x)
        hidden = jax.nn.relu(Dropout()(self._dense(self.features)(x), dropout))
        return (x + Dropout()(self._dense(self.features)(hidden), dropout)).astype(self.dtype)

    def _prenorm(
        self,
        x: jax.Array,
        segments: jax.Array,
        dropout: jax.Array | None,
        padding: jax.Array | None,
        places: jax.Array | None,
    ) -> jax.Array:
        """A block as in current language models (RMSNorm: arXiv 1910.07467; SwiGLU: arXiv 2002.05202)."""
        normalised = nn.RMSNorm()(x)
        queries = rows_at_places(normalised, places)
        attended = self._attention()(queries, normalised, segments, dropout, padding, places)
        x = rows_at_places(x, places) + Dropout()(attended, dropout)
        gate, value = jnp.split(self._dense(2 * self.features)(nn.RMSNorm()(x)), 2, axis=-1)
        return (
            x + Dropout()(self._dense(self.features)(jax.nn.silu(gate) * value), dropout)
        ).astype(self.dtype)

    def _attention(self) -> SelfAttention:
        return SelfAttention(self.features, self.num_heads, self.dtype, self.causal)

    def _dense(self, width: int) -> nn.Dense:
        return nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.xavier_normal())
