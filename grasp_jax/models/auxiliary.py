"""Losses of a method beside that of the next item."""

from typing import NamedTuple

import flax.linen as nn
import jax

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables


class BatchStates(NamedTuple):
    """What a model makes of the histories of a batch.

    Attributes:
      segments: [R, L] int32 user row, -1 where there is no item.
      states: [R, L, D] states of the backbone.
      items: [R, L] int32 item rows.
      vectors: [R, L, D] their vectors.
    """

    segments: jax.Array
    states: jax.Array
    items: jax.Array
    vectors: jax.Array


class AuxiliaryLoss(nn.Module):
    """A loss that a method adds to that of the next item; its parameters are trained along and not read afterwards."""

    def __call__(
        self, tables: Tables, batch: BatchStates, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """The weighted loss [] of a batch.

        Args:
          tables: the method's frozen tables.
          batch: histories, item vectors and states.
          context: of the training step; that of initialisation knows nothing, and parameters must be made all the same.
        """
        raise NotImplementedError
