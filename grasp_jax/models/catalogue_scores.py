"""The scores that cross-entropy over the whole catalogue is computed of: those of each target and every item.

The vectors of all items are made once a step, and the histories read theirs from among them. A state then meets vectors, D wide, and not
the input of the last layer, which is wider: the last layer costs V x H' x D a step, which P x V targets and items soon outweigh.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from grasp_jax.models.auxiliary import DrawnItems
from grasp_jax.models.batch import (
    BlockScores,
    CatalogueScores,
    PackedBatch,
    StepContext,
    Tables,
    Targets,
)
from grasp_jax.models.device_data import all_pair_logits
from grasp_jax.models.gates import candidate_normaliser
from grasp_jax.models.projection import take_rows
from grasp_jax.models.step_states import HistoryVectors, StepStates


class CatalogueTargets(NamedTuple):
    """The values from which a target's scores are computed if there are gates.

    Attributes:
      states: [P, D].
      queries: [P] int32 rows of the query tables.
      normaliser: [P, 3] softmax denominators of the history before it, or None.
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
            kept = self.encoder.keep_ids(None)
            context = context._replace(keep_ids=kept)
        features = self.encoder.item_features(tables, None, context)
        if not self.encoder.gated:
            features = self.encoder(features, None)
        vectors = self._of_histories(features, batch)
        drawn = self._drawn(features, batch)
        given = tables, batch, vectors, dropout, context
        states, auxiliary = self._states_and_auxiliary(*given, drawn)
        of_targets = targets.places.take(states)
        wanted, exists = self._wanted(batch, targets), targets.places.exist(batch.items.size)
        if self.encoder.gated:
            asked = self._asked(batch, targets, of_targets)
            score = self._score_function(tables, features)
            return BlockScores(score, asked, wanted, exists, auxiliary)
        return CatalogueScores(of_targets, features, wanted, exists, auxiliary, self.encoder.towers)

    def _drawn(self, features: jax.Array, batch: PackedBatch) -> DrawnItems | None:
        """Negatives for an auxiliary loss, because this loss itself draws none: uniform, as many as there are places."""
        if self.auxiliary is None or self.encoder.gated or not self.has_rng("dropout"):
            return None
        shape = (batch.items.size,)
        items = jax.random.randint(self.make_rng("dropout"), shape, 0, len(features), jnp.int32)
        return DrawnItems(items, features[items], jnp.ones(shape, bool))

    def _of_histories(self, features: jax.Array, batch: PackedBatch) -> HistoryVectors:
        """Vectors of the items of a batch, from the features [V, ...] of all items; without gates the features are the vectors."""
        rows = batch.items.shape[0] // self.copies
        items = [batch.items[:rows]]
        if batch.replaced is not None:
            items.append(jnp.maximum(batch.replaced, 0))
        index = jnp.stack(items)
        found = take_rows(features, index.ravel()).reshape(*index.shape, *features.shape[1:])
        if not self.encoder.gated:
            return HistoryVectors(found[0], None if batch.replaced is None else found[1])
        normaliser = self._history_normaliser(batch)
        normaliser = None if normaliser is None else normaliser[:rows]
        logits = None if batch.logits is None else batch.logits[:rows]
        own = self.encoder(found[0], self.encoder.gates(logits, normaliser))
        if batch.replaced is None:
            return HistoryVectors(own, None)
        gates = self.encoder.gates(batch.replaced_logits, normaliser)
        return HistoryVectors(own, self.encoder(found[1], gates))

    def _asked(self, batch: PackedBatch, targets: Targets, states: jax.Array) -> CatalogueTargets:
        """The values for the targets' states [P, D]."""
        normaliser = self._history_normaliser(batch)
        before = None if normaliser is None else self._normaliser_before(batch, targets, normaliser)
        keys = None
        if self.has_rng("dropout"):
            keys = jax.random.split(self.make_rng("dropout"), len(states))
        return CatalogueTargets(states, targets.queries, before, keys)

    def _score_function(self, tables: Tables, features: jax.Array) -> Any:
        """A pure function from some targets (`CatalogueTargets`) to their scores [p, V], which may be called within loops."""
        encoder, variables = self.encoder.unbind()

        def score(asked: CatalogueTargets) -> jax.Array:
            everyone = jnp.arange(len(features), dtype=jnp.int32)
            logits = all_pair_logits(tables, asked.queries, everyone)
            normaliser = (
                None
                if asked.normaliser is None
                else candidate_normaliser(logits, asked.normaliser[:, None])
            )
            streams = None if asked.keys is None else {"dropout": asked.keys[0]}
            gates: Any = encoder.apply(variables, logits, normaliser, method="gates", rngs=streams)
            scores: Any = encoder.apply(
                variables, features, asked.states, gates, method="score_all"
            )
            return jnp.asarray(scores)

        return score
