"""The scorer: a trained model with all arrays from which scores are computed.

Validation, test, recommendations, examples and similar items all rank by a `Ranker`. It is a pytree, so it is one argument of a jitted
function.
"""

import dataclasses
import functools
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.evaluation import bounds
from grasp_jax.evaluation.bounds import Expansion
from grasp_jax.evaluation.seen import seen_in_block
from grasp_jax.evaluation.top_k import GROUP, top_k_in_blocks, top_products
from grasp_jax.models.batch import Params, Tables
from grasp_jax.models.device_data import DeviceData, all_pair_logits, gather_batch, with_query_rows
from grasp_jax.models.sequence_model import SequenceModel, apply


class UserBlock(NamedTuple):
    """B users for whom items are ranked.

    Attributes:
      slots: [R, L] int32 packed histories (`data.packing.pack`).
      newest: [B] int32 place of each user's newest item, or of the mask after it.
      queries: [B] int32 rows of the query tables: the users' text vectors that gates compare with items.
    """

    slots: jax.Array
    newest: jax.Array
    queries: jax.Array


class UserStates(NamedTuple):
    """What a model computes from the histories of B users.

    Attributes:
      states: [B, D].
      normaliser: [B, 3] softmax denominators of the histories; None unless the gate is "softmax".
      queries: [B] int32 rows of the query tables.
    """

    states: jax.Array
    normaliser: jax.Array | None
    queries: jax.Array


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "data", "tables", "features"),
    meta_fields=("model",),
)
@dataclasses.dataclass(frozen=True)
class Ranker:
    """A trained model, and the arrays from which its scores are computed.

    Attributes:
      model: encoder and backbone.
      params: of one replica.
      data: flat histories; packed slots are indices into them.
      tables: frozen tables; empty for models that read none.
      features: [V, ...] the part of every item's vector that does not depend on the user.
    """

    model: SequenceModel
    params: Params
    data: DeviceData
    tables: Tables
    features: jax.Array

    @classmethod
    def of(cls, model: SequenceModel, params: Params, data: DeviceData, tables: Tables) -> "Ranker":
        """Computes the features of the whole catalogue."""
        return cls(model, params, data, tables, item_features(model, params, tables))

    @property
    def num_items(self) -> int:
        """V."""
        return int(self.features.shape[0])

    def for_block(self, block: UserBlock) -> tuple["Ranker", UserBlock]:
        """If query tables are on the host: this ranker with the rows that a block needs. Call it outside jit."""
        tables, queries = with_query_rows(self.tables, block.queries)
        return dataclasses.replace(self, tables=tables), UserBlock(
            block.slots, block.newest, cast(jax.Array, queries)
        )

    def expansion(self) -> Expansion | None:
        """The expansion of all items for bounds of scores; None for encoders without bounds."""
        result: Expansion | None = item_expansion(self.model, self.params, self.features)
        return result

    def states(self, block: UserBlock) -> UserStates:
        """States after the newest item of each user."""
        batch = gather_batch(self.data, block.slots)
        states, normaliser = apply(
            self.model, self.params, SequenceModel.user_states, self.features, batch, block.newest
        )
        return UserStates(states, normaliser, block.queries)

    def logits(self, users: UserStates, items: jax.Array) -> jax.Array | None:
        """[B, C, 2] pair logits of users and items [C]; None for models without gates."""
        return all_pair_logits(self.tables, users.queries, items) if self.model.gated else None

    def scores(self, users: UserStates, items: jax.Array) -> jax.Array:
        """[B, C] scores of items [C], the same items for all users."""
        logits = self.logits(users, items)
        return apply(
            self.model,
            self.params,
            SequenceModel.score_items,
            self.features[items],
            users.states,
            logits,
            users.normaliser,
        )

    def block_scores(self, users: UserStates, first: jax.Array, size: int) -> jax.Array:
        """[B, size] scores of the items `first .. first + size`."""
        block = jax.lax.dynamic_slice_in_dim(self.features, first, size)
        logits = self.logits(users, first + jnp.arange(size))
        return apply(
            self.model,
            self.params,
            SequenceModel.score_items,
            block,
            users.states,
            logits,
            users.normaliser,
        )

    def candidate_scores(
        self, users: UserStates, items: jax.Array, logits: jax.Array | None
    ) -> jax.Array:
        """[B, C] scores of different items for each user [B, C], from pair logits [B, C, 2] that are computed already."""
        return apply(
            self.model,
            self.params,
            SequenceModel.score_candidates,
            self.features[items],
            users.states,
            logits,
            users.normaliser,
        )


@functools.partial(jax.jit, static_argnames="model")
def item_features(model: SequenceModel, params: Params, tables: Tables) -> jax.Array:
    """[V, ...] features of the whole catalogue."""
    return apply(model, params, SequenceModel.item_features, tables)


@functools.partial(jax.jit, static_argnames="model")
def item_expansion(model: SequenceModel, params: Params, features: jax.Array) -> Expansion | None:
    """The expansion of the `item_features` of all items [V, ...] for bounds of scores ([V, 3, H] where there are bounds), else None."""
    return bounds.expansion(model, params, features)


@jax.jit
def user_states(ranker: Ranker, block: UserBlock) -> jax.Array:
    """[B, D] states of a block of users."""
    return ranker.states(block).states


@functools.partial(jax.jit, static_argnames=("item_block", "top_n"))
def top_items(
    ranker: Ranker,
    block: UserBlock,
    seen: jax.Array,
    item_block: int,
    top_n: int,
    allowed: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The best items of each user, found by a running top-n over blocks of items.

    Args:
      ranker: the model.
      block: B users.
      seen: [J, 2] int32 pairs (row of the block, item) to leave out, -1 for none.
      item_block: number of items that are scored at once.
      top_n: n, at most V.
      allowed: [V] bool, or [B, V] for each user: items that may be recommended; None: all.

    Returns:
      [B, n] scores in descending order and [B, n] item rows. Excluded items have the score -inf and come last.
    """
    users, num_users = ranker.states(block), block.newest.shape[0]

    def score(first: jax.Array) -> jax.Array:
        skip = seen_in_block(seen, num_users, first, item_block)
        if allowed is not None:
            skip |= ~jax.lax.dynamic_slice_in_dim(allowed, first, item_block, axis=-1)
        return jnp.where(skip, -jnp.inf, ranker.block_scores(users, first, item_block))

    return top_k_in_blocks(score, ranker.num_items, top_n, item_block)


class Products(NamedTuple):
    """A catalogue whose scores are inner products, for `top_products`.

    Attributes:
      vectors: [C, D] item vectors; C is V, rounded up to a multiple of `GROUP`.
      factors: [C] float32, 1 for items that may be recommended, else nan.
    """

    vectors: jax.Array
    factors: jax.Array


@jax.jit
def products(ranker: Ranker, allowed: jax.Array | None = None) -> Products:
    """The vectors of all items of a model without gates; `allowed` is [V] bool, the items that may be recommended, or None for all."""
    vectors: jax.Array = apply(
        ranker.model, ranker.params, SequenceModel.item_vectors, ranker.features
    )
    padding = -len(vectors) % GROUP
    factors = jnp.ones(len(vectors)) if allowed is None else jnp.where(allowed, 1.0, jnp.nan)
    return Products(
        jnp.pad(vectors, ((0, padding), (0, 0))),
        jnp.pad(factors, (0, padding), constant_values=jnp.nan),
    )


@functools.partial(jax.jit, static_argnames="top_n")
def top_items_by_products(
    ranker: Ranker, catalogue: Products, block: UserBlock, excluded: jax.Array, top_n: int
) -> tuple[jax.Array, jax.Array]:
    """As `top_items`, without an array of all scores; `excluded` is [B, n] int32 items that are not recommended to each user, -1 for
    none.
    """
    states = ranker.states(block).states
    return top_products(states, catalogue.vectors, catalogue.factors, excluded, top_n)


NO_PAIRS = np.full((1, 2), -1, np.int32)  # pairs in the form of `seen_pairs` that exclude nothing
