"""The pure training step, and many steps as one `lax.scan` on the device, for several models at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from grasp_jax.models.device_data import DeviceData, all_pair_logits, gather_batch, logits_of
from grasp_jax.models.recommender import Recommender, Tables, apply
from grasp_jax.training.losses import Loss
from grasp_jax.training.targets import StepShape, draw_targets

DROPOUT = 2  # purpose of a random stream: fold_in(fold_in(seed, purpose), step)


class TrainState(NamedTuple):
    """What M models carry from step to step, every leaf with a leading axis M.

    Attributes:
      params, optimiser: parameters, and the optimiser's state.
      states: [M, N, D] newest state of each user at the start of the epoch, or None for methods that do not read it.
    """

    params: Any
    optimiser: Any
    states: jax.Array | None = None


def make_train_steps(
    model: Recommender, optimiser: optax.GradientTransformation, shape: StepShape, loss_of_scores: Loss
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
        if data.logits is None:
            logits = None
        elif shape.shared:
            logits = all_pair_logits(tables, targets.queries, targets.negatives)
        else:
            logits = logits_of(tables, targets.queries[:, None], targets.negatives)
        known = tables if state.states is None else {**tables, "states": state.states}
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), step)

        def loss_of(params: Any) -> jax.Array:
            scores = apply(
                model, params, "training_scores", known, batch, targets.places, targets.negatives, logits, dropout,
                rngs={"dropout": dropout_key},
            )  # fmt: skip
            return loss_of_scores(scores)

        loss, gradient = jax.value_and_grad(loss_of)(state.params)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        return state._replace(params=optax.apply_updates(state.params, updates), optimiser=optimiser_state), loss

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
