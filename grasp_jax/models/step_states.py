"""From the item vectors of a batch to the states at its places, and the method's own loss: what every way of scoring targets shares."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.data.packing import START
from grasp_jax.models.auxiliary import AuxiliaryLoss, BatchStates, DrawnItems
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.batch import PackedBatch, StepContext, Tables, Targets
from grasp_jax.models.dropout import for_each
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.gates import history_normaliser
from grasp_jax.models.segments import is_last


class HistoryVectors(NamedTuple):
    """Item vectors of a batch.

    Attributes:
      own: [R, L, D] of the histories, once, though masked copies follow.
      shown: [R, L, D] of the items that the first masked copy shows in place of some, or None.
    """

    own: jax.Array
    shown: jax.Array | None


class StepStates(nn.Module):
    """Item encoder and backbone.

    Attributes:
      encoder: what an item's vector is.
      backbone: what is made of the vectors of a history.
      projection: "token" or "table", see `models.projection`.
      auxiliary: the method's loss beside that of the next item, or None.
      shares: devices that share out a batch.
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
        """Of each history in training: a bidirectional backbone sees two, masked in different ways."""
        return 2 if self.backbone.bidirectional else 1

    @property
    def ahead(self) -> int:
        """How many places after its target's state an item stands: the next one, or the one that is hidden there."""
        return 0 if self.backbone.bidirectional else 1

    def item_features(self, tables: Tables, ids: jax.Array | None = None) -> jax.Array:
        """What the encoder needs of items before a user is known: [..., 3, H] projections or [..., D] vectors; all V for None."""
        return self.encoder.item_features(tables, ids)

    def _training_states(
        self, inputs: jax.Array, batch: PackedBatch, dropout: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """States [copies * R, L, D], and the segments [copies * R, L] of the items that they were made of."""
        segments = batch.segments
        if not self.backbone.is_causal and not self.backbone.bidirectional:
            segments = jnp.where(
                is_last(segments), -1, segments
            )  # the last item is only asked for, so nobody may look at it
        if self.copies == 1:
            states = self.backbone(inputs, segments, batch.positions, dropout)
        else:
            parts = (
                x.reshape(self.copies, -1, *x.shape[1:])
                for x in (inputs, segments, batch.positions)
            )
            each = for_each(self.backbone, lambda backbone, *part: backbone(*part, dropout), *parts)
            states = each.reshape(-1, *each.shape[2:])
        return states, self._of_items(batch._replace(segments=segments))

    def _hidden(self, vectors: jax.Array, masked: jax.Array) -> jax.Array:
        """[R, L, D] with the mask vector where an item is hidden."""
        if not self.backbone.mask_at:
            return vectors
        rest = vectors.shape[-1] - self.mask_vector.shape[-1]
        return jnp.where(masked[..., None], jnp.pad(self.mask_vector, (0, rest)), vectors)

    def _of_items(self, batch: PackedBatch) -> jax.Array:
        """Segments of real items; a mask before a history is none."""
        return (
            jnp.where(batch.masked, -1, batch.segments)
            if self.backbone.mask_at == START
            else batch.segments
        )

    def _history_normaliser(self, batch: PackedBatch) -> jax.Array | None:
        """[R, L, 3] softmax denominators of the histories up to each place; None for other gates."""
        if not self.encoder.normalises_gates or batch.logits is None:
            return None
        return history_normaliser(batch.logits, self._of_items(batch))

    def _states_and_auxiliary(
        self,
        tables: Tables,
        batch: PackedBatch,
        vectors: HistoryVectors,
        dropout: jax.Array | None,
        context: StepContext,
        drawn: DrawnItems | None,
    ) -> tuple[jax.Array, jax.Array | float]:
        """States [copies * R, L, D], and the method's own loss [], which may read negatives that were drawn."""
        rows = len(vectors.own)
        states, items_at = self._training_states(self._inputs(batch, vectors), batch, dropout)
        if self.auxiliary is None:
            return states, 0.0
        # Of masked copies, the last is the one that is asked what ranking asks.
        last_copy = BatchStates(
            items_at[-rows:], states[-rows:], batch.items[:rows], vectors.own, drawn
        )
        return states, self.auxiliary(tables, last_copy, context)

    def _inputs(self, batch: PackedBatch, vectors: HistoryVectors) -> jax.Array:
        """What the backbone reads of all copies, [copies * R, L, D]: vectors, or in the first copy what is shown in place of them."""
        inputs = jnp.concatenate([vectors.own] * self.copies)
        if batch.replaced is not None and vectors.shown is not None:
            replaced = (batch.replaced >= 0)[..., None]
            inputs = jnp.concatenate([jnp.where(replaced, vectors.shown, vectors.own), vectors.own])
        return self._hidden(inputs, batch.masked)

    def _wanted(self, batch: PackedBatch, targets: Targets) -> jax.Array:
        """[P] int32 rows of the items that are asked for."""
        return targets.places.take(jnp.roll(batch.items, -self.ahead, axis=1))

    def _normaliser_before(
        self, batch: PackedBatch, targets: Targets, normaliser: jax.Array
    ) -> jax.Array:
        """[P, 3] softmax denominators of the histories before the targets, of those [R, L, 3] up to each place; -inf: none."""
        place = targets.places.places(batch.items.size)
        before = jnp.maximum(
            place + self.ahead - 1, 0
        )  # the newest item that the asked one follows, if there is one
        follows = (batch.positions.ravel()[place] + self.ahead > 0) & (
            self._of_items(batch).ravel()[before] >= 0
        )
        return jnp.where(follows[:, None], normaliser.reshape(-1, 3)[before], -jnp.inf)
