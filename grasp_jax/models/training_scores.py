"""The scores that a step is trained on: of each target and of its negatives, at all places of packed histories at once."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.data.packing import START
from grasp_jax.models.auxiliary import AuxiliaryLoss, BatchStates, drawn_items
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.batch import (
    NO_CONTEXT,
    GatheredPlaces,
    Negatives,
    OwnNegatives,
    PackedBatch,
    PairScores,
    SharedNegatives,
    StepContext,
    Tables,
    Targets,
)
from grasp_jax.models.dropout import for_each
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.gates import candidate_normaliser, history_normaliser
from grasp_jax.models.projection import take_rows
from grasp_jax.models.segments import is_last
from grasp_jax.models.step_items import ItemParts, in_shares, parts_of, rows_of_step


class ScoredStates(NamedTuple):
    """States o, as scores read them.

    Attributes:
      states: [R, L, D] o.
      weights, offset: [R, L, H'] and [R, L] with `score = weights . head_input + offset` (`ItemEncoder.last_layer`).
    """

    states: jax.Array
    weights: jax.Array
    offset: jax.Array


class TrainingScores(nn.Module):
    """Item encoder and backbone, as training reads them.

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
                "mask_vector", nn.initializers.normal(0.02), (self.encoder.vector_width,)
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

    def training_features(
        self,
        tables: Tables,
        batch: PackedBatch,
        negatives: Negatives,
        context: StepContext = NO_CONTEXT,
    ) -> jax.Array:
        """`item_features` of the `rows_of_step`, [n, K, ...], by the cheaper of two equal ways."""
        rows = rows_of_step(batch, negatives, self.backbone.bidirectional)
        ids = in_shares(rows, self.shares)
        flat = ids.ravel()  # for products over one axis: a CPU is much slower over two
        if self.encoder.drops_ids:  # by occurrence, not by item
            kept = [self.encoder.keep_ids(part.size) for part in rows]
            context = context._replace(keep_ids=in_shares(kept, self.shares).ravel())
            found = self.encoder.item_features(tables, flat, context)
        elif self.projection == "token":
            found = self.encoder.item_features(tables, flat, context)
        else:
            found = take_rows(self.item_features(tables), flat)
        return found.reshape(*ids.shape, *found.shape[1:])

    def training_scores(
        self,
        tables: Tables,
        batch: PackedBatch,
        targets: Targets,
        dropout: jax.Array | None = None,
        context: StepContext = NO_CONTEXT,
    ) -> PairScores:
        """Scores of each target and of its negatives.

        Args:
          tables: frozen knowledge.
          batch: packed histories; for a bidirectional backbone, two differently masked copies one after the other.
          targets: places whose states are asked, and negatives; with pair logits if there are gates.
          dropout: [] the rate, or None.
          context: of the training step.
        """
        fused = self._gathers_itself(targets.negatives)
        parts = self._parts(tables, batch, targets.negatives, fused, context)
        normaliser = self._history_normaliser(batch)

        # The vectors of the histories, as input and as targets.
        rows = batch.items.shape[0] // self.copies
        gates = self.encoder.gates(_first(batch.logits, rows), _first(normaliser, rows))
        head = self._head_input(tables, parts.history, (rows, batch.items.shape[1]), gates, fused)
        vectors = self.encoder.finish(head)
        head = jnp.concatenate([head] * self.copies)
        inputs = self._inputs(tables, batch, vectors, parts.shown, normaliser, fused)

        states, items_at = self._training_states(inputs, batch, dropout)
        auxiliary: jax.Array | float = 0.0
        if (
            self.auxiliary is not None
        ):  # of masked copies, the last is the one that is asked what ranking asks
            drawn = None
            if not self.encoder.gated:
                drawn = drawn_items(targets, self.encoder(parts.negatives, None), batch.items.size)
            last_copy = BatchStates(
                items_at[-rows:], states[-rows:], batch.items[:rows], vectors, drawn
            )
            auxiliary = self.auxiliary(tables, last_copy, context)

        # Positives and negatives are scored alike, through the last layer, so that rounding in bfloat16 favours neither.
        scored = ScoredStates(states, *self.encoder.last_layer(states))
        positive = (scored.weights * jnp.roll(head, -self.ahead, axis=1)).sum(
            axis=-1
        ) + scored.offset
        gates = self._negative_gates(batch, targets, normaliser)
        if isinstance(targets.negatives, SharedNegatives):
            negative = self._shared_scores(batch, targets, parts.negatives, scored, gates)
        else:
            own_head = self._head_input(
                tables, parts.negatives, targets.negatives.items.shape, gates, fused
            )
            negative = _own_scores(targets, own_head, scored)
        places = targets.places
        return PairScores(
            places.take(positive), negative, places.exist(batch.items.size), auxiliary
        )

    def _gathers_itself(self, negatives: Negatives) -> bool:
        """Whether the encoder gathers rows by a kernel of its own: with ids in place of features, and nothing shared."""
        return (
            self.encoder.gathers_itself
            and self.projection == "token"
            and isinstance(negatives, OwnNegatives)
        )

    def _parts(
        self,
        tables: Tables,
        batch: PackedBatch,
        negatives: Negatives,
        fused: bool,
        context: StepContext,
    ) -> ItemParts:
        """Features of the items of a step; their rows, if the encoder gathers itself."""
        if fused:
            rows = in_shares(
                rows_of_step(batch, negatives, self.backbone.bidirectional), self.shares
            )
            return parts_of(rows, batch, negatives)
        return parts_of(self.training_features(tables, batch, negatives, context), batch, negatives)

    def _head_input(
        self,
        tables: Tables,
        part: jax.Array,
        shape: tuple[int, ...],
        gates: jax.Array | None,
        fused: bool,
    ) -> jax.Array:
        """Of one of `ItemParts`, laid out as `shape`: [*shape, H']."""
        if fused:
            assert gates is not None
            return self.encoder.gathered_head_input(tables, part.reshape(shape), gates)
        return self.encoder.head_input(part.reshape(*shape, *part.shape[1:]), gates)

    def _inputs(
        self,
        tables: Tables,
        batch: PackedBatch,
        vectors: jax.Array,
        shown: jax.Array | None,
        normaliser: jax.Array | None,
        fused: bool,
    ) -> jax.Array:
        """What the backbone reads of all copies, [copies * R, L, D]: `vectors`, or in the first copy what is shown in place of them."""
        inputs = jnp.concatenate([vectors] * self.copies)
        if batch.replaced is not None and shown is not None:
            gates = self.encoder.gates(batch.replaced_logits, _first(normaliser, len(vectors)))
            others = self.encoder.finish(
                self._head_input(tables, shown, batch.replaced.shape, gates, fused)
            )
            inputs = jnp.concatenate(
                [jnp.where((batch.replaced >= 0)[..., None], others, vectors), vectors]
            )
        return self._hidden(inputs, batch.masked)

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

    def _negative_gates(
        self, batch: PackedBatch, targets: Targets, normaliser: jax.Array | None
    ) -> jax.Array | None:
        """[P, G, 3] or [P, S, 3] gates of users and negatives; None without gates."""
        logits = targets.negative_logits
        if normaliser is None or logits is None:
            return self.encoder.gates(logits)
        place = targets.places.places(batch.items.size)
        before = jnp.maximum(
            place + self.ahead - 1, 0
        )  # the newest item that the asked one follows, if there is one
        follows = (batch.positions.ravel()[place] + self.ahead > 0) & (
            self._of_items(batch).ravel()[before] >= 0
        )
        of_history = jnp.where(follows[:, None], normaliser.reshape(-1, 3)[before], -jnp.inf)
        return self.encoder.gates(logits, candidate_normaliser(logits, of_history[:, None]))

    def _shared_scores(
        self,
        batch: PackedBatch,
        targets: Targets,
        features: jax.Array,
        scored: ScoredStates,
        gates: jax.Array | None,
    ) -> jax.Array:
        """[P, S] scores of negatives that all targets share; -inf where one is the target."""
        scores = self.encoder.score_all(features, targets.places.take(scored.states), gates)
        wanted = targets.places.take(jnp.roll(batch.items, -self.ahead, axis=1))
        return jnp.where(targets.negatives.items == wanted[:, None], -jnp.inf, scores)

    def _hidden(self, vectors: jax.Array, masked: jax.Array) -> jax.Array:
        """[R, L, D] with the mask vector where an item is hidden."""
        return (
            jnp.where(masked[..., None], self.mask_vector, vectors)
            if self.backbone.mask_at
            else vectors
        )

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

    def __call__(self, tables: Tables, batch: PackedBatch) -> PairScores:
        """Touches every parameter, for initialisation."""
        row, negative = jnp.zeros(1, jnp.int32), batch.items[:1, :1]
        logits = None if batch.logits is None else batch.logits[:1, :1]
        if self.backbone.bidirectional:
            batch = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batch)
        targets = Targets(GatheredPlaces(row), row, row, OwnNegatives(negative), logits)
        return self.training_scores(tables, batch, targets)


def _first(x: jax.Array | None, rows: int) -> jax.Array | None:
    """Of one copy."""
    return None if x is None else x[:rows]


def _own_scores(targets: Targets, head: jax.Array, scored: ScoredStates) -> jax.Array:
    """[P, G] scores of negatives that each target has to itself, of their `head_input` [P, G, H']."""
    weights, offset = targets.places.take(scored.weights), targets.places.take(scored.offset)
    return (weights[:, None] * head).sum(axis=-1) + offset[:, None]
