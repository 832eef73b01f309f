"""The pure training step, and many steps as one `lax.scan` on the device, for several models at once.

Its stages carry `jax.named_scope`s (gather, gate, project, backbone, loss, update), by which `benchmarks.profile` tells where time goes.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from grasp_jax.models.device_data import DeviceData, all_pair_logits, gather_batch, logits_of, with_batch_queries
from grasp_jax.models.recommender import PackedBatch, Recommender, Tables, apply, training_ids
from grasp_jax.parallel.rows import HostRows, ShardedRows
from grasp_jax.training import deferred_adam, one_vector
from grasp_jax.training.deferred_adam import DeferredTable
from grasp_jax.training.losses import Loss
from grasp_jax.training.targets import StepShape, Targets, draw_targets

SLOTS_AT_ONCE = 1 << 22  # of all steps and models, times negatives; what is made of one beforehand takes some 64 bytes
DROPOUT = 2  # purpose of a random stream: fold_in(fold_in(seed, purpose), step)


class TrainState(NamedTuple):
    """What M models carry from step to step, every leaf with a leading axis M.

    Attributes:
      params: parameters.
      adam: Adam's moments and its count of steps.
      states: [M, N, D] newest state of each user at the start of the epoch, or None for methods that do not read it.
    """

    params: Any
    adam: optax.ScaleByAdamState
    states: jax.Array | None = None


class StepInputs(NamedTuple):
    """What a step is given that depends on no parameter: a function of (slots, seed, step).

    Attributes:
      batch, targets: what it sees, and what it is asked for.
      dropout_key: [] of its random stream.
      distinct: of a deferred ID table, the rows that the step reads and where each id stands among them (`deferred_adam.distinct`).
    """

    batch: PackedBatch
    targets: Targets
    dropout_key: jax.Array
    distinct: tuple[jax.Array, jax.Array] | None


def make_train_steps(
    model: Recommender, shape: StepShape, loss_of_scores: Loss, epsilon: float = 1e-8, in_one_vector: bool | None = None
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """The function that runs S steps of M models with Adam.

    It takes (state, data, tables, slots [M, S, R, L], keys [M], first_step [], dropout [M], learning_rate [M]) and, where query tables are
    on the host, the rows [M, S, B, E] of `with_batch_queries`; it returns the new state and the losses [S, M]. Jit it with the state
    donated.

    With `in_one_vector` Adam sees the parameters as `one_vector.join` has them; None: on one GPU.
    """
    optimiser = optax.scale_by_adam(eps=epsilon)
    joins = jax.default_backend() == "gpu" and model.shares == 1 if in_one_vector is None else in_one_vector

    def prepare(
        slots: jax.Array, query_rows: Mapping[str, jax.Array] | None, key: jax.Array, step: jax.Array, deferred: bool, data: DeviceData,
        tables: Tables,
    ) -> tuple[StepInputs, Tables]:  # fmt: skip
        """One model's inputs to a step, and tables that hold the query rows of its users."""
        with jax.named_scope("gather"):
            batch = gather_batch(data, slots)
            tables, batch = with_batch_queries(tables, batch, shape.num_users, query_rows)
            batch, targets = draw_targets(key, step, data, batch, shape)
            distinct = None
            if deferred:
                distinct = deferred_adam.distinct(training_ids(model, batch, targets.negatives).ravel(), shape.num_items)
        return StepInputs(batch, targets, jax.random.fold_in(jax.random.fold_in(key, DROPOUT), step), distinct), tables

    def one_step(
        state: TrainState, table: DeferredTable | None, inputs: StepInputs, dropout: jax.Array, learning_rate: jax.Array,
        like: Any, data: DeviceData, tables: Tables,
    ) -> tuple[TrainState, DeferredTable | None, jax.Array]:  # fmt: skip
        rates = learning_rate, epsilon
        batch, targets, dropout_key, distinct = inputs
        with jax.named_scope("gate"):
            if data.logits is None:
                logits = None
            elif shape.shared:
                logits = all_pair_logits(tables, targets.queries, targets.negatives)
            else:
                logits = logits_of(tables, targets.queries[:, None], targets.negatives)
            if batch.replaced is not None and data.logits is not None:
                shown = logits_of(tables, batch.queries[: len(batch.replaced)], jnp.maximum(batch.replaced, 0))
                batch = batch._replace(replaced_logits=shown)
        known = tables if state.states is None else {**tables, "states": state.states}
        trained = one_vector.part(state.params, like) if joins else state.params
        if table is not None:
            assert distinct is not None
            rows, places = distinct
            with jax.named_scope("gather"):
                read = deferred_adam.read_rows(table, rows, state.adam.count, *rates)
            trained = deferred_adam.put_table(trained, deferred_adam.parameters(read))

        def loss_of(trained: Any) -> jax.Array:
            params, given = trained, known
            if table is not None:
                params, vectors = deferred_adam.pop_table(trained)
                with jax.named_scope("gather"):
                    given = {**known, "id_rows": vectors[places]}
                params = deferred_adam.put_table(params, deferred_adam.parameters(table.rows))  # flax wants it there; nobody reads it
            scores = apply(
                model, params, "training_scores", given, batch, targets.places, targets.negatives, logits, dropout,
                rngs={"dropout": dropout_key},
            )  # fmt: skip
            with jax.named_scope("loss"):
                return loss_of_scores(scores)

        loss, gradient = jax.value_and_grad(loss_of)(trained)
        with jax.named_scope("update"):
            if table is not None:
                gradient, of_rows = deferred_adam.pop_table(gradient)
                table = deferred_adam.update_rows(table, rows, read, of_rows, state.adam.count + 1, *rates)
            direction, adam = optimiser.update(one_vector.join(gradient) if joins else gradient, state.adam)
            params = jax.tree.map(lambda leaf, way: leaf - learning_rate * way, state.params, direction)
        return state._replace(params=params, adam=adam), table, loss

    def train_steps(
        state: TrainState, data: DeviceData, tables: Tables, slots: jax.Array, keys: jax.Array, first_step: jax.Array,
        dropout: jax.Array, learning_rate: jax.Array, query_rows: Mapping[str, jax.Array] | None = None,
    ) -> tuple[TrainState, jax.Array]:  # fmt: skip
        steps, table = first_step + jnp.arange(slots.shape[1]), None
        deferred = shape.deferred and deferred_adam.has_table(state.params)
        if deferred:
            with jax.named_scope("update"):
                params, adam, table = jax.vmap(deferred_adam.without_table)(state.params, state.adam)
            state = state._replace(params=params, adam=adam)

        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state.params)
        if joins:
            state = _in_each(jax.vmap(one_vector.join), state)

        # Inputs of all steps at once are a few large operations; in each step they would be many small ones.
        inputs, drawn = None, slots.size * (1 if shape.shared else shape.negatives)
        if drawn <= SLOTS_AT_ONCE and model.shares == 1 and not isinstance(tables.get("users"), ShardedRows | HostRows):

            def inputs_of(slots: jax.Array, step: jax.Array, key: jax.Array) -> StepInputs:
                return prepare(slots, None, key, step, deferred, data, tables)[0]

            inputs = jax.vmap(jax.vmap(inputs_of, in_axes=(0, 0, None)), in_axes=(0, None, 0), out_axes=1)(slots, steps, keys)

        def one_model(
            state: TrainState, table: DeferredTable | None, slots: jax.Array, rows: Mapping[str, jax.Array] | None,
            inputs: StepInputs | None, key: jax.Array, dropout: jax.Array, learning_rate: jax.Array, step: jax.Array,
        ) -> tuple[TrainState, DeferredTable | None, jax.Array]:  # fmt: skip
            own = tables
            if inputs is None:
                inputs, own = prepare(slots, rows, key, step, deferred, data, tables)
            return one_step(state, table, inputs, dropout, learning_rate, like, data, own)

        models = jax.vmap(one_model, in_axes=(0, 0, 0, 0, 0, 0, 0, 0, None))

        def body(carry: tuple[TrainState, Any], of_step: Any) -> tuple[tuple[TrainState, Any], jax.Array]:
            slots, rows, inputs, step = of_step
            state, table, losses = models(*carry, slots, rows, inputs, keys, dropout, learning_rate, step)
            return (state, table), losses

        slots, query_rows = jax.tree.map(lambda x: x.swapaxes(0, 1), (slots, query_rows))
        (state, table), losses = jax.lax.scan(body, (state, table), (slots, query_rows, inputs, steps))
        if joins:
            state = _in_each(jax.vmap(functools.partial(one_vector.part, like=like)), state)
        if table is not None:
            together = jax.vmap(functools.partial(deferred_adam.with_table, epsilon=epsilon))
            with jax.named_scope("update"):
                params, adam = together(state.params, state.adam, table, learning_rate)
            state = state._replace(params=params, adam=adam)
        return state, losses

    return train_steps


def _in_each(change: Callable[[Any], Any], state: TrainState) -> TrainState:
    """The state with its parameters and both moments changed in the same way."""
    adam = state.adam._replace(mu=change(state.adam.mu), nu=change(state.adam.nu))
    return state._replace(params=change(state.params), adam=adam)
