"""What one step must predict: the places of the targets in the packed rows, and negatives. A function of (seed key, step)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from grasp_jax.data.negatives import draw_negatives
from grasp_jax.data.packing import Packing
from grasp_jax.models.batch import (
    EveryPlace,
    GatheredPlaces,
    Negatives,
    PackedBatch,
    SeparateNegatives,
    Targets,
    WholeCatalogue,
)
from grasp_jax.models.device_data import DeviceData
from grasp_jax.models.segments import is_last
from grasp_jax.training.shared_negatives import shared_negatives

NEGATIVES, MASKS = 1, 4  # purposes of random streams: fold_in(fold_in(seed, purpose), step)


class StepShape(NamedTuple):
    """Static numbers that a step is compiled for.

    Attributes:
      num_items: V.
      search_steps: bisection steps of the exclusion index.
      num_targets: P, number of targets in a batch.
      negatives: G, for each target; or for a whole batch, if `shared`.
      mask_rate: share of items that are masked; 0 for causal backbones, which predict the next item at every place.
      mask_noise: share of the masked items that are replaced by a random item, and also the share that is left unchanged.
      last_only: causal backbones predict only the last item of each history.
      deferred: only the rows of the ID table that a step reads are updated in it (`training.optim.deferred_adam`).
      every_place: whether targets stay at their places, with a mask, instead of being gathered; then each packed row stays on its device.
      catalogue: whether every item is a negative and none is drawn.
      shared: whether all targets share the same negatives; only the target itself is excluded from them.
      drawn: how shared negatives are drawn, `config.train.negatives_drawn`.
      logq: whether their scores are corrected for the frequency of the draws.
    """

    num_items: int
    search_steps: int
    num_targets: int
    negatives: int
    mask_rate: float = 0.0
    mask_noise: float = 0.0
    shared: bool = False
    last_only: bool = False
    deferred: bool = False
    every_place: bool = False
    catalogue: bool = False
    drawn: str = "uniform"
    logq: bool = False


def count_targets(packing: Packing, mask_rate: float, last_only: bool = False) -> int:
    """P for any batch: the number of (item, next item) pairs, the number of last items, or six standard deviations above the mean number of
    masks.
    """
    if not mask_rate:
        return packing.batch_size if last_only else packing.num_pairs
    tokens = packing.num_pairs + packing.batch_size
    masks = mask_rate * tokens + 6.0 * math.sqrt(tokens * mask_rate * (1.0 - mask_rate))
    return min(math.ceil(masks), tokens) + packing.batch_size


def draw_targets(
    key: jax.Array, step: jax.Array, data: DeviceData, batch: PackedBatch, shape: StepShape
) -> tuple[PackedBatch, Targets]:
    """Returns the batch that the backbone sees, and the items that must be predicted.

    Args:
      key: [] key of the model's seed.
      step: [] number of the step.
      data: arrays with the items that are excluded as negatives.
      batch: packed histories without masks.
      shape: static numbers.
    """
    if shape.mask_rate:
        batch, is_target = mask_batch(
            jax.random.fold_in(jax.random.fold_in(key, MASKS), step), batch, shape
        )
        queries = batch.queries
    else:
        is_target, queries = next_item_places(batch, shape), jnp.roll(batch.queries, -1, axis=1)
    places = jnp.nonzero(is_target.ravel(), size=shape.num_targets, fill_value=is_target.size)[0]
    gathered = GatheredPlaces(places.astype(jnp.int32))
    users = jnp.maximum(gathered.take(batch.segments), 0)
    stream = jax.random.fold_in(jax.random.fold_in(key, NEGATIVES), step)
    negatives: Negatives | WholeCatalogue
    if shape.catalogue:
        negatives = WholeCatalogue()
    elif shape.shared:
        targets = gathered.take(jnp.roll(batch.items, 0 if shape.mask_rate else -1, axis=1))
        exist = gathered.exist(is_target.size)
        negatives = shared_negatives(stream, targets, exist, data.popularity, shape)
    else:
        negatives = _separate_negatives(stream, users, data, shape)
    if not shape.every_place:
        return batch, Targets(gathered, users, gathered.take(queries), negatives)
    if isinstance(negatives, SeparateNegatives):
        negatives = _at_every_place(negatives, gathered, is_target.size, shape)
    return batch, Targets(
        EveryPlace(is_target), jnp.maximum(batch.segments.ravel(), 0), queries.ravel(), negatives
    )


def next_item_places(batch: PackedBatch, shape: StepShape) -> jax.Array:
    """[R, L] bool: places that are followed by an item; with `last_only`, by the last item of the history."""
    last = is_last(batch.segments)
    is_target = (batch.segments >= 0) & ~last
    return is_target & jnp.roll(last, -1, axis=1) if shape.last_only else is_target


def _separate_negatives(
    stream: jax.Array, users: jax.Array, data: DeviceData, shape: StepShape
) -> SeparateNegatives:
    """Negatives for the targets of [P] users."""
    excluded = data.excluded, data.excluded_offsets
    return SeparateNegatives(
        draw_negatives(
            stream, users, *excluded, shape.num_items, shape.search_steps, shape.negatives
        )
    )


def _at_every_place(
    negatives: SeparateNegatives, gathered: GatheredPlaces, num_places: int, shape: StepShape
) -> SeparateNegatives:
    """Negatives of the targets [P] at their places. Places without a target get arbitrary items, not all the same."""
    fillers = jnp.arange(num_places, dtype=jnp.int32) % shape.num_items
    items = jnp.broadcast_to(fillers[:, None], (num_places, shape.negatives))
    return SeparateNegatives(items.at[gathered.flat].set(negatives.items, mode="drop"))


def mask_batch(
    key: jax.Array, batch: PackedBatch, shape: StepShape
) -> tuple[PackedBatch, jax.Array]:
    """Two copies of [R, L] rows: one with a share of the items masked, and one with the last item of each history masked.

    Without the second copy, training has no example of the prediction that ranking needs, and BERT4Rec is much worse. With `mask_noise`,
    some of the items that the first copy must predict are not masked: they stay unchanged, or a random item replaces them. Returns the
    copies, and [2R, L] bool, which places are predicted.
    """
    is_item, last = batch.segments >= 0, is_last(batch.segments)
    predicted = jax.random.bernoulli(key, shape.mask_rate, is_item.shape) & is_item
    copies = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batch)
    masked, replaced = predicted, None
    if shape.mask_noise:
        kind = jax.random.uniform(jax.random.fold_in(key, 1), is_item.shape)
        random_items = jax.random.randint(
            jax.random.fold_in(key, 2), is_item.shape, 0, shape.num_items, jnp.int32
        )
        replaced = jnp.where(predicted & (kind < shape.mask_noise), random_items, -1)
        masked = predicted & (kind >= 2 * shape.mask_noise)
    return copies._replace(
        masked=jnp.concatenate([masked, last]), replaced=replaced
    ), jnp.concatenate([predicted, last])
