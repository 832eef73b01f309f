"""A sequence model: an item encoder and a backbone, over packed rows.

`models.build` builds one from the names in a config, by `methods.METHODS` and `backbones.BACKBONES`. Frozen knowledge tables are arguments,
not parameters, so no optimiser state and no gradient has their size.
"""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp

from grasp_jax.models.batch import Negatives, PackedBatch, Params
from grasp_jax.models.encoders.base import GatedHead
from grasp_jax.models.gates import normaliser_with_candidates
from grasp_jax.models.step_items import rows_of_step, split_over_devices
from grasp_jax.models.training_scores import TrainingScores

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class SequenceModel(TrainingScores):
    """Item encoder and backbone, with the methods for training (`TrainingScores`, which has the attributes) and for ranking."""

    @property
    def gated(self) -> bool:
        """Whether an item's vector depends on the user, so that pair logits are needed."""
        return self.encoder.gated

    def gates(self, logits: jax.Array) -> jax.Array | None:
        """[..., 2] pair logits -> [..., 3] gates; None without gates."""
        return self.encoder.gates(logits)

    def gated_head(self) -> GatedHead | None:
        """The values from which bounds of scores are computed (`evaluation.bounds`); None if there are no bounds."""
        return self.encoder.gated_head()

    def score_offset(self, states: jax.Array) -> jax.Array:
        """[..., D] -> [...]: the term that the last layer's bias adds to every score of a state."""
        return self.encoder.last_layer(states)[1]

    def user_states(
        self, features: jax.Array, batch: PackedBatch, newest: jax.Array
    ) -> tuple[jax.Array, jax.Array | None]:
        """States after the newest item of each user.

        Args:
          features: [V, ...] `item_features` of the whole catalogue, which ranking needs too.
          batch: packed histories.
          newest: [B] place, row * L + column, of the newest item, or of the mask after it.

        Returns:
          o [B, D], and the [B, 3] softmax denominators of the histories (None unless the gate is "softmax").
        """
        normaliser = self._history_normaliser(batch)
        vectors = self.encoder(features[batch.items], self.encoder.gates(batch.logits, normaliser))
        states = self.backbone(
            self._with_masks(vectors, batch.masked), batch.segments, batch.positions, None, newest
        )
        last_item = newest - 1 if self.backbone.bidirectional else newest
        return states, None if normaliser is None else normaliser.reshape(-1, 3)[last_item]

    def item_vectors(self, features: jax.Array) -> jax.Array:
        """[V, ...] features -> [V, D] vectors, whose inner product with a state is the score; only for models without gates."""
        return self.encoder(features, None)

    def score_candidates(
        self,
        features: jax.Array,
        states: jax.Array,
        logits: jax.Array | None,
        normaliser: jax.Array | None,
    ) -> jax.Array:
        """Scores of C candidates of each user: features [B, C, ...], states [B, D], logits [B, C, 2] -> [B, C]."""
        gates = self.candidate_gates(logits, normaliser)
        weights, offset = self.encoder.last_layer(states)
        return (
            jnp.einsum("bh,bch->bc", weights, self.encoder.head_input(features, gates))
            + offset[:, None]
        )

    def score_items(
        self,
        features: jax.Array,
        states: jax.Array,
        logits: jax.Array | None,
        normaliser: jax.Array | None,
    ) -> jax.Array:
        """Scores of all pairs of B users and C items: features [C, ...], logits [B, C, 2] -> [B, C]."""
        return self.encoder.score_all(features, states, self.candidate_gates(logits, normaliser))

    def candidate_gates(
        self, logits: jax.Array | None, normaliser: jax.Array | None
    ) -> jax.Array | None:
        """[B, C, 2] logits and [B, 3] denominators of the histories -> [B, C, 3]."""
        return self.encoder.gates(logits, normaliser_with_candidates(logits, normaliser))


def apply(
    model: SequenceModel,
    params: Params,
    method: Callable[Concatenate[SequenceModel, Arguments], Result],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """`model.method(*args, **kwargs)` with the given parameters and without dropout; `method` is a method of the class."""
    bound = cast(
        Callable[Arguments, Result],
        functools.partial(model.apply, {"params": params}, method=method),
    )
    return bound(*args, **kwargs)


def step_rows(model: SequenceModel, batch: PackedBatch, negatives: Negatives) -> jax.Array:
    """[n, m] item rows whose vectors a step computes, for each of the n devices that share the batch (`split_over_devices`)."""
    return split_over_devices(
        rows_of_step(batch, negatives, model.backbone.bidirectional), model.shares
    )
