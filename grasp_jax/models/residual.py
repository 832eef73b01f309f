"""Holistic attention with an ID residual: text knowledge for every item, and a trained vector for what text cannot say.

The ID is trusted as far as an item has been seen: with n training interactions its vector is scaled by n / (n + c), so a cold item is
its text alone. In training the residual is left out at random, so that the text learns to stand alone, and rare items lose nothing.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.holistic import HolisticEncoder
from grasp_jax.models.id_encoder import id_rows


class ResidualEncoder(nn.Module):
    """Item vectors `text_i + trust_i e_i`; features of an item are those of its text and its scaled ID vector, side by side.

    Attributes:
      text: encoder of the text.
      num_items: V.
      id_dropout: share of the items' occurrences in a training batch that go without their ID vector.
    """

    text: HolisticEncoder
    num_items: int
    id_dropout: float = 0.0

    @property
    def features(self) -> int:
        return self.text.features

    @property
    def gate(self) -> str:
        return self.text.gate

    def setup(self) -> None:
        self.table = self.param("table", nn.initializers.xavier_normal(), (self.num_items, self.features))

    def item_features(self, tables: Mapping[str, jax.Array], ids: jax.Array | None = None) -> jax.Array:
        """[..., F + D]: projections laid flat, then the residual; "trust" [V] is among the tables, in training "kept" [...] too."""
        trust, table = (tables["trust"], self.table) if ids is None else (tables["trust"][ids], id_rows(self.table, tables, ids))
        text = self.text.item_features(tables, ids).reshape(*trust.shape, -1)
        if "kept" in tables:
            trust = trust * tables["kept"]
        return jnp.concatenate([text, trust[..., None] * table], axis=-1)

    def keep_ids(self, count: int) -> jax.Array:
        """[count] bool: which occurrences of items keep their ID vector; all of them where nothing is dropped."""
        if not self.has_rng("dropout"):
            return jnp.ones(count, bool)
        return jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.id_dropout, (count,))

    def gates(self, logits: jax.Array | None, normaliser: jax.Array | None = None) -> jax.Array | None:
        """Gates of the text; the residual has none."""
        return self.text.gates(logits, normaliser)

    def head_input(self, features: jax.Array, gates: jax.Array | None) -> jax.Array:
        """[..., F + D] -> [..., H' + D]."""
        text, residual = self._parts(features)
        return jnp.concatenate([self.text.head_input(text, gates), residual], axis=-1)

    def finish(self, head: jax.Array) -> jax.Array:
        """[..., H' + D] -> [..., D]: the text's vector and the residual, added."""
        return self.text.finish(head[..., : -self.features]) + head[..., -self.features :]

    def __call__(self, features: jax.Array, gates: jax.Array | None) -> jax.Array:
        """[..., F + D] -> [..., D]."""
        return self.finish(self.head_input(features, gates))

    def last_layer(self, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Score weights [..., H' + D] and offset: the residual meets o itself."""
        weights, offset = self.text.last_layer(states)
        return jnp.concatenate([weights, states], axis=-1), offset

    def score_all(self, features: jax.Array, states: jax.Array, gates: jax.Array | None) -> jax.Array:
        """Scores of all pairs: [C, F + D], [B, D] -> [B, C]."""
        text, residual = self._parts(features)
        return self.text.score_all(text, states, gates) + jnp.einsum("bd,cd->bc", states, residual)

    def _parts(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        text, residual = features[..., : -self.features], features[..., -self.features :]
        return (text if self.gate == "none" else text.reshape(*text.shape[:-1], 3, -1)), residual
