"""Losses of a method beside that of the next item."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import (
    NO_CONTEXT,
    OwnNegatives,
    StepContext,
    Tables,
    Targets,
    WholeCatalogue,
)


class DrawnItems(NamedTuple):
    """Negatives that a step has drawn, one for each of n places.

    Attributes:
      items: [n] int32 item rows.
      vectors: [n, D] their vectors.
      exist: [n] bool; False for those of targets that there are not.
    """

    items: jax.Array
    vectors: jax.Array
    exist: jax.Array


class BatchStates(NamedTuple):
    """What a model makes of the histories of a batch.

    Attributes:
      segments: [R, L] int32 user row, -1 where there is no item.
      states: [R, L, D] states of the backbone.
      items: [R, L] int32 item rows.
      vectors: [R, L, D] their vectors.
      negatives: drawn beside them; None where an item's vector depends on the user.
    """

    segments: jax.Array
    states: jax.Array
    items: jax.Array
    vectors: jax.Array
    negatives: DrawnItems | None = None


def drawn_items(targets: Targets, vectors: jax.Array, places: int) -> DrawnItems:
    """The first negative of each target or, of those that all targets share, at most `places`.

    Args:
      targets: of the step.
      vectors: [P * G, D] or [G, D] of all its negatives, in their order.
      places: R * L.
    """
    assert not isinstance(targets.negatives, WholeCatalogue)
    items = targets.negatives.items
    if isinstance(targets.negatives, OwnNegatives):
        first = vectors.reshape(*items.shape, -1)[:, 0]
        return DrawnItems(items[:, 0], first, targets.places.exist(places))
    items = items[:places]
    return DrawnItems(items, vectors[: len(items)], jnp.ones(len(items), bool))


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
