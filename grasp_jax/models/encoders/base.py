"""What a sequence model asks of an item encoder."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.models.batch import NO_CONTEXT, StepContext, Tables


class GatedHead(NamedTuple):
    """The way from an item's projections p_k [H] and a pair's three gates g_k to its vector: act(sum_k g_k p_k + bias) kernel.

    Attributes:
      rest: [3] gates of the logits 0.
      bias: [H].
      kernel: [H, D].
      activation: act, of each number.
      curvature: the largest absolute second derivative of act.
    """

    rest: jax.Array
    bias: jax.Array
    kernel: jax.Array
    activation: Callable[[jax.Array], jax.Array]
    curvature: float


class ItemEncoder(nn.Module):
    """From item rows to item vectors, in two stages: features that no user changes, and a head that a pair's gates enter.

    The defaults are those of an encoder without gates, whose features are the vectors themselves: such a subclass has `vector_width`
    and `item_features`, and no more. A score is o . vector, and equals `last_layer(o)` times `head_input`, so that a pair never costs
    the last layer.

    A subclass that trains a vector of each item calls that parameter "table", [V, D], and reads it by `id_rows` (`encoders.id_table`):
    by that name it is trained sparsely on large catalogues, and carried over to a run on another catalogue.
    """

    @property
    def vector_width(self) -> int:
        """Length of an item vector."""
        raise NotImplementedError

    @property
    def gated(self) -> bool:
        """Whether an item's vector depends on the user, by gates whose logits come from the tables "users" and "users_similar"."""
        return False

    @property
    def normalises_gates(self) -> bool:
        """Whether gates are normalised over the history at hand (softmax), so that a pair's logits alone do not tell them."""
        return False

    @property
    def drops_ids(self) -> bool:
        """Whether training leaves out the ID vectors of some occurrences of items, those that `keep_ids` does not keep."""
        return False

    @property
    def towers(self) -> tuple[int, ...]:
        """Widths of the first parts of vectors and states, each of which has a loss of its own where `train.towers` says so.

        A score is the sum of the products of all parts, these and what comes after them.
        """
        return ()

    @property
    def mask_width(self) -> int:
        """How many of a vector's numbers a mask trains in place of an item's; the others are 0 there."""
        return self.vector_width

    @property
    def gathers_itself(self) -> bool:
        """Whether `gathered_head_input` stands for `item_features` and `head_input` in training, where negatives are each target's own."""
        return False

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """What is needed of items before a user is known.

        Args:
          tables: frozen knowledge.
          ids: [...] int32 item rows; None: the whole catalogue.
          context: of a training step.

        Returns:
          [..., F]; of any number of axes after those of `ids`.
        """
        raise NotImplementedError

    def gathered_head_input(self, tables: Tables, ids: jax.Array, gates: jax.Array) -> jax.Array:
        """`head_input` of item rows [...] and gates [..., 3], straight from the tables."""
        raise NotImplementedError

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
        """What bounds of scores are computed from (`evaluation.bounds`); None where a pair is not of that form."""
        return None
