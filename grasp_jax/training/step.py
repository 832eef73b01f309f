"""The pure training step, and many steps as one `lax.scan` on the device, for several models at once.

Its stages have `jax.named_scope`s (gather, gate, project, backbone, loss, update), by which `benchmarks.profile` attributes the time.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from grasp_jax.models.batch import (
    PackedBatch,
    Params,
    Scores,
    SeparateNegatives,
    SharedNegatives,
    StepContext,
    Tables,
    Targets,
)
from grasp_jax.models.device_data import (
    DeviceData,
    QueryUsers,
    all_pair_logits,
    logits_of,
)
from grasp_jax.models.id_table_params import has_id_table
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.training.losses import Loss
from grasp_jax.training.optim.adam import Adam, ScanState
from grasp_jax.training.optim.forms import choose_optimiser
from grasp_jax.training.replicas import PerReplica
from grasp_jax.training.step_bounds import StepBounds, run_within
from grasp_jax.training.step_inputs import StepInputs, inputs_at_once, step_inputs
from grasp_jax.training.targets import StepShape


class TrainState(NamedTuple):
    """The state of M models between steps; every leaf has a leading axis M.

    Attributes:
      params: parameters.
      adam: Adam's moments and its count of steps.
      states: [M, N, D] newest state of each user at the start of the epoch, or None for methods that do not read it.
    """

    params: Params
    adam: optax.ScaleByAdamState
    states: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Step:
    """The parts of a training step.

    Attributes:
      model: encoder and backbone.
      shape: static numbers.
      loss: function of the scores.
      optimiser: Adam, in one of its forms.
      decay_steps: number of steps over which learning rates fall linearly to 0; 0: they are constant.
    """

    model: SequenceModel
    shape: StepShape
    loss: Loss
    optimiser: Adam
    decay_steps: int = 0

    def rates(self, per_replica: PerReplica, number: jax.Array) -> PerReplica:
        """The rates with the learning rate of step `number`, counted over all epochs: it is multiplied by 1 - number / decay_steps, at
        least 0.

        Source: the linear decay of Defazio et al., 2023, arXiv 2310.07831.
        """
        if not self.decay_steps:
            return per_replica
        factor = jnp.maximum(1.0 - number / self.decay_steps, 0.0)
        return per_replica._replace(learning_rate=per_replica.learning_rate * factor)

    def run(
        self,
        state: ScanState,
        inputs: StepInputs,
        tables: Tables,
        user_states: jax.Array | None,
        rates: PerReplica,
    ) -> tuple[ScanState, jax.Array]:
        """One step of one model: returns the new state and the loss [].

        Args:
          state: the state of the model.
          inputs: batch, targets and random stream.
          tables: frozen tables, with the query rows of the batch.
          user_states: [N, D] newest states of all users, or None.
          rates: the rates of this model.
        """
        batch, targets = with_gate_logits(self.model, tables, inputs.batch, inputs.targets)
        read = self.optimiser.read(state, inputs.ids, rates.learning_rate)

        def loss_of(trainable: Params) -> jax.Array:
            params, id_rows = self.optimiser.loss_params(state, trainable, inputs.ids)
            context = StepContext(id_rows=id_rows, states=user_states)
            scores = self.model.apply(
                {"params": params},
                tables,
                batch,
                targets,
                rates.dropout,
                context,
                method=SequenceModel.training_scores,
                rngs={"dropout": inputs.dropout_key},
            )
            with jax.named_scope("loss"):
                return self.loss(cast(Scores, scores))

        loss, gradient = jax.value_and_grad(loss_of)(read.trainable)
        with jax.named_scope("update"):
            state = self.optimiser.apply(state, read, gradient, inputs.ids, rates.learning_rate)
        return state, loss


def with_gate_logits(
    model: SequenceModel, tables: Tables, batch: PackedBatch, targets: Targets
) -> tuple[PackedBatch, Targets]:
    """Batch and targets with the pair logits of randomly drawn items: negatives, and the items that replace masked ones."""
    if not model.gated:
        return batch, targets
    with jax.named_scope("gate"):
        negatives, logits = targets.negatives, None
        if isinstance(negatives, SharedNegatives):
            logits = all_pair_logits(tables, targets.queries, negatives.items)
        elif isinstance(negatives, SeparateNegatives):
            # for all items, `catalogue_scores` computes them
            logits = logits_of(tables, targets.queries[:, None], negatives.items)
        if batch.replaced is not None:
            replaced_logits = logits_of(
                tables, batch.queries[: len(batch.replaced)], jnp.maximum(batch.replaced, 0)
            )
            batch = batch._replace(replaced_logits=replaced_logits)
    return batch, targets._replace(negative_logits=logits)


def make_train_steps(
    model: SequenceModel,
    shape: StepShape,
    loss: Loss,
    epsilon: float = 1e-8,
    in_one_vector: bool | None = None,
    weight_decay: float = 0.0,
    decay_steps: int = 0,
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """Makes the function `train_steps` (see there): S steps of M models with Adam. Compile it by `jax.jit` with the state donated.

    Args:
      model: the module of all M models.
      shape: static numbers of a step.
      loss: one of `training.losses`.
      epsilon: of Adam.
      in_one_vector: whether Adam works on the joined parameters of `one_vector.join`; None: only on a single GPU.
      weight_decay: `train.weight_decay`; not allowed with a shape whose ID table is deferred.
      decay_steps: as in `Step`; not allowed with such a shape either, because deferred rows are updated with a single rate.

    Raises:
      ValueError: deferred updates with `decay_steps` or, when `train_steps` is traced, with `weight_decay`.
    """
    if shape.deferred and decay_steps:
        raise ValueError("an ID table with deferred updates needs one learning rate for all steps")
    joins_params = (
        jax.default_backend() == "gpu" and model.shares == 1
        if in_one_vector is None
        else in_one_vector
    )

    def train_steps(
        state: TrainState,
        data: DeviceData,
        tables: Tables,
        slots: jax.Array,
        per_replica: PerReplica,
        first_step: jax.Array,
        query_users: QueryUsers | None = None,
        bounds: StepBounds | None = None,
    ) -> tuple[TrainState, jax.Array]:
        """S steps of M models, or some of them.

        Args:
          state: the state of the models.
          data, tables: on the devices.
          slots: [M, S, R, L] int32 packed batches.
          per_replica: keys and rates of each model.
          first_step: [] number of the first step.
          query_users: users whose query rows each model and step needs, [M, S, ...], if query tables are not on every device.
          bounds: the steps to run; None: all.

        Returns:
          The new state, and the losses [S, M], which are 0 for the other steps.
        """
        defers = shape.deferred and has_id_table(state.params)
        optimiser = choose_optimiser(state.params, epsilon, joins_params, defers, weight_decay)
        step = Step(model, shape._replace(deferred=defers), loss, optimiser, decay_steps)
        numbers = first_step + jnp.arange(slots.shape[1])
        return _scan(step, state, data, tables, (slots, query_users), per_replica, numbers, bounds)

    return train_steps


def _scan(
    step: Step,
    state: TrainState,
    data: DeviceData,
    tables: Tables,
    batches: tuple[jax.Array, QueryUsers | None],
    per_replica: PerReplica,
    numbers: jax.Array,
    bounds: StepBounds | None,
) -> tuple[TrainState, jax.Array]:
    """Runs the steps `numbers` [S] one after the other, with `batches` (slots and query users); the other arguments are those of
    `train_steps`.
    """
    if bounds is None:
        arguments = data, tables, batches[0], per_replica.keys, numbers
        inputs = inputs_at_once(step.model, step.shape, *arguments)
    else:
        inputs = bounds.inputs

    def one_model(
        carry: ScanState,
        user_states: jax.Array | None,
        slots: jax.Array,
        query_users: QueryUsers | None,
        inputs: StepInputs | None,
        rates: PerReplica,
        number: jax.Array,
    ) -> tuple[ScanState, jax.Array]:
        step_tables = tables
        if inputs is None:
            arguments = data, tables, slots, query_users, rates.keys, number
            inputs, step_tables = step_inputs(step.model, step.shape, *arguments)
        return step.run(carry, inputs, step_tables, user_states, rates)

    all_models = jax.vmap(one_model, in_axes=(0, 0, 0, 0, 0, 0, None))

    def body(
        carry: ScanState, x: tuple[jax.Array, QueryUsers | None, StepInputs | None, jax.Array]
    ) -> tuple[ScanState, jax.Array]:
        slots, query_users, inputs, number = x
        rates = step.rates(per_replica, number)
        return all_models(carry, state.states, slots, query_users, inputs, rates, number)

    init = step.optimiser.begin(state.params, state.adam)
    xs = (*jax.tree.map(lambda x: x.swapaxes(0, 1), batches), inputs, numbers)
    carry, losses = (
        jax.lax.scan(body, init, xs) if bounds is None else run_within(body, init, xs, bounds)
    )
    params, adam = step.optimiser.end(carry, per_replica.learning_rate)
    return state._replace(params=params, adam=adam), losses
