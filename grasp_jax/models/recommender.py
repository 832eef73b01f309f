"""The recommender: an item encoder and a sequence backbone, over packed rows.

`methods.METHODS` and `BACKBONES` are the way from a config string to its code. Frozen knowledge tables are arguments, never parameters, so
no optimiser state and no gradient ever has their size.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.packing import START
from grasp_jax.models import attention
from grasp_jax.models.bert4rec import BERT4Rec
from grasp_jax.models.dropout import for_each
from grasp_jax.models.gru4rec import GRU4Rec
from grasp_jax.models.methods import METHODS
from grasp_jax.models.projection import take_rows
from grasp_jax.models.sasrec import SASRec
from grasp_jax.models.score_bounds import Expansion
from grasp_jax.models.segments import is_last

Tables = Mapping[str, Any]  # arrays, or rows of `parallel.rows`


def has_gates(tables: Mapping[str, Any]) -> bool:
    """Whether an item's vector depends on the user, by gates whose logits come from these tables."""
    return "users" in tables


class PackedBatch(NamedTuple):
    """Packed rows of several users' histories.

    Attributes:
      items: [R, L] int32 item rows (0 where empty).
      segments: [R, L] int32 user row, -1 where empty.
      positions: [R, L] int32 position within the history.
      logits: [R, L, 2] cached pair logits of user and item, or None for encoders without knowledge.
      masked: [R, L] bool, the item is hidden from the backbone, or a mask stands here; SASRec has none.
      queries: [R, L] int32 row of the query tables with which the item at a place is asked for.
      replaced: of two masked copies, item rows [R / 2, L] that the first shows in place of its own, -1 for none; or None.
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


class PairScores(NamedTuple):
    """Scores of training pairs: positive [P], negative [P, G] (-inf: none); `mask` [P]: pairs that exist; `auxiliary` []: a loss beside."""

    positive: jax.Array
    negative: jax.Array
    mask: jax.Array
    auxiliary: jax.Array | float = 0.0


class Recommender(nn.Module):
    """Item encoder and backbone.

    Attributes:
      encoder: `HolisticEncoder`, `IdEncoder` or another with the same methods.
      backbone: `SASRec`, `BERT4Rec` or `GRU4Rec`.
      projection: "token" or "table", see `models.projection`.
      auxiliary: the method's loss beside Eq. 6 (`Method.auxiliary`), or None.
      shares: devices that share out a batch.
    """

    encoder: nn.Module
    backbone: nn.Module
    projection: str = "token"
    auxiliary: nn.Module | None = None
    shares: int = 1

    def setup(self) -> None:
        if self.backbone.mask_at:
            self.mask_vector = self.param("mask_vector", nn.initializers.normal(0.02), (self.encoder.features,))

    def item_features(self, tables: Tables, ids: jax.Array | None = None) -> jax.Array:
        """What the encoder needs of items before a user is known: [..., 3, H] projections or [..., D] vectors; all V for None."""
        return self.encoder.item_features(tables, ids)

    def training_features(self, tables: Tables, batch: PackedBatch, negatives: jax.Array) -> jax.Array:
        """`item_features` of the `training_ids` of a batch, [n, K, ...], by the cheaper of two equal ways."""
        ids = training_ids(self, batch, negatives)
        flat = ids.ravel()  # for products over one axis: a CPU is much slower over two
        if getattr(self.encoder, "id_dropout", False):  # by occurrence, not by item
            kept = [self.encoder.keep_ids(part.size) for part in asked_items(self, batch, negatives)]
            found = self.item_features({**tables, "kept": in_shares(kept, self.shares).ravel()}, flat)
        elif self.projection == "token":
            found = self.item_features(tables, flat)
        else:
            found = take_rows(self.item_features(tables), flat)
        return found.reshape(*ids.shape, *found.shape[1:])

    def training_scores(
        self, tables: Tables, batch: PackedBatch, places: jax.Array, negatives: jax.Array, negative_logits: jax.Array | None,
        dropout: jax.Array | None,
    ) -> PairScores:  # fmt: skip
        """Scores of each target and of its negatives.

        An item's vector as input of the sequence and as a target is one and the same (same user, same item, same gate), so it is
        computed once and read twice.

        Args:
          tables: frozen knowledge.
          batch: packed histories; for a bidirectional backbone, two differently masked copies one after the other.
          places: [P] places, row * L + column, whose states are asked for the next item or, behind a mask, for the hidden one; R * L
            where there are no more. Or [R, L] bool, whether each place is asked: then P is R * L, and nothing is gathered.
          negatives: [P, G] int32 item rows, or [S] rows that all targets share; a shared one that is the target itself scores -inf.
          negative_logits: [P, G, 2] or [P, S, 2] pair logits, or None.
          dropout: rate, or None.
        """
        copies, ahead = (2, 0) if self.backbone.bidirectional else (1, 1)
        rows, length = batch.items.shape[0] // copies, batch.items.shape[1]
        ids = training_ids(self, batch, negatives)
        gathered = self.projection == "token" and negatives.ndim > 1 and batch.logits is not None
        gathered &= getattr(self.encoder, "kernels", "xla") == "pallas"
        features = None if gathered else self.training_features(tables, batch, negatives)

        def head_of(part: jax.Array, shape: tuple[int, ...], gates: jax.Array | None) -> jax.Array:
            """`head_input` of the features of a part, or of its ids where there are none."""
            if features is None:
                return self.encoder.gathered_head_input(tables, part.reshape(shape), gates)
            return self.encoder.head_input(part.reshape(*shape, *part.shape[1:]), gates)

        def at_places(x: jax.Array) -> jax.Array:
            """[R, L, ...] -> [P, ...]."""
            flat = x.reshape(batch.items.size, *x.shape[2:])
            return flat if every else flat[place]

        every = places.dtype == bool
        place = jnp.minimum(places.ravel(), batch.items.size - 1)
        of_negatives, of_history, of_shown = training_parts(ids if features is None else features, batch, negatives)

        normaliser = self._history_normaliser(batch)
        gates = self.encoder.gates(*(None if x is None else x[:rows] for x in (batch.logits, normaliser)))
        head = head_of(of_history, (rows, length), gates)
        vectors = self.encoder.finish(head)
        auxiliary: jax.Array | float = 0.0
        head, inputs = jnp.concatenate([head] * copies), jnp.concatenate([vectors] * copies)
        if batch.replaced is not None and of_shown is not None:
            gates = self.encoder.gates(batch.replaced_logits, None if normaliser is None else normaliser[:rows])
            others = self.encoder.finish(head_of(of_shown, (rows, length), gates))
            inputs = jnp.concatenate([jnp.where((batch.replaced >= 0)[..., None], others, vectors), vectors])
        shown = batch
        if not self.backbone.causal and not self.backbone.bidirectional:  # the last item is only asked for, so nobody may look at it
            shown = batch._replace(segments=jnp.where(is_last(batch.segments), -1, batch.segments))
        states = self._states(copies, self._hidden(inputs, batch.masked), shown.segments, batch.positions, dropout)
        if self.auxiliary is not None:  # of masked copies, the last is the one that is asked what ranking asks
            auxiliary = self.auxiliary(tables, self._of_items(shown)[-rows:], states[-rows:], batch.items[:rows], vectors)

        # Positives and negatives are scored alike, through the last layer, so that rounding in bfloat16 favours neither.
        weights, offset = self.encoder.last_layer(states)
        positive = (weights * jnp.roll(head, -ahead, axis=1)).sum(axis=-1) + offset
        pair_normaliser = None
        if normaliser is not None:
            place = jnp.arange(batch.items.size) if every else place
            before = jnp.maximum(place + ahead - 1, 0)  # the newest item that the asked one follows, if there is one
            follows = (batch.positions.ravel()[place] + ahead > 0) & (self._of_items(batch).ravel()[before] >= 0)
            pair_normaliser = jnp.where(follows[:, None], normaliser.reshape(-1, 3)[before], -jnp.inf)
        negative_gates = self.encoder.gates(negative_logits, self._candidate_normaliser(negative_logits, pair_normaliser, axis=1))
        if features is not None and negatives.ndim == 1:
            negative = self.encoder.score_all(of_negatives, at_places(states), negative_gates)
            asked_for = at_places(jnp.roll(batch.items, -ahead, axis=1))
            negative = jnp.where(negatives == asked_for[:, None], -jnp.inf, negative)
        else:
            negative_head = head_of(of_negatives, negatives.shape, negative_gates)
            negative = (at_places(weights)[:, None] * negative_head).sum(axis=-1) + at_places(offset)[:, None]
        return PairScores(
            positive=at_places(positive),
            negative=negative,
            mask=places.ravel() if every else places < batch.items.size,
            auxiliary=auxiliary,
        )

    def gates(self, logits: jax.Array) -> jax.Array | None:
        """[..., 2] pair logits -> [..., 3] gates, for those who want to look at them."""
        return self.encoder.gates(logits)

    def user_states(self, features: jax.Array, batch: PackedBatch, newest: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """States after the newest item of each user.

        Args:
          features: [V, ...] `item_features` of the whole catalogue, which ranking needs anyway.
          batch: packed histories.
          newest: [B] place, row * L + column, of the newest item, or of the mask after it.

        Returns:
          o [B, D], and the [B, 3] softmax denominators of the histories (None unless the gate is "softmax").
        """
        normaliser = self._history_normaliser(batch)
        vectors = self.encoder(features[batch.items], self.encoder.gates(batch.logits, normaliser))
        states = self.backbone(self._hidden(vectors, batch.masked), batch.segments, batch.positions, None, newest)
        last_item = newest - 1 if self.backbone.bidirectional else newest
        return states, None if normaliser is None else normaliser.reshape(-1, 3)[last_item]

    def score_candidates(self, features: jax.Array, states: jax.Array, logits: jax.Array | None, normaliser: jax.Array | None) -> jax.Array:
        """Scores of C candidates of each user: features [B, C, ...], states [B, D], logits [B, C, 2] -> [B, C]."""
        gates = self.encoder.gates(logits, self._candidate_normaliser(logits, normaliser, axis=1))
        weights, offset = self.encoder.last_layer(states)
        return jnp.einsum("bh,bch->bc", weights, self.encoder.head_input(features, gates)) + offset[:, None]

    def score_items(self, features: jax.Array, states: jax.Array, logits: jax.Array | None, normaliser: jax.Array | None) -> jax.Array:
        """Scores of all pairs of B users and C items: features [C, ...], logits [B, C, 2] -> [B, C]."""
        return self.encoder.score_all(features, states, self.encoder.gates(logits, self._candidate_normaliser(logits, normaliser, axis=1)))

    def expansion(self, features: jax.Array) -> Expansion | None:
        """What `bounded_scores` needs of the items of `item_features`; None where the encoder has no such bounds."""
        return self.encoder.expansion(features) if hasattr(self.encoder, "expansion") else None

    def bounded_scores(
        self, expansion: Expansion, states: jax.Array, logits: jax.Array, items: str
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        """Near `score_items` or `score_candidates`, and how far at most from it, [B, C] each, for less; see `score_bounds`."""
        return self.encoder.bounded_scores(expansion, states, logits, items)

    def _states(
        self, copies: int, vectors: jax.Array, segments: jax.Array, positions: jax.Array, dropout: jax.Array | None
    ) -> jax.Array:  # fmt: skip
        """States of differently masked copies, one after the other."""
        if copies == 1:
            return self.backbone(vectors, segments, positions, dropout)
        parts = (x.reshape(copies, -1, *x.shape[1:]) for x in (vectors, segments, positions))
        states = for_each(self.backbone, lambda backbone, *part: backbone(*part, dropout), *parts)
        return states.reshape(-1, *states.shape[2:])

    def _hidden(self, vectors: jax.Array, masked: jax.Array) -> jax.Array:
        return jnp.where(masked[..., None], self.mask_vector, vectors) if self.backbone.mask_at else vectors

    def _of_items(self, batch: PackedBatch) -> jax.Array:
        """Segments of real items; a mask before a history is none."""
        return jnp.where(batch.masked, -1, batch.segments) if self.backbone.mask_at == START else batch.segments

    def _history_normaliser(self, batch: PackedBatch) -> jax.Array | None:
        if getattr(self.encoder, "gate", None) != "softmax" or batch.logits is None:
            return None
        return attention.history_normaliser(batch.logits, self._of_items(batch))

    def _candidate_normaliser(self, logits: jax.Array | None, normaliser: jax.Array | None, axis: int) -> jax.Array | None:
        if normaliser is None or logits is None:
            return None
        return attention.candidate_normaliser(logits, jnp.expand_dims(normaliser, axis))

    def __call__(self, tables: Tables, batch: PackedBatch) -> PairScores:
        """Touches every parameter, for initialisation."""
        places = jnp.zeros(1, jnp.int32)
        logits = None if batch.logits is None else batch.logits[:1, :1]
        if self.backbone.bidirectional:
            batch = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batch)
        return self.training_scores(tables, batch, places, batch.items[:1, :1], logits, None)


def training_ids(model: Recommender, batch: PackedBatch, negatives: jax.Array) -> jax.Array:
    """[n, K] item rows whose vectors a step computes, `asked_items` of each device that shares out the batch."""
    return in_shares(asked_items(model, batch, negatives), model.shares)


def asked_items(model: Recommender, batch: PackedBatch, negatives: jax.Array) -> list[jax.Array]:
    """Flat item rows of the negatives, and of the histories (once, though masked copies follow).

    Where items are shown for others, each follows the one that it is shown for. Empty rows come last, so that no draw that goes by an id's
    place changes with their number.
    """
    history = batch.items[: batch.items.shape[0] // (2 if model.backbone.bidirectional else 1)]
    if batch.replaced is not None:
        history = jnp.stack([history, jnp.maximum(batch.replaced, 0)], axis=-1)
    return [negatives.ravel(), history.ravel()]


def in_shares(parts: list[jax.Array], shares: int) -> jax.Array:
    """Flat lists -> [n, K]: an n-th of each, side by side, so that what belongs to a device's rows of the batch is computed there."""
    filled = [jnp.pad(part, (0, -part.size % shares)) for part in parts]
    return jnp.concatenate([part.reshape(shares, -1) for part in filled], axis=1)


def training_parts(
    of_ids: jax.Array, batch: PackedBatch, negatives: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array | None]:  # fmt: skip
    """What there is [n, K, ...] of `training_ids`, of the negatives, of the histories and of what is shown for them: [T, ...] each."""
    shares, rest = of_ids.shape[0], of_ids.shape[2:]
    first = -(-negatives.size // shares)
    of_negatives, of_history = of_ids[:, :first].reshape(-1, *rest)[: negatives.size], of_ids[:, first:]
    if batch.replaced is None:
        return of_negatives, of_history.reshape(-1, *rest), None
    pairs = of_history.reshape(-1, 2, *rest)
    return of_negatives, pairs[:, 0], pairs[:, 1]


BACKBONES: dict[str, Any] = {"sasrec": SASRec, "bert4rec": BERT4Rec, "gru4rec": GRU4Rec}


def build_recommender(
    config: ConfigDict, method: str, backbone: str, num_items: int, max_length: int, width: int, projection: str,
    num_users: int, shares: int = 1,
) -> Recommender:  # fmt: skip
    """The model named by `method` and `backbone`.

    Args:
      config: the `model` section.
      num_items: V.
      max_length: longest packed history, for position embeddings.
      width: E of the knowledge bank (0 without one).
      projection: from `choose_projection`.
      num_users: B of a training batch.
      shares: devices that share it out.
    """
    if config.kernels == "auto" and shares > 1:  # no kernel is cut into parts
        config = config.copy_and_resolve_references()
        config.kernels = "xla"
    chosen = METHODS[method]
    encoder, auxiliary = chosen.encoder(config, num_items, width), chosen.auxiliary(config, width, num_users)
    reader = chosen.around_backbone(BACKBONES[backbone].from_config(config, max_length), config, max_length)
    return Recommender(encoder, reader, projection, auxiliary, shares)


def apply(model: Recommender, params: Any, method: str, *args: Any, rngs: Any = None) -> Any:
    """`model.method(*args)` with the given parameters."""
    return model.apply({"params": params}, *args, method=method, rngs=rngs)
