"""Holistic attention with an ID residual: a vector from text plus a trained vector for what texts do not express.

With n training interactions the ID vector of an item is scaled by its trust n / (n + c), so the vector of a cold item is its text alone. In
training the residual is dropped at random, so that the text part also learns to score without it and rare items lose nothing.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.holistic import HolisticEncoder
from grasp_jax.models.encoders.id_table import id_rows


class ResidualEncoder(ItemEncoder):
    """Item vectors `text_i + trust_i e_i`; the features of an item are those of its text, concatenated with its scaled ID vector.

    Attributes:
      text: the encoder of the text.
      num_items: V.
      id_dropout: share of the items' occurrences in a training batch without their ID vector. If the loss is over the whole catalogue, it
        is the share of items, and an item is dropped everywhere in a step.
    """

    text: HolisticEncoder
    num_items: int
    id_dropout: float = 0.0

    @property
    def vector_width(self) -> int:
        """D."""
        return self.text.vector_width

    @property
    def gated(self) -> bool:
        """As the encoder of the text."""
        return self.text.gated

    @property
    def normalises_gates(self) -> bool:
        """As the encoder of the text."""
        return self.text.normalises_gates

    @property
    def drops_ids(self) -> bool:
        """True if there is a rate."""
        return self.id_dropout > 0

    def setup(self) -> None:
        self.table = self.param(
            "table", nn.initializers.xavier_normal(), (self.num_items, self.vector_width)
        )

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[..., F + D]: flattened projections, then the residual; the tables must have "trust" [V]."""
        trust, table = tables["trust"], self.table
        if ids is not None:
            trust, table = trust[ids], id_rows(table, ids, context)
        text = self.text.item_features(tables, ids).reshape(*trust.shape, -1)
        if context.keep_ids is not None:
            trust = trust * context.keep_ids
        return jnp.concatenate([text, trust[..., None] * table], axis=-1)

    def keep_ids(self, count: int | None) -> jax.Array:
        """[count] bool: which occurrences of items (for None [V]: which items) keep their ID vector; all if nothing is dropped."""
        count = self.num_items if count is None else count
        if not self.has_rng("dropout"):
            return jnp.ones(count, bool)
        return jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.id_dropout, (count,))

    def gates(
        self, logits: jax.Array | None, normaliser: jax.Array | None = None
    ) -> jax.Array | None:
        """Gates of the text; the residual has none."""
        return self.text.gates(logits, normaliser)

    def head_input(self, features: jax.Array, gates: jax.Array | None) -> jax.Array:
        """[..., F + D] -> [..., H' + D]."""
        text, residual = self._parts(features)
        return jnp.concatenate([self.text.head_input(text, gates), residual], axis=-1)

    def finish(self, head: jax.Array) -> jax.Array:
        """[..., H' + D] -> [..., D]: the text's vector plus the residual."""
        return self.text.finish(head[..., : -self.vector_width]) + head[..., -self.vector_width :]

    def last_layer(self, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Score weights [..., H' + D] and offset; the weights of the residual are o itself."""
        weights, offset = self.text.last_layer(states)
        return jnp.concatenate([weights, states], axis=-1), offset

    def score_all(
        self, features: jax.Array, states: jax.Array, gates: jax.Array | None
    ) -> jax.Array:
        """Scores of all pairs: [C, F + D], [B, D] -> [B, C]."""
        text, residual = self._parts(features)
        return self.text.score_all(text, states, gates) + jnp.einsum("bd,cd->bc", states, residual)

    def _parts(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        text, residual = features[..., : -self.vector_width], features[..., -self.vector_width :]
        return (text.reshape(*text.shape[:-1], 3, -1) if self.gated else text), residual
