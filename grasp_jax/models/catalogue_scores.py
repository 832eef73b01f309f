"""The scores of each target and every item, for cross-entropy over the whole catalogue.

The vectors of all items are computed once a step, and the histories gather theirs from them. Scores are products of states and vectors of
width D, not of the wider input of the last layer: to apply the last layer to all items costs V x H' x D, which is little compared with
products of P x V pairs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from grasp_jax.models.auxiliary import DrawnNegatives
from grasp_jax.models.batch import (
    BlockScores,
    CatalogueScores,
    PackedBatch,
    StepContext,
    Tables,
    Targets,
)
from grasp_jax.models.device_data import all_pair_logits
from grasp_jax.models.gates import normaliser_with_candidates
from grasp_jax.models.projection import take_rows
from grasp_jax.models.step_states import HistoryVectors, StepStates


class CatalogueTargets(NamedTuple):
    """The values from which the targets' scores are computed if there are gates.

    Attributes:
      states: [P, D].
      queries: [P] int32 rows of the query tables.
      normaliser: [P, 3] softmax denominators of the history before each target, or None.
      keys: [P] keys of random streams, or None outside training.
    """

    states: jax.Array
    queries: jax.Array
    normaliser: jax.Array | None
    keys: jax.Array | None


class CatalogueTraining(StepStates):
    """Item encoder and backbone, with the methods that cross-entropy over the whole catalogue needs."""

    def catalogue_scores(
        self,
        tables: Tables,
        batch: PackedBatch,
        targets: Targets,
        dropout: jax.Array | None,
        context: StepContext,
    ) -> CatalogueScores | BlockScores:
        """As `TrainingScores.training_scores`, with the same arguments."""
        # one draw for each item and step, for the item as input and as target
        if self.encoder.drops_ids:
            context = context._replace(keep_ids=self.encoder.keep_ids(None))
        features = self.encoder.item_features(tables, None, context)
        if not self.encoder.gated:
            features = self.encoder(features, None)
        vectors = self._history_vectors(features, batch)
        negatives = self._auxiliary_negatives(features, batch)
        states, auxiliary = self._states_and_auxiliary(
            tables, batch, vectors, dropout, context, negatives
        )
        target_states = targets.places.take(states)
        items, exist = self._target_items(batch, targets), targets.places.exist(batch.items.size)
        if self.encoder.gated:
            rows = self._catalogue_targets(batch, targets, target_states)
            score = self._score_function(tables, features)
            return BlockScores(score, rows, items, exist, auxiliary)
        return CatalogueScores(
            target_states, features, items, exist, auxiliary, self.encoder.towers
        )

    def _auxiliary_negatives(
        self, features: jax.Array, batch: PackedBatch
    ) -> DrawnNegatives | None:
        """Negatives for an auxiliary loss, because this loss itself draws none: uniform, as many as there are places."""
        if self.auxiliary is None or self.encoder.gated or not self.has_rng("dropout"):
            return None
        shape = (batch.items.size,)
        items = jax.random.randint(self.make_rng("dropout"), shape, 0, len(features), jnp.int32)
        return DrawnNegatives(items, features[items], jnp.ones(shape, bool))

    def _history_vectors(self, features: jax.Array, batch: PackedBatch) -> HistoryVectors:
        """Vectors of the items of a batch, from the features [V, ...] of all items; without gates the features are the vectors."""
        rows = batch.items.shape[0] // self.copies
        items = [batch.items[:rows]]
        if batch.replaced is not None:
            items.append(jnp.maximum(batch.replaced, 0))
        index = jnp.stack(items)
        gathered = take_rows(features, index.ravel()).reshape(*index.shape, *features.shape[1:])
        if not self.encoder.gated:
            return HistoryVectors(gathered[0], None if batch.replaced is None else gathered[1])
        normaliser = self._history_normaliser(batch)
        normaliser = None if normaliser is None else normaliser[:rows]
        logits = None if batch.logits is None else batch.logits[:rows]
        history = self.encoder(gathered[0], self.encoder.gates(logits, normaliser))
        if batch.replaced is None:
            return HistoryVectors(history, None)
        gates = self.encoder.gates(batch.replaced_logits, normaliser)
        return HistoryVectors(history, self.encoder(gathered[1], gates))

    def _catalogue_targets(
        self, batch: PackedBatch, targets: Targets, states: jax.Array
    ) -> CatalogueTargets:
        """`CatalogueTargets` of targets with the states [P, D]."""
        normaliser = self._history_normaliser(batch)
        before = None if normaliser is None else self._normaliser_before(batch, targets, normaliser)
        keys = None
        if self.has_rng("dropout"):
            keys = jax.random.split(self.make_rng("dropout"), len(states))
        return CatalogueTargets(states, targets.queries, before, keys)

    def _score_function(self, tables: Tables, features: jax.Array) -> Any:
        """A pure function from a block of `CatalogueTargets` to their scores [p, V], which may be called within loops."""
        encoder, variables = self.encoder.unbind()

        def score(targets: CatalogueTargets) -> jax.Array:
            all_items = jnp.arange(len(features), dtype=jnp.int32)
            logits = all_pair_logits(tables, targets.queries, all_items)
            normaliser = normaliser_with_candidates(logits, targets.normaliser)
            rngs = None if targets.keys is None else {"dropout": targets.keys[0]}
            gates: Any = encoder.apply(variables, logits, normaliser, method="gates", rngs=rngs)
            scores: Any = encoder.apply(
                variables, features, targets.states, gates, method="score_all"
            )
            return jnp.asarray(scores)

        return score
