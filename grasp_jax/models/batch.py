"""The inputs and outputs of a sequence model in training: packed histories, targets, and scores.

R rows of L places, B users, P targets, G negatives (of each target, or shared by all), V items, D width of the backbone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Tables: TypeAlias = Mapping[str, Any]  # frozen tables by name: arrays, or rows of `parallel.rows`
# parameters of one model, or of M models with a leading axis, nested as in flax
Params: TypeAlias = Mapping[str, Any]


class PackedBatch(NamedTuple):
    """Packed rows of several users' histories.

    Attributes:
      items: [R, L] int32 item rows (0 where empty).
      segments: [R, L] int32 user row, -1 where empty.
      positions: [R, L] int32 position within the history.
      logits: [R, L, 2] cached pair logits of user and item, or None for encoders without gates.
      masked: [R, L] bool, whether the item is masked, or the place is an additional mask; all False for SASRec.
      queries: [R, L] int32 row of the query tables (the user's text vectors) for the item at a place.
      replaced: for two masked copies, random item rows [R / 2, L] that replace items of the first copy, -1 where none does; or None.
      replaced_logits: [R / 2, L, 2] their pair logits, like `logits`.
    """

    items: jax.Array
    segments: jax.Array
    positions: jax.Array
    logits: jax.Array | None
    masked: jax.Array
    queries: jax.Array
    replaced: jax.Array | None = None
    replaced_logits: jax.Array | None = None


@jax.custom_vjp
def take_places(values: jax.Array, flat: jax.Array) -> jax.Array:
    """`values[flat]` for [T, ...] values and [P] distinct places in ascending order, padded with T.

    The backward pass gathers: it looks up the target of each place. That is one kernel on a GPU, while a scatter takes two. Padding gets
    the value of the last place, and has no gradient.
    """
    return values[jnp.minimum(flat, len(values) - 1)]


def _take_forward(
    values: jax.Array, flat: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return take_places(values, flat), (flat, jnp.arange(len(values), dtype=flat.dtype))


def _take_backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, None]:
    flat, place = saved
    target = jnp.minimum(jnp.searchsorted(flat, place, method="scan_unrolled"), len(flat) - 1)
    is_target = (flat[target] == place).reshape(-1, *[1] * (gradient.ndim - 1))
    return jnp.where(is_target, gradient[target], 0), None


take_places.defvjp(_take_forward, _take_backward)


class GatheredPlaces(NamedTuple):
    """Targets that are gathered from their places into arrays [P, ...].

    Attributes:
      flat: [P] int32 place of each target, row * L + column, ascending, padded with R * L.
    """

    flat: jax.Array

    def places(self, num_places: int) -> jax.Array:
        """[P] places of the targets, below `num_places` = R * L; padding gets an arbitrary place."""
        return jnp.minimum(self.flat, num_places - 1)

    def exist(self, num_places: int) -> jax.Array:
        """[P] bool: False for padding."""
        return self.flat < num_places

    def take(self, of_places: jax.Array) -> jax.Array:
        """Gathers the values at the targets: [R, L, ...] -> [P, ...]."""
        flat = of_places.reshape(-1, *of_places.shape[2:])
        # A CPU is as fast either way, and this way its results stay bit-identical.
        on_gpu = jax.default_backend() == "gpu"
        return take_places(flat, self.flat) if on_gpu else flat[self.places(len(flat))]


class EveryPlace(NamedTuple):
    """Every place is a target, P = R * L, but only some count. Nothing is gathered, so each packed row stays on its device.

    Attributes:
      is_target: [R, L] bool.
    """

    is_target: jax.Array

    def places(self, num_places: int) -> jax.Array:
        """[P] all places."""
        return jnp.arange(num_places)

    def exist(self, num_places: int) -> jax.Array:
        """[P] bool: whether the place counts as a target."""
        return self.is_target.ravel()

    def take(self, of_places: jax.Array) -> jax.Array:
        """[R, L, ...] -> [P, ...]: nothing is gathered."""
        return of_places.reshape(-1, *of_places.shape[2:])


class SeparateNegatives(NamedTuple):
    """Separate negatives for each target: [P, G] int32 item rows."""

    items: jax.Array


class SharedNegatives(NamedTuple):
    """Negatives that all targets share; a negative that is the target itself gets the score -inf.

    Attributes:
      items: [G] int32 item rows.
      correction: [G] subtracted from their scores (logQ), infinity for a negative that does not exist; or None.
    """

    items: jax.Array
    correction: jax.Array | None = None


Negatives: TypeAlias = SeparateNegatives | SharedNegatives


class WholeCatalogue(NamedTuple):
    """Instead of drawn negatives: every item that is not the target."""


class Targets(NamedTuple):
    """The items that a training step must predict, and their negatives.

    Attributes:
      places: the places whose states must predict the next item or, at a mask, the masked item.
      users: [P] int32 user rows.
      queries: [P] int32 rows of the query tables.
      negatives: drawn negatives, or all items.
      negative_logits: [P, G, 2] pair logits of users and negatives, or None without gates.
    """

    places: GatheredPlaces | EveryPlace
    users: jax.Array
    queries: jax.Array
    negatives: Negatives | WholeCatalogue
    negative_logits: jax.Array | None = None


class PairScores(NamedTuple):
    """Scores of training pairs.

    Attributes:
      positive: [P] scores of the targets.
      negative: [P, G] scores of their negatives; -inf for a negative that does not exist.
      mask: [P] bool, targets that exist.
      auxiliary: [] the additional loss.
      towers: if scores are a sum over towers (`ItemEncoder.towers`), the scores of each tower, without the additional loss; only for shared
        negatives.
    """

    positive: jax.Array
    negative: jax.Array
    mask: jax.Array
    auxiliary: jax.Array | float = 0.0
    towers: tuple["PairScores", ...] = ()


class CatalogueScores(NamedTuple):
    """Scores of each target's state and each item of the catalogue, `states @ items.T`, which are never stored as one array.

    Attributes:
      states: [P, D].
      items: [V, D] vectors.
      targets: [P] int32 item rows.
      mask: [P] bool, targets that exist.
      auxiliary: [] the additional loss.
      towers: widths of the first parts of states and vectors, which separate losses may train (`ItemEncoder.towers`).
    """

    states: jax.Array
    items: jax.Array
    targets: jax.Array
    mask: jax.Array
    auxiliary: jax.Array | float = 0.0
    towers: tuple[int, ...] = ()


def split_towers(x: jax.Array, widths: Sequence[int]) -> list[jax.Array]:
    """[..., D] -> its first parts, [..., width] each, without the rest after them."""
    ends = np.cumsum(widths)
    return [x[..., end - width : end] for end, width in zip(ends, widths, strict=True)]


class BlockScores(NamedTuple):
    """Scores of each target and each item of the catalogue for models in which an item's vector depends on the user. They are computed
    for a block of targets at a time.

    Attributes:
      score: function from a block [p, ...] of `rows` to the scores [p, V] of its targets.
      rows: the inputs of all targets, a tree of arrays [P, ...].
      targets, mask, auxiliary: as in `CatalogueScores`.
    """

    score: Callable[[Any], jax.Array]
    rows: Any
    targets: jax.Array
    mask: jax.Array
    auxiliary: jax.Array | float = 0.0


Scores: TypeAlias = PairScores | CatalogueScores | BlockScores


class StepContext(NamedTuple):
    """Values that exist only in a training step, for encoders and auxiliary losses; all None outside training.

    Attributes:
      keep_ids: bool, which occurrences of items [T], or which items [V], keep their ID vector (`ItemEncoder.keep_ids`).
      id_rows: [T, D] ID vectors of the items of the step, if updates of the ID table are deferred (`training.optim.deferred_adam`).
      states: [N, D] newest states of all users at the start of the epoch, for methods with `reads_states`.
    """

    keep_ids: jax.Array | None = None
    id_rows: jax.Array | None = None
    states: jax.Array | None = None


NO_CONTEXT = StepContext()
