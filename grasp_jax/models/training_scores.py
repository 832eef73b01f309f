"""The scores of the targets of a training step and of their negatives, for all packed histories at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from grasp_jax.models.auxiliary import drawn_negatives
from grasp_jax.models.batch import (
    NO_CONTEXT,
    GatheredPlaces,
    Negatives,
    PackedBatch,
    PairScores,
    Scores,
    SeparateNegatives,
    SharedNegatives,
    StepContext,
    Tables,
    Targets,
    WholeCatalogue,
    split_towers,
)
from grasp_jax.models.catalogue_scores import CatalogueTraining
from grasp_jax.models.gates import normaliser_with_candidates
from grasp_jax.models.projection import take_rows
from grasp_jax.models.step_items import rows_of_step, split_over_devices, split_step_items
from grasp_jax.models.step_states import HistoryVectors


class ScoredStates(NamedTuple):
    """States o, in the form from which scores are computed.

    Attributes:
      states: [R, L, D] o.
      weights, offset: [R, L, H'] and [R, L] with `score = weights . head_input + offset` (`ItemEncoder.last_layer`).
    """

    states: jax.Array
    weights: jax.Array
    offset: jax.Array


class TrainingScores(CatalogueTraining):
    """Item encoder and backbone, with the methods for training; `StepStates` has the attributes."""

    def training_features(
        self,
        tables: Tables,
        batch: PackedBatch,
        negatives: Negatives,
        context: StepContext = NO_CONTEXT,
    ) -> jax.Array:
        """`item_features` [n, m, ...] of the `rows_of_step`, split over n devices; computed for each id or once for all (`projection`)."""
        rows = rows_of_step(batch, negatives, self.backbone.bidirectional)
        ids = split_over_devices(rows, self.shares)
        flat = ids.ravel()  # for products over one axis, because a CPU is much slower over two
        if self.encoder.drops_ids:  # for each occurrence, not for each item
            keep = [self.encoder.keep_ids(part.size) for part in rows]
            context = context._replace(keep_ids=split_over_devices(keep, self.shares).ravel())
        if self.encoder.drops_ids or self.projection == "token":
            features = self.encoder.item_features(tables, flat, context)
        else:
            features = take_rows(self.item_features(tables), flat)
        return features.reshape(*ids.shape, *features.shape[1:])

    def training_scores(
        self,
        tables: Tables,
        batch: PackedBatch,
        targets: Targets,
        dropout: jax.Array | None = None,
        context: StepContext = NO_CONTEXT,
    ) -> Scores:
        """Scores of each target, and of its negatives or of the whole catalogue.

        Args:
          tables: frozen tables.
          batch: packed histories; for a bidirectional backbone, two copies with different masks, one after the other.
          targets: places of the targets, and negatives; with pair logits if there are gates.
          dropout: [] the rate, or None.
          context: context of the training step.
        """
        if isinstance(targets.negatives, WholeCatalogue):
            return self.catalogue_scores(tables, batch, targets, dropout, context)
        features = self.training_features(tables, batch, targets.negatives, context)
        parts = split_step_items(features, batch, targets.negatives)
        normaliser = self._history_normaliser(batch)

        # The vectors of the histories, as input and as targets.
        rows = batch.items.shape[0] // self.copies
        gates = self.encoder.gates(_first(batch.logits, rows), _first(normaliser, rows))
        head = self._head_input(parts.history, (rows, batch.items.shape[1]), gates)
        replacements = self._replacement_vectors(
            batch, parts.replacements, _first(normaliser, rows)
        )
        vectors = HistoryVectors(self.encoder.finish(head), replacements)
        head = jnp.concatenate([head] * self.copies)
        negatives = None
        if self.auxiliary is not None and not self.encoder.gated:
            negative_vectors = self.encoder(parts.negatives, None)
            negatives = drawn_negatives(targets, negative_vectors, batch.items.size)
        states, auxiliary = self._states_and_auxiliary(
            tables, batch, vectors, dropout, context, negatives
        )

        # Positives and negatives are scored in the same way, through the last layer, so that rounding in bfloat16 favours neither.
        scored = ScoredStates(states, *self.encoder.last_layer(states))
        positive = (scored.weights * jnp.roll(head, -self.ahead, axis=1)).sum(
            axis=-1
        ) + scored.offset
        gates = self._negative_gates(batch, targets, normaliser)
        towers: tuple[PairScores, ...] = ()
        if isinstance(targets.negatives, SharedNegatives):
            scores = self.encoder.score_all(parts.negatives, targets.places.take(states), gates)
            negative = self._corrected(batch, targets, scores)
            towers = self._towers(batch, targets, parts.negatives, vectors.history, states)
        else:
            shape = targets.negatives.items.shape
            negative_head = self._head_input(parts.negatives, shape, gates)
            negative = _separate_scores(targets, negative_head, scored)
        places = targets.places
        return PairScores(
            places.take(positive), negative, places.exist(batch.items.size), auxiliary, towers
        )

    def _head_input(
        self, part: jax.Array, shape: tuple[int, ...], gates: jax.Array | None
    ) -> jax.Array:
        """`head_input` of one of `ItemParts`, reshaped to [*shape, H']."""
        return self.encoder.head_input(part.reshape(*shape, *part.shape[1:]), gates)

    def _replacement_vectors(
        self, batch: PackedBatch, features: jax.Array | None, normaliser: jax.Array | None
    ) -> jax.Array | None:
        """[R, L, D] vectors of the random items that replace items of the first copy, from their features; None if there are none."""
        if batch.replaced is None or features is None:
            return None
        gates = self.encoder.gates(batch.replaced_logits, normaliser)
        return self.encoder.finish(self._head_input(features, batch.replaced.shape, gates))

    def _negative_gates(
        self, batch: PackedBatch, targets: Targets, normaliser: jax.Array | None
    ) -> jax.Array | None:
        """[P, G, 3] gates of users and negatives; None without gates."""
        logits = targets.negative_logits
        before = None if normaliser is None else self._normaliser_before(batch, targets, normaliser)
        return self.encoder.gates(logits, normaliser_with_candidates(logits, before))

    def _corrected(self, batch: PackedBatch, targets: Targets, scores: jax.Array) -> jax.Array:
        """[P, G] scores of negatives that all targets share, with their correction; -inf if a negative is the target."""
        assert isinstance(targets.negatives, SharedNegatives)
        if targets.negatives.correction is not None:
            scores = scores - targets.negatives.correction
        items = self._target_items(batch, targets)
        return jnp.where(targets.negatives.items == items[:, None], -jnp.inf, scores)

    def _towers(
        self,
        batch: PackedBatch,
        targets: Targets,
        features: jax.Array,
        vectors: jax.Array,
        states: jax.Array,
    ) -> tuple[PairScores, ...]:
        """Scores of each tower, from the features [G, ...] of shared negatives, the vectors [R, L, D] of the histories, and the states."""
        widths = self.encoder.towers
        if not widths:
            return ()
        next_vectors = jnp.roll(jnp.concatenate([vectors] * self.copies), -self.ahead, axis=1)
        places, exist = targets.places, targets.places.exist(batch.items.size)
        parts = (
            split_towers(x, widths)
            for x in (places.take(states), places.take(next_vectors), self.encoder(features, None))
        )
        return tuple(
            PairScores((o * target).sum(axis=-1), self._corrected(batch, targets, o @ v.T), exist)
            for o, target, v in zip(*parts, strict=True)
        )

    def __call__(self, tables: Tables, batch: PackedBatch) -> Scores:
        """Uses every parameter once, for initialisation."""
        row, negative = jnp.zeros(1, jnp.int32), batch.items[:1, :1]
        logits = None if batch.logits is None else batch.logits[:1, :1]
        if self.backbone.bidirectional:
            batch = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batch)
        targets = Targets(GatheredPlaces(row), row, row, SeparateNegatives(negative), logits)
        return self.training_scores(tables, batch, targets)


def _first(x: jax.Array | None, rows: int) -> jax.Array | None:
    """The values of the first copy."""
    return None if x is None else x[:rows]


def _separate_scores(targets: Targets, head: jax.Array, scored: ScoredStates) -> jax.Array:
    """[P, G] scores of each target's separate negatives, from their `head_input` [P, G, H']."""
    weights, offset = targets.places.take(scored.weights), targets.places.take(scored.offset)
    return (weights[:, None] * head).sum(axis=-1) + offset[:, None]
