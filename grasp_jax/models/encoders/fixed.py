"""Item vectors without parameters: the number of training interactions of an item, and its text vector."""

import jax
import jax.numpy as jnp

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.unit import unit
from grasp_jax.parallel.rows import from_all_rows, from_rows


class CountEncoder(ItemEncoder):
    """An item's number of training interactions, from the table "counts" [V, 1]."""

    @property
    def vector_width(self) -> int:
        """1."""
        return 1

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[...] item rows -> [..., 1]; the whole catalogue for None."""
        counts: jax.Array = tables["counts"]
        return counts if ids is None else counts[ids]


class UnitTextEncoder(ItemEncoder):
    """An item's text vector, scaled to length 1.

    Attributes:
      width: E.
    """

    width: int

    @property
    def vector_width(self) -> int:
        """E."""
        return self.width

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[...] item rows -> [..., E]; the whole catalogue for None."""
        text = (tables["items"],)
        return from_all_rows(_unit, (), text) if ids is None else from_rows(_unit, (), text, ids)


def _unit(_: tuple[()], rows: jax.Array) -> jax.Array:
    return unit(rows.astype(jnp.float32))
