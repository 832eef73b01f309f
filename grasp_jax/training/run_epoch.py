"""One epoch on the device: a few dispatches of many steps each.

The host reads the losses of a dispatch while the device runs the next one, so that the device never waits. With
`train.dispatch_seconds`, `Pace` decides the number of steps of each dispatch.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.core.log import logger
from grasp_jax.core.timing import Stopwatch
from grasp_jax.models.batch import Params, Tables
from grasp_jax.models.device_data import DeviceData
from grasp_jax.models.id_table_params import has_id_table
from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.parallel.mesh import on_host, replicate
from grasp_jax.parallel.processes import CONTINUE, PREEMPTION, STOP, max_over_processes
from grasp_jax.training.divergence import check_finite
from grasp_jax.training.early_stopping import Progress
from grasp_jax.training.epochs import Chunk, Epoch, chunks
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.losses import Loss
from grasp_jax.training.pace import Pace
from grasp_jax.training.replicas import PerReplica, per_replica, put_replicas, take_replicas
from grasp_jax.training.saving import Saver, done_so_far
from grasp_jax.training.snapshot import Snapshot, with_states
from grasp_jax.training.step import TrainState, make_train_steps
from grasp_jax.training.step_bounds import StepBounds
from grasp_jax.training.step_inputs import StepInputs, inputs_at_once
from grasp_jax.training.targets import StepShape


class CompiledSteps(NamedTuple):
    """The compiled functions that every epoch of a training calls.

    Attributes:
      train_steps: `make_train_steps`, compiled; the state is donated, so parameters exist once.
      per_replica: keys and rates of all replicas, on the devices.
      draw_inputs: compiled `inputs_at_once`, for the steps of a chunk; None if a dispatch has all steps of its chunk.
      pace: number of steps of a dispatch, if `draw_inputs` is not None.
    """

    train_steps: Callable[..., tuple[TrainState, jax.Array]]
    per_replica: PerReplica
    draw_inputs: Callable[..., StepInputs | None] | None
    pace: Pace


class Dispatch(NamedTuple):
    """Steps that were sent to the device, and their results that the host has not read yet.

    Attributes:
      first_step: number of the first step, counted over all epochs.
      steps: the range of steps in its chunk.
      losses: [S, M'] losses of the M' replicas that still train.
      finite: [M'] bool, whether all parameters are finite after the last step.
      action: the highest action that any process requests after the last step, from `max_over_processes`.
      negated_steps: minus the smallest number of steps that any process proposes for a dispatch.
    """

    first_step: int
    steps: slice
    losses: jax.Array
    finite: jax.Array
    action: Any
    negated_steps: Any


@dataclasses.dataclass(frozen=True)
class TrainedEpoch:
    """The result of an epoch, and how long it took.

    Attributes:
      snapshot: the snapshot after the epoch, not validated yet.
      mean_loss: [M] float32 mean over its steps; without meaning for replicas that have stopped.
      action: the highest action that any process requests after the last step: CONTINUE, SAVE or STOP.
      seconds: duration without compilation.
      compile_seconds: duration of compilation, tracing included.
      tokens_per_second: interactions that all replicas together read in a second.
    """

    snapshot: Snapshot
    mean_loss: np.ndarray
    action: int
    seconds: float
    compile_seconds: float
    tokens_per_second: float


def compile_steps(job: TrainingJob, params: Params) -> CompiledSteps:
    """Compiles the function of many steps for parameters with these shapes, and copies the replicas' rates and keys to the devices."""
    decay_steps = job.config.decay_epochs * job.steps_per_epoch
    compiled = _train_steps(
        job.model, job.data.shape, job.data.loss, job.config.weight_decay, decay_steps
    )
    keys_and_rates = per_replica(job.replicas, functools.partial(replicate, job.data.mesh))
    pace = Pace(job.config.steps_per_dispatch, job.config.dispatch_seconds)
    return CompiledSteps(compiled, keys_and_rates, _draw_inputs(job, params), pace)


@functools.lru_cache(maxsize=4)
def _train_steps(
    model: SequenceModel, shape: StepShape, loss: Loss, weight_decay: float, decay_steps: int
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """`make_train_steps`, compiled. Trainings that differ only in values, such as the rates and seeds of a search, share one program.

    The cache keeps the compiled programs of four shapes, no arrays. A search or a comparison trains one method after the other, so a few
    are enough; and each program occupies memory of the device.
    """
    steps = make_train_steps(model, shape, loss, weight_decay=weight_decay, decay_steps=decay_steps)
    return jax.jit(steps, donate_argnums=0)


def _draw_inputs(job: TrainingJob, params: Params) -> Callable[..., StepInputs | None] | None:
    """`CompiledSteps.draw_inputs`.

    It is None also if updates of the ID table are deferred: at the end of a dispatch all rows are brought up to date, which rounds, so
    results would depend on the clock.
    """
    shape = job.data.shape
    if not job.config.dispatch_seconds:
        return None
    if shape.deferred and has_id_table(params):
        why = "a step reads few rows of the ID table"
        logger.info(f"{job.name}: train.dispatch_seconds is not kept, because {why}")
        return None
    return functools.partial(_inputs_of_chunk, job.model, shape._replace(deferred=False))


@functools.partial(jax.jit, static_argnames=("model", "shape"))
def _inputs_of_chunk(
    model: SequenceModel,
    shape: StepShape,
    data: DeviceData,
    tables: Tables,
    slots: jax.Array,
    keys: jax.Array,
    first_step: jax.Array,
) -> StepInputs | None:
    """The inputs of the steps of a chunk; `first_step` is the number of its first step."""
    numbers = first_step + jnp.arange(slots.shape[1])
    return inputs_at_once(model, shape, data, tables, slots, keys, numbers)


class _StepRange(NamedTuple):
    """Steps that are about to be sent to the devices.

    Attributes:
      chunk: the chunk with these steps.
      begin, end: range of the steps within the epoch.
      chunk_step: [] number of the chunk's first step, counted over all epochs, on the devices.
      bounds: of these steps within the chunk, with its inputs; None: all steps.
    """

    chunk: Chunk
    begin: int
    end: int
    chunk_step: jax.Array
    bounds: StepBounds | None


def _step_ranges(
    job: TrainingJob, steps: CompiledSteps, packed: Epoch, progress: Progress, keys: jax.Array
) -> Iterator[_StepRange]:
    """Yields the steps of the rest of an epoch, one dispatch at a time. The number of steps of a dispatch is decided
    when it is requested.
    """
    data, begin, size = job.data, int(progress.step), job.config.steps_per_dispatch
    for chunk in chunks(data, packed, begin, size, equal_sizes=steps.draw_inputs is not None):
        first_step = int(progress.epoch) * job.steps_per_epoch + chunk.begin
        chunk_step = replicate(data.mesh, np.int32(first_step))
        if steps.draw_inputs is None:
            yield _StepRange(chunk, chunk.begin, chunk.end, chunk_step, None)
            continue
        inputs = steps.draw_inputs(data.device, data.tables, chunk.slots, keys, chunk_step)
        while begin < chunk.end:
            # the training stops after this step
            stopping = PREEMPTION.requested and jax.process_count() == 1
            end = min(begin + (1 if stopping else steps.pace.steps), chunk.end)
            within = replicate(
                data.mesh, (np.int32(begin - chunk.begin), np.int32(end - chunk.begin))
            )
            yield _StepRange(
                chunk, begin, end, chunk_step, StepBounds(within[0], within[1], inputs)
            )
            begin = end


def run_epoch(
    job: TrainingJob, steps: CompiledSteps, saver: Saver, snapshot: Snapshot, packed: Epoch
) -> TrainedEpoch:
    """Trains the replicas that are active to the end of an epoch.

    The epoch may have begun already: `snapshot.progress.step` has the position. During the epoch, snapshots are saved when that is due, and
    the process ends after a signal to stop.

    Args:
      job: the training.
      steps: the result of `compile_steps`.
      saver: the saver of the job's checkpoints.
      snapshot: the state from which the epoch continues; its arrays are donated.
      packed: the epoch of the active replicas, `epochs.make_epoch`.

    Raises:
      TrainingDiverged: a loss or a parameter is not finite.
    """
    data, progress = job.data, snapshot.progress
    active, resumed_at = progress.active, int(progress.step)
    with Stopwatch() as watch:
        if resumed_at == 0:
            snapshot = snapshot._replace(state=with_states(snapshot.state, job.model, data))
        rows = None if len(active) == len(job.replicas) else replicate(data.mesh, active)
        state = take_replicas(snapshot.state, rows)
        keys_and_rates = take_replicas(steps.per_replica, rows)
        reader, action = _LossReader(job, saver, progress, steps.pace), CONTINUE
        for step_range in _step_ranges(job, steps, packed, progress, keys_and_rates.keys):
            chunk, begin, end, chunk_step, bounds = step_range
            epoch_ends = end == job.steps_per_epoch
            state, losses = steps.train_steps(
                state,
                data.device,
                data.tables,
                chunk.slots,
                keys_and_rates,
                chunk_step,
                chunk.query_users,
                bounds,
            )
            requested = saver.policy.action(epoch_ends)
            first_step = int(progress.epoch) * job.steps_per_epoch + begin
            dispatch = Dispatch(
                first_step=first_step,
                steps=slice(begin - chunk.begin, end - chunk.begin),
                losses=losses,
                finite=finite_replicas(state.params),
                action=max_over_processes(data.mesh, requested),
                negated_steps=max_over_processes(data.mesh, -steps.pace.proposed),
            )
            action = reader.read(dispatch, requested, epoch_ends)
            if action and not epoch_ends:
                merged = snapshot._replace(state=put_replicas(snapshot.state, state, rows))
                _save_within(saver, merged, end, reader.loss_sum, first_step + end - begin)
                steps.pace.begin()  # the time of a save does not belong to a step
                if action == STOP:
                    where = done_so_far(int(progress.epoch), end)
                    PREEMPTION.stop(f" after {where}, saved in {saver.last.folder}")
        snapshot = snapshot._replace(state=put_replicas(snapshot.state, state, rows))
    share = (job.steps_per_epoch - resumed_at) / job.steps_per_epoch
    return TrainedEpoch(
        snapshot=snapshot,
        mean_loss=reader.loss_sum / job.steps_per_epoch,
        action=action,
        seconds=watch.seconds,
        compile_seconds=watch.compile_seconds,
        tokens_per_second=job.tokens_per_epoch * share * len(active) / max(watch.seconds, 1e-9),
    )


def _save_within(
    saver: Saver, snapshot: Snapshot, done: int, loss_sum: np.ndarray, total: int
) -> None:
    """Saves after `done` steps of an epoch (`total` steps over all epochs); their losses sum to [M]."""
    progress = snapshot.progress._replace(
        step=np.full((), done, np.int32), loss_sum=loss_sum.copy()
    )
    saver.save(total, snapshot._replace(progress=progress))


class _LossReader:
    """Reads the losses of each dispatch after the next one was sent to the device.

    Attributes:
      loss_sum: [M] float32 sum of the epoch's losses that were read so far.
    """

    def __init__(self, job: TrainingJob, saver: Saver, progress: Progress, pace: Pace) -> None:
        self.loss_sum = progress.loss_sum.copy()
        self._pace = pace
        pace.begin()
        self._job, self._saver, self._active = job, saver, progress.active
        self._in_flight = collections.deque[Dispatch]()

    def read(self, dispatch: Dispatch, requested: int, epoch_ends: bool) -> int:
        """Reads the losses that are due: all at the end of an epoch or before a save, otherwise all except those of the newest dispatch.

        Args:
          dispatch: the newest dispatch.
          requested: the action that this process requests after it.
          epoch_ends: whether it is the last one of the epoch.

        Returns:
          The next action, CONTINUE, SAVE or STOP. A single process does what it requests. Several processes do the highest requested action
          that was read together with losses, so that all of them save at the same step.
        """
        self._in_flight.append(dispatch)
        action = requested if jax.process_count() == 1 else CONTINUE
        while len(self._in_flight) > (0 if action or epoch_ends else 1):
            oldest = self._in_flight.popleft()
            losses, finite, negated_steps = on_host(
                (oldest.losses, oldest.finite, oldest.negated_steps)
            )
            losses = losses[oldest.steps]
            self._pace.done(len(losses))
            self._pace.agree(
                self._pace.proposed if jax.process_count() == 1 else -int(negated_steps)
            )
            trained = [self._job.replicas[m] for m in self._active]
            first_step, last = oldest.first_step, self._saver.last
            check_finite(self._job, trained, losses, finite, first_step, last)
            # One by one if the clock decides their number; otherwise the rounding of the sum would depend on the clock.
            for summand in losses if self._pace.seconds else [losses.sum(axis=0)]:
                self.loss_sum[self._active] += summand
            action = max(action, int(on_host(oldest.action)))
        return action


@jax.jit
def finite_replicas(tree: Any) -> jax.Array:
    """[M'] bool: whether all parameters of each replica of the tree are finite."""
    leaves = (jnp.isfinite(leaf).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(tree))
    return jnp.stack([leaf.all(axis=1) for leaf in leaves]).all(axis=0)
