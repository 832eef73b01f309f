"""The rival in JAX: padded batches and Eq. 3-5 as in the paper, without factorisation or cached gates, in one jitted step."""

import time
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks.workload import LEARNING_RATE, PaddedBatch, memory_beside_tables
from grasp_jax.config import Config
from grasp_jax.models.backbones.sasrec import SASRec
from grasp_jax.models.batch import Tables
from grasp_jax.models.encoders.holistic import holistic_attention

ROUND_SECONDS = 1.0  # a rival's round has as many steps as fit into this time, at least one


class PlainGrasp(nn.Module):
    """GRASP on SASRec over padded histories.

    Attributes:
      hidden: widths of the MLP's hidden layers.
      features: D.
      max_length, num_layers, num_heads: of the backbone.
    """

    hidden: Sequence[int]
    features: int
    max_length: int
    num_layers: int
    num_heads: int

    def setup(self) -> None:
        self.layers = [nn.Dense(size) for size in (*self.hidden, self.features)]
        self.backbone = SASRec(self.features, self.max_length, self.num_layers, self.num_heads)

    def embed(self, tables: Tables, users: jax.Array, items: jax.Array) -> jax.Array:
        """Users [B] and items [B, L] -> `i_all` [B, L, D]."""
        x = holistic_attention(
            tables["users"][users][:, None],
            tables["users_similar"][users][:, None],
            tables["items"][items],
            tables["items_similar"][items],
        )
        for layer in self.layers[:-1]:
            x = jax.nn.gelu(layer(x), approximate=True)
        return self.layers[-1](x)

    def __call__(self, tables: Tables, batch: PaddedBatch, dropout: jax.Array | None) -> jax.Array:
        """The loss: binary cross-entropy of positives and negatives, mean over positions that have a next item."""
        segments = jnp.where(batch.mask, batch.users[:, None], -1)
        positions = jnp.broadcast_to(jnp.arange(batch.history.shape[1]), batch.history.shape)
        states = self.backbone(
            self.embed(tables, batch.users, batch.history), segments, positions, dropout
        )
        positive = (states * self.embed(tables, batch.users, batch.positive)).sum(-1)
        negative = (states * self.embed(tables, batch.users, batch.negative)).sum(-1)
        losses = jax.nn.softplus(-positive) + jax.nn.softplus(negative)
        return jnp.where(batch.mask, losses, 0.0).sum() / jnp.maximum(batch.mask.sum(), 1)


def plain_layers(encoder: Any, row_norm: float) -> list[dict[str, jax.Array]]:
    """The MLP of grasp_jax's encoder, made with `model.row_norm`, as the separate layers of Eq. 5; all arrays are new."""
    own, similar = encoder["own_kernel"], encoder["similar_kernel"]
    kernel = jnp.concatenate([own[0], similar[0], own[1], similar[1]]) * row_norm
    layers = [{"kernel": kernel, "bias": jnp.copy(encoder["first_bias"])}]
    others = sum(name.startswith("layers_") for name in encoder)
    return layers + [jax.tree.map(jnp.copy, dict(encoder[f"layers_{k}"])) for k in range(others)]


def plain_parameters(ours: Any, max_length: int, row_norm: float) -> Any:
    """Parameters of `PlainGrasp` from those of grasp_jax's recommender, made with `model.row_norm`; all arrays are new."""
    layers = {
        f"layers_{k}": layer for k, layer in enumerate(plain_layers(ours["encoder"], row_norm))
    }
    backbone = jax.tree.map(jnp.copy, dict(ours["backbone"])) | {
        "positions": ours["backbone"]["positions"][:max_length] + 0.0
    }
    return {**layers, "backbone": backbone}


class PlainJaxStep:
    """The compiled step and its state.

    Attributes:
      compile_seconds, memory_bytes: of the compiled step; memory is arguments and temporaries less the frozen tables.
    """

    name = "plain JAX (padded, jitted)"
    rounds = False  # whether factors of products are rounded to bfloat16

    def __init__(
        self,
        config: Config,
        params: Any,
        tables: Tables,
        batches: list[PaddedBatch],
        dropout: float,
    ) -> None:
        model = config.model
        length = batches[0].history.shape[1]
        module = PlainGrasp(
            tuple(model.mlp), model.features, length, model.num_layers, model.num_heads
        )
        optimiser = optax.adam(LEARNING_RATE)
        self.state = (params, optimiser.init(params))
        self.tables = tables
        self.batches = [jax.tree.map(jnp.asarray, batch) for batch in batches]
        self.dropout = jnp.float32(dropout)
        self.key = jax.random.key(1)
        self.done = 0
        self.steps_per_round = 1

        def step(
            state: Any,
            tables: Tables,
            batch: PaddedBatch,
            key: jax.Array,
            number: jax.Array,
            dropout: jax.Array,
        ) -> tuple:
            params, optimiser_state = state
            rngs = {"dropout": jax.random.fold_in(key, number)}
            loss, gradient = jax.value_and_grad(
                lambda p: module.apply({"params": p}, tables, batch, dropout, rngs=rngs)
            )(params)
            updates, optimiser_state = optimiser.update(gradient, optimiser_state, params)
            return (optax.apply_updates(params, updates), optimiser_state), loss

        started = time.perf_counter()
        lowered = jax.jit(step, donate_argnums=0).lower(
            self.state, tables, self.batches[0], self.key, jnp.int32(0), self.dropout
        )
        self.compiled = lowered.compile()
        self.compile_seconds = time.perf_counter() - started
        self.memory_bytes = memory_beside_tables(self.compiled, tables)

    def first_loss(self, tables: Tables) -> float:
        """The loss of the first batch on `tables` without dropout; the state is not changed."""
        state = jax.tree.map(jnp.copy, self.state)
        return float(
            self.compiled(state, tables, self.batches[0], self.key, jnp.int32(0), jnp.float32(0.0))[
                1
            ]
        )

    def warm_up(self) -> None:
        """Runs two steps; the second decides how many steps a round has."""
        self.run()
        self.steps_per_round = max(1, min(int(ROUND_SECONDS / self.run()), 100))

    def run(self) -> float:
        """Seconds per step of one round; the host waits only at its end."""
        started = time.perf_counter()
        for _ in range(self.steps_per_round):
            batch = self.batches[self.done % len(self.batches)]
            self.state, loss = self.compiled(
                self.state, self.tables, batch, self.key, jnp.int32(self.done), self.dropout
            )
            self.done += 1
        loss.block_until_ready()
        return (time.perf_counter() - started) / self.steps_per_round
