"""The interface between a sequence model and its item encoder."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables


class GatedHead(NamedTuple):
    """Computes an item's vector from its projections p_k [H] and a pair's three gates g_k: act(sum_k g_k p_k + bias) kernel.

    Attributes:
      rest: [3] gates for logits of 0.
      bias: [H].
      kernel: [H, D].
      activation: act, an elementwise function.
      curvature: the largest absolute second derivative of act.
    """

    rest: jax.Array
    bias: jax.Array
    kernel: jax.Array
    activation: Callable[[jax.Array], jax.Array]
    curvature: float


class ItemEncoder(nn.Module):
    """Computes item vectors from item rows, in two stages: features that do not depend on the user, and a head that also reads a pair's
    gates.

    The defaults are those of an encoder without gates, whose features are the vectors themselves: such a subclass only defines
    `vector_width` and `item_features`. A score is o . vector. It equals `last_layer(o)` times `head_input`, so the last layer is not
    computed for each pair.

    A subclass that trains a vector for each item must call this parameter "table", [V, D], and read it with `id_rows`
    (`encoders.id_table`). By this name its updates are deferred on large catalogues, and its rows are carried over to a run on another
    catalogue.
    """

    @property
    def vector_width(self) -> int:
        """Length of an item vector."""
        raise NotImplementedError(f"{type(self).__name__} does not define vector_width")

    @property
    def gated(self) -> bool:
        """Whether an item's vector depends on the user, by gates whose logits come from the tables "users" and "users_similar"."""
        return False

    @property
    def normalises_gates(self) -> bool:
        """Whether gates are normalised over the user's history (softmax), so that a pair's logits alone do not determine them."""
        return False

    @property
    def drops_ids(self) -> bool:
        """Whether training drops the ID vectors of some occurrences of items, those that `keep_ids` does not keep."""
        return False

    @property
    def towers(self) -> tuple[int, ...]:
        """Widths of the first parts of vectors and states; each of them has a separate loss.

        A score is the sum of the inner products of all these parts and of the rest after them.
        """
        return ()

    @property
    def mask_width(self) -> int:
        """How many entries of a vector a mask trains in place of an item; the other entries are 0 at a mask."""
        return self.vector_width

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """The part of items that does not depend on the user.

        Args:
          tables: frozen tables.
          ids: [...] int32 item rows; None: the whole catalogue.
          context: context of a training step.

        Returns:
          [..., F]; with any number of axes after those of `ids`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define item_features")

    def keep_ids(self, count: int | None) -> jax.Array:
        """[count] bool: which occurrences of items keep their ID vector in this step; for None [V], which items do."""
        return jnp.ones(1 if count is None else count, bool)

    def gates(
        self, logits: jax.Array | None, normaliser: jax.Array | None = None
    ) -> jax.Array | None:
        """[..., 2] pair logits and [..., 3] softmax denominators -> [..., 3] gates; None without gates."""
        return None

    def head_input(self, features: jax.Array, gates: jax.Array | None) -> jax.Array:
        """The input of the last layer, [..., H']; without gates, the vectors themselves."""
        return features

    def finish(self, head: jax.Array) -> jax.Array:
        """The last layer: [..., H'] -> [..., D]."""
        return head

    def __call__(self, features: jax.Array, gates: jax.Array | None) -> jax.Array:
        """Item vectors [..., D]."""
        return self.finish(self.head_input(features, gates))

    def last_layer(self, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        """States o [..., D] -> weights [..., H'] and offset [...] with `o . vector = weights . head_input + offset`."""
        return states, jnp.zeros(states.shape[:-1])

    def score_all(
        self, features: jax.Array, states: jax.Array, gates: jax.Array | None
    ) -> jax.Array:
        """Scores of all pairs of B users and C items: features [C, ...], states [B, D] and gates [B, C, 3] -> [B, C]."""
        return jnp.einsum("bd,cd->bc", states, features)

    def gated_head(self) -> GatedHead | None:
        """The values from which bounds of scores are computed (`evaluation.bounds`); None if item vectors do not have this form."""
        return None
