"""The pure training step, its loss, and many steps as one `lax.scan` on the device, for several models at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from grasp_jax.data.negatives import draw_negatives
from grasp_jax.models.device_data import DeviceData, gather_batch, logits_of, next_item_pairs
from grasp_jax.models.recommender import PairScores, Recommender, Tables, apply

NEGATIVES, DROPOUT = 1, 2  # purposes of random streams: fold_in(fold_in(seed, purpose), step)


class TrainState(NamedTuple):
    """Parameters and optimiser state of M models, every leaf with a leading axis M."""

    params: Any
    optimiser: Any


class StepShape(NamedTuple):
    """Static numbers that a step is compiled for: V, bisection steps of the exclusion index, P pairs a batch, G negatives a pair."""

    num_items: int
    search_steps: int
    num_pairs: int
    negatives: int


def pairwise_loss(scores: PairScores) -> jax.Array:
    """Binary cross-entropy (Eq. 6), mean over pairs; the G negatives of a pair weigh as one."""
    losses = jax.nn.softplus(-scores.positive) + jax.nn.softplus(scores.negative).mean(axis=-1)
    return jnp.where(scores.mask, losses, 0.0).sum() / jnp.maximum(scores.mask.sum(), 1)


class Pairs(NamedTuple):
    """What a batch is trained on: places [P] of `next_item_pairs`, their user rows [P], and negatives [P, G]."""

    places: jax.Array
    users: jax.Array
    negatives: jax.Array


def draw_pairs(key: jax.Array, step: jax.Array, data: DeviceData, segments: jax.Array, shape: StepShape) -> Pairs:
    """The pairs of one step; a function of (seed key, step), so that a failed batch can be drawn again."""
    stream = jax.random.fold_in(jax.random.fold_in(key, NEGATIVES), step)
    places = next_item_pairs(segments, shape.num_pairs)
    users = jnp.maximum(segments.ravel()[jnp.minimum(places, segments.size - 1)], 0)
    drawn = draw_negatives(stream, users, data.excluded, data.excluded_offsets, shape.num_items, shape.search_steps, shape.negatives)
    return Pairs(places, users, drawn)


def make_train_steps(
    model: Recommender, optimiser: optax.GradientTransformation, shape: StepShape
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """The function that runs S steps of M models.

    It takes (state, data, tables, starts [N], slots [M, S, R, L], keys [M], first_step [], dropout [M]) and returns the new state and
    the losses [S, M]. Jit it with the state donated.
    """

    def one_step(
        state: TrainState, slots: jax.Array, key: jax.Array, dropout: jax.Array, data: DeviceData, tables: Tables, starts: jax.Array,
        step: jax.Array,
    ) -> tuple[TrainState, jax.Array]:  # fmt: skip
        batch = gather_batch(data, starts, slots)
        pairs = draw_pairs(key, step, data, batch.segments, shape)
        logits = None if data.logits is None else logits_of(tables, pairs.users[:, None], pairs.negatives)
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), step)

        def loss_of(params: Any) -> jax.Array:
            scores = apply(
                model, params, "training_scores", tables, batch, pairs.places, pairs.negatives, logits, dropout,
                rngs={"dropout": dropout_key},
            )  # fmt: skip
            return pairwise_loss(scores)

        loss, gradient = jax.value_and_grad(loss_of)(state.params)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        return TrainState(optax.apply_updates(state.params, updates), optimiser_state), loss

    models = jax.vmap(one_step, in_axes=(0, 0, 0, 0, None, None, None, None))

    def train_steps(
        state: TrainState, data: DeviceData, tables: Tables, starts: jax.Array, slots: jax.Array, keys: jax.Array, first_step: jax.Array,
        dropout: jax.Array,
    ) -> tuple[TrainState, jax.Array]:  # fmt: skip
        def body(carry: TrainState, step_slots: tuple[jax.Array, jax.Array]) -> tuple[TrainState, jax.Array]:
            return models(carry, step_slots[0], keys, dropout, data, tables, starts, step_slots[1])

        steps = first_step + jnp.arange(slots.shape[1])
        return jax.lax.scan(body, state, (slots.swapaxes(0, 1), steps))

    return train_steps
