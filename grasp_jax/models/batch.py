"""What goes into a sequence model and what comes out of it: packed histories, targets, and the scores of training pairs.

Legend: R rows of L places, B users, P targets, G negatives, of each target or shared by all, V items, D width of the backbone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Tables: TypeAlias = Mapping[str, Any]  # frozen tables by name: arrays, or rows of `parallel.rows`
Params: TypeAlias = Mapping[
    str, Any
]  # parameters of one model, or of M models with a leading axis, nested as in flax


class PackedBatch(NamedTuple):
    """Packed rows of several users' histories.

    Attributes:
      items: [R, L] int32 item rows (0 where empty).
      segments: [R, L] int32 user row, -1 where empty.
      positions: [R, L] int32 position within the history.
      logits: [R, L, 2] cached pair logits of user and item, or None for encoders without gates.
      masked: [R, L] bool, whether the item is masked, or the place is an additional mask; all False for SASRec.
      queries: [R, L] int32 row of the query tables (the user's text vectors) for the item at a place.
      replaced: for two masked copies, item rows [R / 2, L] that the first copy shows in place of its items, -1 for none; or None.
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

    The backward pass looks up which target a place is, instead of adding to zeros: one kernel on a GPU, while a scatter takes two. Padding
    gets the value of the last place, and has no gradient.
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
    asked = (flat[target] == place).reshape(-1, *[1] * (gradient.ndim - 1))
    return jnp.where(asked, gradient[target], 0), None


take_places.defvjp(_take_forward, _take_backward)


class GatheredPlaces(NamedTuple):
    """Targets that are gathered from their places, one after the other.

    Attributes:
      flat: [P] int32 place of each target, row * L + column, ascending, padded with R * L.
    """

    flat: jax.Array

    def places(self, batch_size: int) -> jax.Array:
        """[P] places within a batch of R * L; that of a missing target is any place."""
        return jnp.minimum(self.flat, batch_size - 1)

    def exist(self, batch_size: int) -> jax.Array:
        """[P] bool: whether there is such a target."""
        return self.flat < batch_size

    def take(self, of_places: jax.Array) -> jax.Array:
        """Gathers the values at the targets: [R, L, ...] -> [P, ...]."""
        flat = of_places.reshape(-1, *of_places.shape[2:])
        # A CPU is as fast either way, and this way its results stay bit-identical.
        on_gpu = jax.default_backend() == "gpu"
        return take_places(flat, self.flat) if on_gpu else flat[self.places(len(flat))]


class EveryPlace(NamedTuple):
    """Every place is a target, P = R * L, but only some count: rows that devices share stay on their device.

    Attributes:
      is_target: [R, L] bool.
    """

    is_target: jax.Array

    def places(self, batch_size: int) -> jax.Array:
        """[P] places, all of them."""
        return jnp.arange(batch_size)

    def exist(self, batch_size: int) -> jax.Array:
        """[P] bool: whether the place counts as a target."""
        return self.is_target.ravel()

    def take(self, of_places: jax.Array) -> jax.Array:
        """[R, L, ...] -> [P, ...]: nothing is gathered."""
        return of_places.reshape(-1, *of_places.shape[2:])


class OwnNegatives(NamedTuple):
    """Separate negatives for each target: [P, G] int32 item rows."""

    items: jax.Array


class SharedNegatives(NamedTuple):
    """Negatives that all targets share; one that is the target itself scores -inf.

    Attributes:
      items: [G] int32 item rows.
      correction: [G] subtracted from their scores, infinity for a negative that does not exist; or None.
    """

    items: jax.Array
    correction: jax.Array | None = None


Negatives: TypeAlias = OwnNegatives | SharedNegatives


class WholeCatalogue(NamedTuple):
    """In place of negatives: every item that is not the target."""


class Targets(NamedTuple):
    """The items that a training step must predict, and their negatives.

    Attributes:
      places: the places whose states must predict the next item or, at a mask, the masked item.
      users: [P] int32 user rows.
      queries: [P] int32 rows of the query tables.
      negatives: item rows with which the target is compared; or all items.
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
      positive: [P].
      negative: [P, G]; -inf: none.
      mask: [P] pairs that exist.
      auxiliary: [] the additional loss.
      towers: the scores of each of several products whose sum these scores are (`ItemEncoder.towers`), without the additional loss; only
        for shared negatives.
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
      mask: [P] targets that exist.
      auxiliary: [] the additional loss.
      towers: widths of the first parts of states and vectors, which separate losses may train (`ItemEncoder.towers`).
    """

    states: jax.Array
    items: jax.Array
    targets: jax.Array
    mask: jax.Array
    auxiliary: jax.Array | float = 0.0
    towers: tuple[int, ...] = ()


def parts_of_towers(x: jax.Array, widths: Sequence[int]) -> list[jax.Array]:
    """[..., D] -> its first parts, [..., width] each; the rest is left out."""
    ends = np.cumsum(widths)
    return [x[..., end - width : end] for end, width in zip(ends, widths, strict=True)]


class BlockScores(NamedTuple):
    """Scores of each target and each item of the catalogue for models in which an item's vector depends on the user: a function of some
    targets.

    Attributes:
      score: function from some rows of `rows` to the scores [p, V] of their targets.
      rows: a tree of arrays [P, ...].
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
      keep_ids: [T] bool, which occurrences of items, or [V] bool, which items keep their ID vector (`ItemEncoder.keep_ids`).
      id_rows: [T, D] ID vectors of the items of the step, if updates of the ID table are deferred (`training.optim.deferred_adam`).
      states: [N, D] newest states of all users at the start of the epoch, for methods with `reads_states`.
    """

    keep_ids: jax.Array | None = None
    id_rows: jax.Array | None = None
    states: jax.Array | None = None


NO_CONTEXT = StepContext()
