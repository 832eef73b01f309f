"""The inputs of a step that do not depend on parameters: batches, targets and random streams; for many steps at once if they are small."""

from typing import NamedTuple

import jax

from grasp_jax.models.batch import PackedBatch, Tables, Targets, WholeCatalogue
from grasp_jax.models.device_data import DeviceData, QueryUsers, gather_batch, with_batch_queries
from grasp_jax.models.sequence_model import SequenceModel, step_rows
from grasp_jax.parallel.rows import HostRows, ShardedRows
from grasp_jax.training.optim import deferred_adam
from grasp_jax.training.optim.adam import StepIds
from grasp_jax.training.targets import StepShape, draw_targets

# largest number of negatives of all steps and models together; their precomputed inputs take some 64 bytes each
NEGATIVES_AT_ONCE = 1 << 22
DROPOUT = 2  # purpose of a random stream: fold_in(fold_in(seed, purpose), step)


class StepInputs(NamedTuple):
    """The inputs of a step that do not depend on parameters: a function of (slots, seed, step).

    Attributes:
      batch, targets: the items that the model sees, and those that it must predict.
      dropout_key: [] key of its random stream.
      ids: the rows that the step reads of an ID table with deferred updates; or None.
    """

    batch: PackedBatch
    targets: Targets
    dropout_key: jax.Array
    ids: StepIds | None


def step_inputs(
    model: SequenceModel,
    shape: StepShape,
    data: DeviceData,
    tables: Tables,
    slots: jax.Array,
    query_users: QueryUsers | None,
    key: jax.Array,
    step: jax.Array,
) -> tuple[StepInputs, Tables]:
    """One model's inputs from its [R, L] slots, and tables that contain the query rows of its users."""
    with jax.named_scope("gather"):
        batch = gather_batch(data, slots)
        replicated = shape.shared or shape.catalogue
        tables, batch = with_batch_queries(tables, batch, query_users, replicated)
        batch, targets = draw_targets(key, step, data, batch, shape)
        ids = None
        if shape.deferred:
            assert not isinstance(targets.negatives, WholeCatalogue)
            rows = step_rows(model, batch, targets.negatives).ravel()
            ids = StepIds(*deferred_adam.distinct(rows, shape.num_items))
    return StepInputs(
        batch, targets, jax.random.fold_in(jax.random.fold_in(key, DROPOUT), step), ids
    ), tables


def inputs_at_once(
    model: SequenceModel,
    shape: StepShape,
    data: DeviceData,
    tables: Tables,
    slots: jax.Array,
    keys: jax.Array,
    numbers: jax.Array,
) -> StepInputs | None:
    """[S, M] inputs of all steps, computed by a few large operations instead of many small ones in each step; None if they are too many.

    None also if query rows must be read for each batch, or if devices share the rows of a batch.
    """
    negatives = slots.size * (1 if shape.shared or shape.catalogue else shape.negatives)
    if (
        negatives > NEGATIVES_AT_ONCE
        or model.shares > 1
        or isinstance(tables.get("users"), ShardedRows | HostRows)
    ):
        return None

    def inputs_of(slots: jax.Array, number: jax.Array, key: jax.Array) -> StepInputs:
        return step_inputs(model, shape, data, tables, slots, None, key, number)[0]

    all_steps = jax.vmap(inputs_of, in_axes=(0, 0, None))
    inputs: StepInputs = jax.vmap(all_steps, in_axes=(0, None, 0), out_axes=1)(slots, numbers, keys)
    return inputs
