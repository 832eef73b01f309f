"""Losses of a method in addition to the loss of the next item."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import (
    NO_CONTEXT,
    SeparateNegatives,
    StepContext,
    Tables,
    Targets,
    WholeCatalogue,
)


def mean_where(values: jax.Array, exist: jax.Array, axis: int | None = None) -> jax.Array:
    """The mean of the values that exist, over all or along an axis: [...] and [...] bool -> [], or without the axis; 0 if none exists."""
    return jnp.where(exist, values, 0.0).sum(axis) / jnp.maximum(exist.sum(axis), 1)


class DrawnNegatives(NamedTuple):
    """Negatives of a training step for an auxiliary loss, n of them.

    Attributes:
      items: [n] int32 item rows.
      vectors: [n, D] their vectors.
      exist: [n] bool; False if the target does not exist.
    """

    items: jax.Array
    vectors: jax.Array
    exist: jax.Array


class BatchStates(NamedTuple):
    """What a model computes from the histories of a batch.

    Attributes:
      segments: [R, L] int32 user row, -1 where there is no item.
      states: [R, L, D] states of the backbone.
      items: [R, L] int32 item rows.
      vectors: [R, L, D] their vectors.
      negatives: negatives of the step; None if an item's vector depends on the user.
    """

    segments: jax.Array
    states: jax.Array
    items: jax.Array
    vectors: jax.Array
    negatives: DrawnNegatives | None = None


def drawn_negatives(targets: Targets, vectors: jax.Array, num_places: int) -> DrawnNegatives:
    """The first negative of each target or, if all targets share the negatives, at most `num_places` of these.

    Args:
      targets: targets of the step.
      vectors: [P * G, D] or [G, D] vectors of all its negatives, in their order.
      num_places: R * L.
    """
    assert not isinstance(targets.negatives, WholeCatalogue)
    items = targets.negatives.items
    if isinstance(targets.negatives, SeparateNegatives):
        first = vectors.reshape(*items.shape, -1)[:, 0]
        return DrawnNegatives(items[:, 0], first, targets.places.exist(num_places))
    items = items[:num_places]
    return DrawnNegatives(items, vectors[: len(items)], jnp.ones(len(items), bool))


class AuxiliaryLoss(nn.Module):
    """A loss that a method adds to the loss of the next item; its parameters are trained with the model and not used afterwards."""

    def __call__(
        self, tables: Tables, batch: BatchStates, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """The weighted loss [] of a batch.

        Args:
          tables: the method's frozen tables.
          batch: histories, item vectors and states.
          context: context of the training step. At initialisation it is empty, but the parameters must be created nevertheless.
        """
        raise NotImplementedError
