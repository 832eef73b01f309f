"""Late fusion: concatenated ID, text and company vectors of an item, each with a separate state.

A score is the sum of the towers' scores, `o_id . e + o_text . t + ...`, which is one inner product of the concatenated vectors. Each
tower is trained by its own loss, so that none depends on the others. After the towers follows a part without parameters, the match: the
text vector, scaled to length 1 and multiplied by its weight (`models.text_match`), for the cosine between an item and a history. The
frozen tables have the names of the parts (`config.model.PARTS`): none for ID, [V, E] for text and company, and for
the match its weights [V, 1].
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.config.model import COMPANY_PART, MATCH_PART, TEXT_PART
from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.holistic import gelu
from grasp_jax.models.encoders.id_table import id_rows
from grasp_jax.models.products import product
from grasp_jax.models.unit import unit
from grasp_jax.parallel.rows import from_all_rows, from_rows


class TowerEncoder(ItemEncoder):
    """Item vectors [ID | ... | text | ... | company | ... | match]; each part has width D, the match has width E.

    Attributes:
      num_items: V.
      width: E, of either table.
      features: D, of one tower.
      id_towers, text_towers, company_towers: number of towers of each kind. Text towers read the text, company towers read the text and the
        texts of the companions; both are networks with one hidden layer.
      hidden: H, width of the hidden layer.
      matches: whether the text itself follows after the towers, for the match.
      dtype: number type of the factors of the networks' matrix products.
    """

    num_items: int
    width: int
    features: int
    id_towers: int = 1
    text_towers: int = 1
    company_towers: int = 1
    hidden: int = 256
    matches: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def towers(self) -> tuple[int, ...]:
        """D for each tower."""
        return (self.features,) * (self.id_towers + self.text_towers + self.company_towers)

    @property
    def mask_width(self) -> int:
        """D times the number of towers; a masked item has no text."""
        return sum(self.towers)

    @property
    def vector_width(self) -> int:
        """Sum of the widths of all parts."""
        return self.mask_width + (self.width if self.matches else 0)

    def setup(self) -> None:
        if self.id_towers:
            shape = self.num_items, self.id_towers * self.features
            self.table = self.param("table", nn.initializers.normal(0.02), shape)
        self.text = [self._network(f"text{k}", self.width) for k in range(self.text_towers)]
        self.company = [
            self._network(f"company{k}", 2 * self.width) for k in range(self.company_towers)
        ]

    def _network(self, name: str, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Kernel and bias of the hidden layer, and the last kernel, which starts small, so that scores start near zero like those of the ID
        tower.
        """
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        return (
            self.param(f"{name}_first", nn.initializers.lecun_normal(), (width, self.hidden)),
            self.param(f"{name}_bias", nn.initializers.zeros, (self.hidden,)),
            self.param(f"{name}_last", small, (self.hidden, self.features)),
        )

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[...] item rows -> [..., vector width]; the whole catalogue for None."""
        parts = []
        if self.id_towers:
            parts.append(self.table if ids is None else id_rows(self.table, ids, context))
        text_vectors = functools.partial(_text_vectors, dtype=self.dtype)
        from_tables: list[tuple[Callable[..., jax.Array], Any, tuple[str, ...]]] = [
            *((text_vectors, network, (TEXT_PART,)) for network in self.text),
            *((text_vectors, network, (TEXT_PART, COMPANY_PART)) for network in self.company),
            *([(_match_vectors, (), (TEXT_PART, MATCH_PART))] if self.matches else []),
        ]
        for vectors_of, network, names in from_tables:
            rows = tuple(tables[name] for name in names)
            parts.append(
                from_all_rows(vectors_of, network, rows)
                if ids is None
                else from_rows(vectors_of, network, rows, ids)
            )
        return jnp.concatenate(parts, axis=-1)


def _text_vectors(
    network: tuple[jax.Array, jax.Array, jax.Array], *text: jax.Array, dtype: jnp.dtype
) -> jax.Array:
    """[..., E] of each table -> [..., D]."""
    first, bias, last = network
    hidden = product(jnp.concatenate(text, axis=-1), first, dtype)
    return product(gelu(hidden + bias), last, dtype)


def _match_vectors(_: tuple[()], text: jax.Array, weights: jax.Array) -> jax.Array:
    """[..., E] and [..., 1] -> [..., E]."""
    return weights * unit(text.astype(jnp.float32))
