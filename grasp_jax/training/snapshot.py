"""What a checkpoint holds of models trained together, and what that is before the first step."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from grasp_jax.models.batch import Tables
from grasp_jax.models.device_data import DeviceData, gather_batch
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.parallel.mesh import everywhere
from grasp_jax.training.early_stopping import Progress
from grasp_jax.training.epochs import TrainingData
from grasp_jax.training.replicas import Replica, per_replica
from grasp_jax.training.states import newest_states
from grasp_jax.training.step import TrainState


class Snapshot(NamedTuple):
    """M models at one moment of their training.

    Attributes:
      state: parameters, optimiser and user states; array leaves [M, ...].
      best_params: parameters of each model's best epoch, leaves [M, ...].
      progress: position of the training, and state of early stopping.
    """

    state: TrainState
    best_params: Any
    progress: Progress


def initial_snapshot(
    model: SequenceModel, replicas: Sequence[Replica], data: TrainingData
) -> Snapshot:
    """New models; each depends only on the seed of its replica."""

    def initial(key: jax.Array, device: DeviceData, tables: Tables) -> tuple[Any, Any]:
        nothing = jnp.full((data.packing.num_rows, data.packing.row_length), -1, jnp.int32)
        params = model.init(key, tables, gather_batch(device, nothing)).get("params", {})
        params = data.start(params, tables)
        return params, optax.scale_by_adam().init(params)

    # Un-jitted, flax's init costs seconds.
    keys = per_replica(replicas, functools.partial(everywhere, data.mesh)).keys
    initial_all = jax.jit(jax.vmap(initial, in_axes=(0, None, None)))
    state = TrainState(*initial_all(keys, data.device, data.tables))
    if data.everyone is not None:  # computed again when an epoch begins
        shape = jax.eval_shape(lambda state: with_states(state, model, data).states, state)
        state = state._replace(states=jnp.zeros(shape.shape, shape.dtype))
    state = everywhere(data.mesh, state)
    best_params = jax.tree.map(jnp.copy, state.params)
    return Snapshot(state, best_params, Progress.start(len(replicas)))


def with_states(state: TrainState, model: SequenceModel, data: TrainingData) -> TrainState:
    """The state with the newest states of all users, if the method reads them."""
    if data.everyone is None:
        return state
    num_users = len(data.histories.lengths)
    states = newest_states(model, state.params, data.device, data.tables, data.everyone, num_users)
    return state._replace(states=states)
