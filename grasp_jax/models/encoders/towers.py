"""Late fusion: an ID vector and a text vector of an item, side by side, each for a state of its own.

A score is the sum of what the towers say, `o_id . e + o_text . t`, one product of vectors as wide as all towers. Each tower is trained
by its own loss (`config.train.towers`), so that neither can lean on the other: added as *vectors*, before one backbone, IDs drown what
text knows of rare items, and text what IDs know of frequent ones.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.holistic import gelu
from grasp_jax.models.encoders.id_table import id_rows
from grasp_jax.parallel.rows import from_all_rows, from_rows

TEXT = "text_input"  # the frozen table [V, E] that text towers read


class TowerEncoder(ItemEncoder):
    """Item vectors [ID | ... | text | ...], each D wide.

    Attributes:
      num_items: V.
      width: E.
      features: D, of one tower.
      id_towers, text_towers: how many of each; a text tower is a network with one hidden layer.
      hidden: H, width of the hidden layer.
    """

    num_items: int
    width: int
    features: int
    id_towers: int = 1
    text_towers: int = 1
    hidden: int = 256

    @property
    def towers(self) -> int:
        """All of them."""
        return self.id_towers + self.text_towers

    @property
    def vector_width(self) -> int:
        """D times the number of towers."""
        return self.towers * self.features

    def setup(self) -> None:
        if self.id_towers:
            shape = self.num_items, self.id_towers * self.features
            self.table = self.param("table", nn.initializers.normal(0.02), shape)
        if self.text_towers:
            init = nn.initializers.lecun_normal(batch_axis=(0,))
            count = self.text_towers
            self.first = self.param("first", init, (count, self.width, self.hidden))
            self.first_bias = self.param("first_bias", nn.initializers.zeros, (count, self.hidden))
            small = nn.initializers.variance_scaling(
                0.1, "fan_in", "normal", batch_axis=(0,)
            )  # of scores that start near zero, as the ID tower's do
            self.last = self.param("last", small, (count, self.hidden, self.features))

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[...] item rows -> [..., vector width]; the whole catalogue for None."""
        parts = []
        if self.id_towers:
            parts.append(self.table if ids is None else id_rows(self.table, ids, context))
        if self.text_towers:
            weights, rows = (self.first, self.first_bias, self.last), (tables[TEXT],)
            parts.append(
                from_all_rows(_text_vectors, weights, rows)
                if ids is None
                else from_rows(_text_vectors, weights, rows, ids)
            )
        return jnp.concatenate(parts, axis=-1)


def _text_vectors(weights: tuple[jax.Array, jax.Array, jax.Array], text: jax.Array) -> jax.Array:
    """[..., E] -> [..., text towers * D]."""
    first, bias, last = weights
    text = text.astype(jnp.float32)
    each = [
        gelu(text @ w1 + b1) @ w2 for w1, b1, w2 in zip(first, bias, last, strict=True)
    ]  # one product each: a CPU is slower over an axis of few towers
    return jnp.concatenate(each, axis=-1)
