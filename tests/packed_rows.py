"""Small packed rows, and GRU4Rec one user at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import pack, plan_packing, stratified_batches
from grasp_jax.data.split import leave_one_out
from grasp_jax.models.batch import GatheredPlaces, PackedBatch, SeparateNegatives, Targets
from grasp_jax.models.device_data import DeviceData, gather_batch

FEATURES, LENGTH, BATCH = 6, 8, 6
SEGMENTS = np.array([[4, 4, 4, 9, 9, -1, -1], [2, 7, 7, 7, 7, 7, 1]])
POSITIONS = np.array([[0, 1, 2, 0, 1, 0, 0], [0, 0, 1, 2, 3, 4, 0]])


def asked_at(places: jax.Array, negatives: jax.Array, logits: jax.Array | None) -> Targets:
    """Targets at [P] places with [P, G] negatives, for a model that needs no users."""
    return Targets(GatheredPlaces(places), places, places, SeparateNegatives(negatives), logits)


def gru_by_hand(params: dict[str, Any], history: np.ndarray, num_layers: int) -> np.ndarray:
    """One user's [T, D] inputs -> [T, D] states in float64, position by position."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    x = history.astype(np.float64)
    for layer in range(num_layers):
        weights = (
            np.asarray(params[f"input_{layer}"]["kernel"], np.float64),
            np.asarray(params[f"recurrent_{layer}"], np.float64),
        )
        (wr, wz, wn), (ur, uz, un) = (np.split(weight, 3, axis=1) for weight in weights)
        state, states = np.zeros(FEATURES), []
        for row in x:
            r, z = sigmoid(row @ wr + state @ ur), sigmoid(row @ wz + state @ uz)
            n = np.tanh(row @ wn + r * (state @ un))
            state = (1 - z) * n + z * state
            states.append(state)
        x = np.stack(states)
    return x


def id_data(log: InteractionLog) -> DeviceData:
    """Device arrays of a log without knowledge and without exclusions."""
    nothing = jnp.zeros(log.num_users + 1, jnp.int32)
    return DeviceData(jnp.asarray(log.items), jnp.asarray(log.users), None, nothing, nothing)


def first_batch(log: InteractionLog, shortest: int) -> tuple[PackedBatch, np.ndarray, int]:
    """The first packed batch of users with so many training items, the places of their newest items, and L."""
    split = leave_one_out(log, LENGTH)
    users = np.flatnonzero(split.train.lengths >= shortest)
    packing = plan_packing(split.train, users, BATCH)
    slots, newest = pack(
        split.train, stratified_batches(split.train.lengths, users, BATCH, None), packing
    )
    return gather_batch(id_data(log), jnp.asarray(slots[0])), newest[0], packing.row_length
