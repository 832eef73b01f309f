"""Item vectors of the plain backbone: one trained vector per item."""

import flax.linen as nn
import jax

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables
from grasp_jax.models.encoders.base import ItemEncoder


def id_rows(table: jax.Array, ids: jax.Array, context: StepContext) -> jax.Array:
    """[V, D] -> [T, D] ID vectors. If updates of the table are deferred, the training step passes these vectors itself."""
    return table[ids] if context.id_rows is None else context.id_rows


class IdEncoder(ItemEncoder):
    """An ID table [V, D]; no text is read.

    Attributes:
      num_items: V.
      features: D.
    """

    num_items: int
    features: int

    @property
    def vector_width(self) -> int:
        """D."""
        return self.features

    def setup(self) -> None:
        self.table = self.param(
            "table", nn.initializers.xavier_normal(), (self.num_items, self.features)
        )

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """[...] item rows -> [..., D]; the whole table for None."""
        return self.table if ids is None else id_rows(self.table, ids, context)
