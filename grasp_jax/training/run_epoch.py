"""One epoch on the device: a few dispatches of many steps each.

The host reads the losses of a dispatch while the device runs the one after it, so that the device
never waits.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.parallel.mesh import everywhere, on_host
from grasp_jax.parallel.processes import GO_ON, PREEMPTION, STOP, highest_wish
from grasp_jax.timing import Stopwatch
from grasp_jax.training.divergence import check_finite
from grasp_jax.training.early_stopping import Progress
from grasp_jax.training.epochs import Epoch, dispatches
from grasp_jax.training.job import TrainingJob
from grasp_jax.training.replicas import PerReplica, per_replica, put, take
from grasp_jax.training.saving import Saver
from grasp_jax.training.snapshot import Snapshot, with_states
from grasp_jax.training.step import TrainState, make_train_steps


class CompiledSteps(NamedTuple):
    """What every epoch of a training calls.

    Attributes:
      train_steps: `make_train_steps`, compiled; the state is donated, so parameters exist once.
      inputs: what a step reads of each replica, on the devices.
    """

    train_steps: Callable[..., tuple[TrainState, jax.Array]]
    inputs: PerReplica


class Dispatch(NamedTuple):
    """Steps that the device was given, and what the host has yet to read of them.

    Attributes:
      first_step: number of the first, over all epochs.
      losses: [S, M'] of the M' replicas that still train.
      finite: [R] bool, whether all parameters are finite after the last step.
      wish: the highest of all processes' after the last step, `processes.highest_wish`.
    """

    first_step: int
    losses: jax.Array
    finite: jax.Array
    wish: Any


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


def compile_steps(job: TrainingJob) -> CompiledSteps:
    """The function of many steps, and the replicas' rates and keys on the devices."""
    train_steps = make_train_steps(
        job.model,
        job.data.shape,
        job.data.loss,
        weight_decay=job.config.weight_decay,
        decay_steps=job.config.decay_epochs * job.steps_per_epoch,
    )
    inputs = per_replica(job.replicas, functools.partial(everywhere, job.data.mesh))
    return CompiledSteps(jax.jit(train_steps, donate_argnums=0), inputs)


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
        reader, wish = _LossReader(job, saver, progress), GO_ON
        size = job.config.steps_per_dispatch
        for begin, slots, asked in dispatches(data, packed, begun_at, size):
            end = begin + slots.shape[1]
            epoch_ends = end == job.steps_per_epoch
            first_step = int(progress.epoch) * job.steps_per_epoch + begin
            number = everywhere(data.mesh, np.int32(first_step))
            state, losses = steps.train_steps(
                state, data.device, data.tables, slots, inputs, number, asked
            )
            own_wish = saver.policy.wish(epoch_ends)
            all_wish = highest_wish(data.mesh, own_wish)
            dispatch = Dispatch(first_step, losses, finite_replicas(state.params), all_wish)
            wish = reader.read(dispatch, own_wish, epoch_ends)
            if wish and not epoch_ends:
                merged = snapshot._replace(state=put(snapshot.state, state, rows))
                _save_within(saver, merged, end, reader.loss_sum, first_step + slots.shape[1])
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

    def __init__(self, job: TrainingJob, saver: Saver, progress: Progress) -> None:
        self.loss_sum = progress.loss_sum.copy()
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
            losses, finite = on_host((oldest.losses, oldest.finite))
            trained = [self._job.replicas[m] for m in self._active]
            first_step, last = oldest.first_step, self._saver.last
            check_finite(self._job, trained, losses, finite, first_step, last)
            self.loss_sum[self._active] += losses.sum(axis=0)
            granted = max(granted, int(on_host(oldest.wish)))
        return granted


@jax.jit
def finite_replicas(tree: Any) -> jax.Array:
    """[R] bool: whether all parameters of each replica are finite."""
    leaves = (jnp.isfinite(leaf).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(tree))
    return jnp.stack([leaf.all(axis=1) for leaf in leaves]).all(axis=0)
