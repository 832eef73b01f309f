"""The pure training step, its loss, and many steps as one `lax.scan` on the device, for several models at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from grasp_jax.models.device_data import DeviceData, gather_batch, logits_of
from grasp_jax.models.recommender import PairScores, Recommender, Tables, apply
from grasp_jax.training.targets import StepShape, draw_targets

DROPOUT = 2  # purpose of a random stream: fold_in(fold_in(seed, purpose), step)


class TrainState(NamedTuple):
    """Parameters and optimiser state of M models, every leaf with a leading axis M."""

    params: Any
    optimiser: Any


def pairwise_loss(scores: PairScores) -> jax.Array:
    """Binary cross-entropy (Eq. 6), mean over pairs, the G negatives of a pair weighing as one; and the method's loss beside it."""
    losses = jax.nn.softplus(-scores.positive) + jax.nn.softplus(scores.negative).mean(axis=-1)
    return jnp.where(scores.mask, losses, 0.0).sum() / jnp.maximum(scores.mask.sum(), 1) + scores.auxiliary


def make_train_steps(
    model: Recommender, optimiser: optax.GradientTransformation, shape: StepShape
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """The function that runs S steps of M models.

    It takes (state, data, tables, slots [M, S, R, L], keys [M], first_step [], dropout [M]) and returns the new state and
    the losses [S, M]. Jit it with the state donated.
    """

    def one_step(
        state: TrainState, slots: jax.Array, key: jax.Array, dropout: jax.Array, data: DeviceData, tables: Tables,
        step: jax.Array,
    ) -> tuple[TrainState, jax.Array]:  # fmt: skip
        batch = gather_batch(data, slots)
        batch, targets = draw_targets(key, step, data, batch, shape)
        logits = None if data.logits is None else logits_of(tables, targets.users[:, None], targets.negatives)
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), step)

        def loss_of(params: Any) -> jax.Array:
            scores = apply(
                model, params, "training_scores", tables, batch, targets.places, targets.negatives, logits, dropout,
                rngs={"dropout": dropout_key},
            )  # fmt: skip
            return pairwise_loss(scores)

        loss, gradient = jax.value_and_grad(loss_of)(state.params)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        return TrainState(optax.apply_updates(state.params, updates), optimiser_state), loss

    models = jax.vmap(one_step, in_axes=(0, 0, 0, 0, None, None, None))

    def train_steps(
        state: TrainState, data: DeviceData, tables: Tables, slots: jax.Array, keys: jax.Array, first_step: jax.Array,
        dropout: jax.Array,
    ) -> tuple[TrainState, jax.Array]:  # fmt: skip
        def body(carry: TrainState, step_slots: tuple[jax.Array, jax.Array]) -> tuple[TrainState, jax.Array]:
            return models(carry, step_slots[0], keys, dropout, data, tables, step_slots[1])

        steps = first_step + jnp.arange(slots.shape[1])
        return jax.lax.scan(body, state, (slots.swapaxes(0, 1), steps))

    return train_steps
