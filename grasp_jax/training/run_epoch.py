"""One epoch on the device: a few dispatches of many steps each.

The host reads the losses of a dispatch while the device runs the one after it, so that the device
never waits. With `train.dispatch_seconds`, a dispatch has as many steps as `Pace` says.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.log import logger
from grasp_jax.models.batch import Params
from grasp_jax.parallel.mesh import everywhere, on_host
from grasp_jax.parallel.processes import GO_ON, PREEMPTION, STOP, highest_wish
from grasp_jax.timing import Stopwatch
from grasp_jax.training.divergence import check_finite
from grasp_jax.training.early_stopping import Progress
from grasp_jax.training.epochs import Chunk, Epoch, chunks
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.optim.deferred_adam import has_table
from grasp_jax.training.pace import Pace
from grasp_jax.training.part_of_steps import Part
from grasp_jax.training.replicas import PerReplica, per_replica, put, take
from grasp_jax.training.saving import Saver
from grasp_jax.training.snapshot import Snapshot, with_states
from grasp_jax.training.step import TrainState, make_train_steps
from grasp_jax.training.step_inputs import StepInputs, inputs_at_once


class CompiledSteps(NamedTuple):
    """What every epoch of a training calls.

    Attributes:
      train_steps: `make_train_steps`, compiled; the state is donated, so parameters exist once.
      inputs: what a step reads of each replica, on the devices.
      draw: inputs of the steps of a chunk, `inputs_at_once`, compiled; None where a dispatch has all steps of its chunk.
      pace: steps of a dispatch, where `draw` is there.
    """

    train_steps: Callable[..., tuple[TrainState, jax.Array]]
    inputs: PerReplica
    draw: Callable[..., StepInputs | None] | None
    pace: Pace


class Dispatch(NamedTuple):
    """Steps that the device was given, and what the host has yet to read of them.

    Attributes:
      first_step: number of the first, over all epochs.
      steps: which of the S steps of its chunk.
      losses: [S, M'] of the M' replicas that still train.
      finite: [R] bool, whether all parameters are finite after the last step.
      wish: the highest of all processes' after the last step, `processes.highest_wish`.
      fewest: minus the fewest steps that a process wishes a dispatch to have.
    """

    first_step: int
    steps: slice
    losses: jax.Array
    finite: jax.Array
    wish: Any
    fewest: Any


@dataclasses.dataclass(frozen=True)
class TrainedEpoch:
    """What an epoch has changed and how long it took.

    Attributes:
      snapshot: after it, not validated yet.
      mean_loss: [M] float32 over its steps; of no meaning for replicas that have stopped.
      wish: what processes wished for after the last step, GO_ON, SAVE or STOP.
      seconds: without those of compilation.
      compile_seconds: of compilation.
      tokens_per_second: interactions read in a second, of all replicas together.
    """

    snapshot: Snapshot
    mean_loss: np.ndarray
    wish: int
    seconds: float
    compile_seconds: float
    tokens_per_second: float


def compile_steps(job: TrainingJob, params: Params) -> CompiledSteps:
    """The function of many steps, for parameters of this form, and the replicas' rates and keys on the devices."""
    train_steps = make_train_steps(
        job.model,
        job.data.shape,
        job.data.loss,
        weight_decay=job.config.weight_decay,
        decay_steps=job.config.decay_epochs * job.steps_per_epoch,
    )
    inputs = per_replica(job.replicas, functools.partial(everywhere, job.data.mesh))
    compiled = jax.jit(train_steps, donate_argnums=0)
    pace = Pace(job.config.steps_per_dispatch, job.config.dispatch_seconds)
    return CompiledSteps(compiled, inputs, _draw(job, params), pace)


def _draw(job: TrainingJob, params: Params) -> Callable[..., StepInputs | None] | None:
    """`CompiledSteps.draw`.

    None also with an ID table that is deferred: at the end of a dispatch all its rows are brought up to date, which rounds, and results
    would depend on the clock.
    """
    shape = job.data.shape
    if not job.config.dispatch_seconds:
        return None
    if shape.deferred and has_table(params):
        why = "a step reads few rows of the ID table"
        logger.info(f"{job.name}: train.dispatch_seconds is not kept, because {why}")
        return None
    shape = shape._replace(deferred=False)

    def draw(*given: Any) -> StepInputs | None:
        data, tables, slots, keys, first_step = given
        numbers = first_step + jnp.arange(slots.shape[1])
        return inputs_at_once(job.model, shape, data, tables, slots, keys, numbers)

    return jax.jit(draw)


class _Given(NamedTuple):
    """Steps that the devices are about to be given.

    Attributes:
      chunk: whose steps they are.
      first, end: which, of the epoch.
      number: [] of the chunk's first step over all epochs, on the devices.
      part: which, of the chunk; None: all.
    """

    chunk: Chunk
    first: int
    end: int
    number: jax.Array
    part: Part | None


def _given(
    job: TrainingJob, steps: CompiledSteps, packed: Epoch, progress: Progress, keys: jax.Array
) -> Iterator[_Given]:
    """The steps of the rest of an epoch, a dispatch at a time; how many they are is decided when they are asked for."""
    data, at, size = job.data, int(progress.step), job.config.steps_per_dispatch
    for chunk in chunks(data, packed, at, size, alike=steps.draw is not None):
        first_step = int(progress.epoch) * job.steps_per_epoch + chunk.begin
        number = everywhere(data.mesh, np.int32(first_step))
        if steps.draw is None:
            yield _Given(chunk, chunk.begin, chunk.end, number, None)
            continue
        drawn = steps.draw(data.device, data.tables, chunk.slots, keys, number)
        while at < chunk.end:
            told = PREEMPTION.wished and jax.process_count() == 1  # one step brings the answer
            end = min(at + (1 if told else steps.pace.steps), chunk.end)
            bounds = everywhere(
                data.mesh, (np.int32(at - chunk.begin), np.int32(end - chunk.begin))
            )
            yield _Given(chunk, at, end, number, Part(bounds[0], bounds[1], drawn))
            at = end


def run_epoch(
    job: TrainingJob, steps: CompiledSteps, saver: Saver, snapshot: Snapshot, packed: Epoch
) -> TrainedEpoch:
    """Trains the replicas that are active to the end of an epoch.

    It may be begun already: `snapshot.progress.step` says where. In its midst it saves when that
    is due, and ends the process where it was told to stop.

    Args:
      job: the training.
      steps: of `compile_steps`.
      saver: of the job's checkpoints.
      snapshot: where the epoch continues; its state is donated.
      packed: the epoch of the active replicas, `epochs.make_epoch`.

    Raises:
      TrainingDiverged: a loss or a parameter is not finite.
    """
    data, progress = job.data, snapshot.progress
    active, begun_at = progress.active, int(progress.step)
    with Stopwatch() as watch:
        if begun_at == 0:
            snapshot = snapshot._replace(state=with_states(snapshot.state, job.model, data))
        rows = None if len(active) == len(job.replicas) else everywhere(data.mesh, active)
        state, inputs = take(snapshot.state, rows), take(steps.inputs, rows)
        reader, wish = _LossReader(job, saver, progress, steps.pace), GO_ON
        for given in _given(job, steps, packed, progress, inputs.keys):
            begin, end, chunk = given.first, given.end, given.chunk
            epoch_ends = end == job.steps_per_epoch
            state, losses = steps.train_steps(
                state,
                data.device,
                data.tables,
                chunk.slots,
                inputs,
                given.number,
                chunk.asked,
                given.part,
            )
            own_wish = saver.policy.wish(epoch_ends)
            all_wish = highest_wish(data.mesh, own_wish)
            fewest = highest_wish(data.mesh, -steps.pace.wish)
            first_step = int(progress.epoch) * job.steps_per_epoch + begin
            done = slice(begin - chunk.begin, end - chunk.begin)
            finite = finite_replicas(state.params)
            dispatch = Dispatch(first_step, done, losses, finite, all_wish, fewest)
            wish = reader.read(dispatch, own_wish, epoch_ends)
            if wish and not epoch_ends:
                merged = snapshot._replace(state=put(snapshot.state, state, rows))
                _save_within(saver, merged, end, reader.loss_sum, first_step + end - begin)
                steps.pace.begin()  # the seconds of a save are none of a step
                if wish == STOP:
                    where = f"{int(progress.epoch)} epochs and {end} steps"
                    PREEMPTION.stop(f" after {where}, saved in {saver.last.folder}")
        snapshot = snapshot._replace(state=put(snapshot.state, state, rows))
    share = (job.steps_per_epoch - begun_at) / job.steps_per_epoch
    return TrainedEpoch(
        snapshot=snapshot,
        mean_loss=reader.loss_sum / job.steps_per_epoch,
        wish=wish,
        seconds=watch.seconds,
        compile_seconds=watch.compile_seconds,
        tokens_per_second=job.tokens_per_epoch * share * len(active) / max(watch.seconds, 1e-9),
    )


def _save_within(
    saver: Saver, snapshot: Snapshot, done: int, loss_sum: np.ndarray, total: int
) -> None:
    """Saves after `done` steps of an epoch, `total` over all epochs, whose losses sum to [M]."""
    progress = snapshot.progress._replace(
        step=np.full((), done, np.int32), loss_sum=loss_sum.copy()
    )
    saver.save(total, snapshot._replace(progress=progress))


class _LossReader:
    """Reads the losses of each dispatch after the next one was given to the device.

    Attributes:
      loss_sum: [M] float32 of the epoch's losses read so far.
    """

    def __init__(self, job: TrainingJob, saver: Saver, progress: Progress, pace: Pace) -> None:
        self.loss_sum = progress.loss_sum.copy()
        self._pace = pace
        pace.begin()
        self._job, self._saver, self._active = job, saver, progress.active
        self._in_flight = collections.deque[Dispatch]()

    def read(self, dispatch: Dispatch, own_wish: int, epoch_ends: bool) -> int:
        """Reads what is due: all at the end of an epoch or before a save, else all but the newest.

        Returns:
          What is to be done now, GO_ON, SAVE or STOP: of one process its own wish; of several
          the highest wish that came with the losses, so that all save at the same step.
        """
        self._in_flight.append(dispatch)
        granted = own_wish if jax.process_count() == 1 else GO_ON
        while len(self._in_flight) > (0 if granted or epoch_ends else 1):
            oldest = self._in_flight.popleft()
            losses, finite, fewest = on_host((oldest.losses, oldest.finite, oldest.fewest))
            losses = losses[oldest.steps]
            self._pace.done(len(losses))
            self._pace.agree(self._pace.wish if jax.process_count() == 1 else -int(fewest))
            trained = [self._job.replicas[m] for m in self._active]
            first_step, last = oldest.first_step, self._saver.last
            check_finite(self._job, trained, losses, finite, first_step, last)
            # One by one where the clock decides how many there are, or their sum would round by it.
            for some in losses if self._pace.seconds else [losses.sum(axis=0)]:
                self.loss_sum[self._active] += some
            granted = max(granted, int(on_host(oldest.wish)))
        return granted


@jax.jit
def finite_replicas(tree: Any) -> jax.Array:
    """[R] bool: whether all parameters of each replica are finite."""
    leaves = (jnp.isfinite(leaf).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(tree))
    return jnp.stack([leaf.all(axis=1) for leaf in leaves]).all(axis=0)
