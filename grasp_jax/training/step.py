"""The pure training step, and many steps as one `lax.scan` on the device, for several models at once.

Its stages carry `jax.named_scope`s (gather, gate, project, backbone, loss, update), by which `benchmarks.profile` tells where time goes.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from grasp_jax.models.batch import (
    OwnNegatives,
    PackedBatch,
    Params,
    Scores,
    SharedNegatives,
    StepContext,
    Tables,
    Targets,
)
from grasp_jax.models.device_data import (
    AskedUsers,
    DeviceData,
    all_pair_logits,
    logits_of,
)
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.training.losses import Loss
from grasp_jax.training.optim import deferred_adam
from grasp_jax.training.optim.adam import Adam, Held
from grasp_jax.training.optim.forms import choose_optimiser
from grasp_jax.training.part_of_steps import Part, run_part
from grasp_jax.training.replicas import PerReplica
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
      loss: of the scores.
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
        left = jnp.maximum(1.0 - number / self.decay_steps, 0.0)
        return per_replica._replace(learning_rate=per_replica.learning_rate * left)

    def take(
        self,
        held: Held,
        inputs: StepInputs,
        tables: Tables,
        states: jax.Array | None,
        own: PerReplica,
    ) -> tuple[Held, jax.Array]:
        """One step of one model: returns the new state and the loss [].

        Args:
          held: the state of the model.
          inputs: batch, targets and random stream.
          tables: frozen tables, with the query rows of the batch.
          states: [N, D] newest states of all users, or None.
          own: the rates of this model.
        """
        batch, targets = with_gate_logits(self.model, tables, inputs.batch, inputs.targets)
        read = self.optimiser.read(held, inputs.ids, own.learning_rate)

        def loss_of(trained: Params) -> jax.Array:
            params, id_rows = self.optimiser.loss_params(held, trained, inputs.ids)
            context = StepContext(id_rows=id_rows, states=states)
            given = tables, batch, targets, own.dropout, context
            random = {"dropout": inputs.dropout_key}
            scores = cast(
                Scores,
                self.model.apply(
                    {"params": params}, *given, method=SequenceModel.training_scores, rngs=random
                ),
            )
            with jax.named_scope("loss"):
                return self.loss(scores)

        loss, gradient = jax.value_and_grad(loss_of)(read.trained)
        with jax.named_scope("update"):
            held = self.optimiser.apply(held, read, gradient, inputs.ids, own.learning_rate)
        return held, loss


def with_gate_logits(
    model: SequenceModel, tables: Tables, batch: PackedBatch, targets: Targets
) -> tuple[PackedBatch, Targets]:
    """Batch and targets with the pair logits of the items that were drawn: negatives, and items that are shown in place of others."""
    if not model.gated:
        return batch, targets
    with jax.named_scope("gate"):
        negatives, logits = targets.negatives, None
        if isinstance(negatives, SharedNegatives):
            logits = all_pair_logits(tables, targets.queries, negatives.items)
        elif isinstance(negatives, OwnNegatives):  # for all items, `catalogue_scores` computes them
            logits = logits_of(tables, targets.queries[:, None], negatives.items)
        if batch.replaced is not None:
            shown = logits_of(
                tables, batch.queries[: len(batch.replaced)], jnp.maximum(batch.replaced, 0)
            )
            batch = batch._replace(replaced_logits=shown)
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
    """Makes the function `train_steps` (see there): S steps of M models with Adam. Jit it with the state donated.

    Args:
      model: the module of all M models.
      shape: static numbers of a step.
      loss: one of `training.losses`.
      epsilon: Adam's.
      in_one_vector: whether Adam works on the joined parameters of `one_vector.join`; None: only on a single GPU.
      weight_decay: `train.weight_decay`; not allowed with a shape whose ID table is deferred.
      decay_steps: as in `Step`; not allowed with such a shape either, because deferred rows are updated with a single rate.
    """
    if shape.deferred and decay_steps:
        raise ValueError("an ID table that is deferred has one learning rate for all steps")
    joins = (
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
        asked: AskedUsers | None = None,
        part: Part | None = None,
    ) -> tuple[TrainState, jax.Array]:
        """S steps of M models, or some of them.

        Args:
          state: the state of the models.
          data, tables: on the devices.
          slots: [M, S, R, L] int32 packed batches.
          per_replica: keys and rates of each model.
          first_step: [] number of the first step.
          asked: users whose query rows each model and step needs, [M, S, ...], if query tables are not on every device.
          part: the steps to run; None: all.

        Returns:
          The new state, and the losses [S, M], which are 0 for steps outside the part.
        """
        defers = shape.deferred and deferred_adam.has_table(state.params)
        optimiser = choose_optimiser(state.params, epsilon, joins, defers, weight_decay)
        step = Step(model, shape._replace(deferred=defers), loss, optimiser, decay_steps)
        numbers = first_step + jnp.arange(slots.shape[1])
        return _scan(step, state, data, tables, (slots, asked), per_replica, numbers, part)

    return train_steps


def _scan(
    step: Step,
    state: TrainState,
    data: DeviceData,
    tables: Tables,
    batches: tuple[jax.Array, AskedUsers | None],
    per_replica: PerReplica,
    numbers: jax.Array,
    part: Part | None,
) -> tuple[TrainState, jax.Array]:
    """Runs the steps `numbers` [S] one after the other, with `batches` (slots and asked users); the other arguments are those of
    `train_steps`.
    """
    if part is None:
        given = data, tables, batches[0], per_replica.keys, numbers
        inputs = inputs_at_once(step.model, step.shape, *given)
    else:
        inputs = part.inputs

    def one_model(
        held: Held,
        states: jax.Array | None,
        slots: jax.Array,
        rows: AskedUsers | None,
        inputs: StepInputs | None,
        own: PerReplica,
        number: jax.Array,
    ) -> tuple[Held, jax.Array]:
        known = tables
        if inputs is None:
            given = data, tables, slots, rows, own.keys, number
            inputs, known = step_inputs(step.model, step.shape, *given)
        return step.take(held, inputs, known, states, own)

    models = jax.vmap(one_model, in_axes=(0, 0, 0, 0, 0, 0, None))

    def body(
        held: Held, of_step: tuple[jax.Array, AskedUsers | None, StepInputs | None, jax.Array]
    ) -> tuple[Held, jax.Array]:
        slots, rows, inputs, number = of_step
        own = step.rates(per_replica, number)
        return models(held, state.states, slots, rows, inputs, own, number)

    by_step = jax.tree.map(lambda x: x.swapaxes(0, 1), batches)
    begun = step.optimiser.begin(state.params, state.adam)
    every = (*by_step, inputs, numbers)
    held, losses = (
        jax.lax.scan(body, begun, every) if part is None else run_part(body, begun, every, part)
    )
    params, adam = step.optimiser.end(held, per_replica.learning_rate)
    return state._replace(params=params, adam=adam), losses
