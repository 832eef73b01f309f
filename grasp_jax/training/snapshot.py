"""What a checkpoint stores of models that are trained together, and its values before the first step."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from grasp_jax.models.batch import Tables
from grasp_jax.models.device_data import DeviceData, gather_batch
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.parallel.mesh import replicate
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
    state = _initial(model, data)(_keys(replicas, data), data.device, data.tables)
    if data.all_users is not None:  # computed again when an epoch begins
        shape = _shape_of_states(state, model, data)
        state = state._replace(states=jnp.zeros(shape.shape, shape.dtype))
    state = replicate(data.mesh, state)
    return Snapshot(state, copied(state.params), Progress.start(len(replicas)))


def snapshot_like(
    model: SequenceModel, replicas: Sequence[Replica], data: TrainingData
) -> Snapshot:
    """Shape, dtype and sharding of every array of `initial_snapshot`, for reading a checkpoint; no array is made."""
    keys = _keys(replicas, data)
    state = jax.eval_shape(_initial(model, data), keys, data.device, data.tables)
    if data.all_users is not None:
        state = state._replace(states=_shape_of_states(state, model, data))
    sharding = NamedSharding(data.mesh, PartitionSpec())
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state
    )
    return Snapshot(state, state.params, Progress.start(len(replicas)))


@jax.jit
def copied(tree: Any) -> Any:
    """A copy that stays valid when the arrays of the tree are donated."""
    return jax.tree.map(jnp.copy, tree)


def _initial(model: SequenceModel, data: TrainingData) -> Callable[..., TrainState]:
    """A compiled function of keys [M], flat interactions and tables; models of the same shape share one."""
    packing = data.packing
    return functools.partial(
        _initial_states, model, data.start, (packing.num_rows, packing.row_length)
    )


# Un-jitted, flax's init costs seconds.
@functools.partial(jax.jit, static_argnames=("model", "start", "slots"))
def _initial_states(
    model: SequenceModel,
    start: Callable[[Any, Tables], Any],
    slots: tuple[int, int],
    keys: jax.Array,
    device: DeviceData,
    tables: Tables,
) -> TrainState:
    def initial(key: jax.Array) -> TrainState:
        nothing = jnp.full(slots, -1, jnp.int32)
        params = model.init(key, tables, gather_batch(device, nothing)).get("params", {})
        params = start(params, tables)
        return TrainState(params, optax.scale_by_adam().init(params))

    return jax.vmap(initial)(keys)


def _keys(replicas: Sequence[Replica], data: TrainingData) -> jax.Array:
    return per_replica(replicas, functools.partial(replicate, data.mesh)).keys


def _shape_of_states(state: TrainState, model: SequenceModel, data: TrainingData) -> Any:
    return jax.eval_shape(lambda state: with_states(state, model, data).states, state)


def with_states(state: TrainState, model: SequenceModel, data: TrainingData) -> TrainState:
    """The state with the newest states of all users, if the method reads them."""
    if data.all_users is None:
        return state
    num_users = len(data.histories.lengths)
    states = newest_states(model, state.params, data.device, data.tables, data.all_users, num_users)
    return state._replace(states=states)


@jax.jit
def keep_better(best: Any, params: Any, better: jax.Array) -> Any:
    """The best parameters so far: of M models, leaves [M, ...], those of `params` where `better` [M] says so."""

    def keep(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(keep, best, params)
