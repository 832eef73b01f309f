"""Computes the states of a batch from item vectors, and the method's additional loss: the part that all ways of scoring targets share."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.data.packing import START
from grasp_jax.models.auxiliary import AuxiliaryLoss, BatchStates, DrawnNegatives
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.batch import PackedBatch, StepContext, Tables, Targets
from grasp_jax.models.dropout import for_each
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.gates import history_normaliser
from grasp_jax.models.segments import is_last


class HistoryVectors(NamedTuple):
    """Item vectors of a batch.

    Attributes:
      history: [R, L, D] vectors of the histories, once, even if there are masked copies.
      replacements: [R, L, D] vectors of the random items that replace some of these in the first masked copy, or None.
    """

    history: jax.Array
    replacements: jax.Array | None


class StepStates(nn.Module):
    """Item encoder and backbone.

    Attributes:
      encoder: computes the vectors of items.
      backbone: computes states from the vectors of a history.
      projection: "token" or "table", see `models.projection`.
      auxiliary: the method's additional loss, or None.
      shares: number of devices that share a batch.
    """

    encoder: ItemEncoder
    backbone: Backbone
    projection: str = "token"
    auxiliary: AuxiliaryLoss | None = None
    shares: int = 1

    def setup(self) -> None:
        if self.backbone.mask_at:
            self.mask_vector = self.param(
                "mask_vector", nn.initializers.normal(0.02), (self.encoder.mask_width,)
            )

    @property
    def copies(self) -> int:
        """Number of copies of each history in training: a bidirectional backbone sees two, with different masks."""
        return 2 if self.backbone.bidirectional else 1

    @property
    def ahead(self) -> int:
        """Distance from the place of a state to its target: 1 for the next item, 0 for a masked item."""
        return 0 if self.backbone.bidirectional else 1

    def item_features(self, tables: Tables, ids: jax.Array | None = None) -> jax.Array:
        """The part of items that does not depend on the user: [..., 3, H] projections or [..., D] vectors; for None, of all V items."""
        return self.encoder.item_features(tables, ids)

    def _training_states(
        self, inputs: jax.Array, batch: PackedBatch, dropout: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """States [copies * R, L, D], and the segments [copies * R, L] of the items from which they were computed."""
        segments = batch.segments
        if not self.backbone.is_causal and not self.backbone.bidirectional:
            # the last item is only a target, so no state may depend on it
            segments = jnp.where(is_last(segments), -1, segments)
        if self.copies == 1:
            states = self.backbone(inputs, segments, batch.positions, dropout)
        else:
            parts = (
                x.reshape(self.copies, -1, *x.shape[1:])
                for x in (inputs, segments, batch.positions)
            )
            stacked = for_each(
                self.backbone, lambda backbone, *part: backbone(*part, dropout), *parts
            )
            states = stacked.reshape(-1, *stacked.shape[2:])
        return states, self._item_segments(batch._replace(segments=segments))

    def _with_masks(self, vectors: jax.Array, masked: jax.Array) -> jax.Array:
        """[R, L, D] with the mask vector in place of masked items."""
        if not self.backbone.mask_at:
            return vectors
        rest = vectors.shape[-1] - self.mask_vector.shape[-1]
        return jnp.where(masked[..., None], jnp.pad(self.mask_vector, (0, rest)), vectors)

    def _item_segments(self, batch: PackedBatch) -> jax.Array:
        """The segments, with -1 also at the additional masks."""
        return (
            jnp.where(batch.masked, -1, batch.segments)
            if self.backbone.mask_at == START
            else batch.segments
        )

    def _history_normaliser(self, batch: PackedBatch) -> jax.Array | None:
        """[R, L, 3] softmax denominators of the histories up to each place; None for other gates."""
        if not self.encoder.normalises_gates or batch.logits is None:
            return None
        return history_normaliser(batch.logits, self._item_segments(batch))

    def _states_and_auxiliary(
        self,
        tables: Tables,
        batch: PackedBatch,
        vectors: HistoryVectors,
        dropout: jax.Array | None,
        context: StepContext,
        negatives: DrawnNegatives | None,
    ) -> tuple[jax.Array, jax.Array | float]:
        """States [copies * R, L, D], and the method's additional loss [], which may read the negatives of the step."""
        rows = len(vectors.history)
        states, segments = self._training_states(self._inputs(batch, vectors), batch, dropout)
        if self.auxiliary is None:
            return states, 0.0
        # If there are masked copies, the last one has the same prediction task as ranking.
        last_copy = BatchStates(
            segments[-rows:], states[-rows:], batch.items[:rows], vectors.history, negatives
        )
        return states, self.auxiliary(tables, last_copy, context)

    def _inputs(self, batch: PackedBatch, vectors: HistoryVectors) -> jax.Array:
        """The input of the backbone for all copies, [copies * R, L, D]: item vectors, and in the first copy those of the replacements."""
        inputs = jnp.concatenate([vectors.history] * self.copies)
        if batch.replaced is not None and vectors.replacements is not None:
            replaced = (batch.replaced >= 0)[..., None]
            first_copy = jnp.where(replaced, vectors.replacements, vectors.history)
            inputs = jnp.concatenate([first_copy, vectors.history])
        return self._with_masks(inputs, batch.masked)

    def _target_items(self, batch: PackedBatch, targets: Targets) -> jax.Array:
        """[P] int32 item rows of the targets."""
        return targets.places.take(jnp.roll(batch.items, -self.ahead, axis=1))

    def _normaliser_before(
        self, batch: PackedBatch, targets: Targets, normaliser: jax.Array
    ) -> jax.Array:
        """[P, 3] softmax denominators of the histories before the targets, from those [R, L, 3] up to each place; -inf if there is no
        history.
        """
        places = targets.places.places(batch.items.size)
        # the item before the target, if there is one
        before = jnp.maximum(places + self.ahead - 1, 0)
        exists = (batch.positions.ravel()[places] + self.ahead > 0) & (
            self._item_segments(batch).ravel()[before] >= 0
        )
        return jnp.where(exists[:, None], normaliser.reshape(-1, 3)[before], -jnp.inf)
