"""The package's step: packed and factorised, as `grasp_jax.training.run_epoch` runs it, many steps per dispatch, for one or more models."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workload import memory_beside_tables
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.models.batch import PackedBatch, SeparateNegatives, Targets
from grasp_jax.models.device_data import gather_batch
from grasp_jax.training.epochs import TrainingData, make_epoch
from grasp_jax.training.replicas import one_replica, per_replica
from grasp_jax.training.snapshot import initial_snapshot
from grasp_jax.training.step import TrainState, make_train_steps
from grasp_jax.training.targets import draw_targets
from grasp_jax.training.training_set import TrainingSet

SOON = 5.0  # seconds


class FactorisedStep:
    """M models, their compiled function of S steps, and the packed batches of one epoch.

    Attributes:
      model: the recommender.
      slots: [M, epoch's steps, R, L'].
      steps: S.
      compile_seconds, memory_bytes: of the compiled function; memory is arguments and temporaries less the frozen tables.
      losses: [S, M] of the newest dispatch, None before the first.
    """

    name = "grasp_jax (packed, factorised)"

    def __init__(
        self, training: TrainingSet, steps: int, compiler_options: dict[str, Any] | None = None
    ) -> None:
        self.model, self.replicas, self.data, self.losses = (
            training.model,
            training.replicas,
            training.data,
            None,
        )
        self.slots = make_epoch(self.data, self.replicas, 0).slots
        self.epoch_steps = self.slots.shape[1]
        self.steps = min(steps, self.epoch_steps)
        self.per_replica = per_replica(self.replicas)
        self.begin = 0
        started = time.perf_counter()
        train_steps = jax.jit(
            make_train_steps(self.model, self.data.shape, self.data.loss), donate_argnums=0
        )
        state = jax.eval_shape(lambda: initial_snapshot(self.model, self.replicas, self.data).state)
        self.compiled = train_steps.lower(state, *self._arguments(self.data, 0)).compile(
            compiler_options
        )
        self.compile_seconds = time.perf_counter() - started
        self.memory_bytes = memory_beside_tables(self.compiled, self.data.tables)

    @functools.cached_property
    def state(self) -> TrainState:
        """Parameters and optimiser state, each leaf with a leading axis M; created at the first use, because many models may not fit into
        memory.
        """
        return initial_snapshot(self.model, self.replicas, self.data).state

    @property
    def num_ids(self) -> int:
        """Number of item ids that a step looks up: one for every place of its packed rows, and the negatives of each target."""
        packing, shape = self.data.packing, self.data.shape
        return packing.num_rows * packing.row_length + shape.num_targets * shape.negatives

    def ranker(self) -> Ranker:
        """A ranker with the present state of the first model."""
        return Ranker.of(
            self.model, one_replica(self.state.params, 0), self.data.device, self.data.tables
        )

    def _arguments(self, data: TrainingData, begin: int, dropout: float | None = None) -> tuple:
        chunk = jnp.asarray(self.slots[:, begin : begin + self.steps])
        given = self.per_replica
        if dropout is not None:
            given = given._replace(dropout=jnp.full_like(given.dropout, dropout))
        return data.device, data.tables, chunk, given, jnp.int32(begin)

    def run(self) -> float:
        """Seconds per step of the next dispatch, including the copy of its slots to the device."""
        state = self.state  # created before the clock starts
        if self.begin + self.steps > self.epoch_steps:
            self.begin = 0
        started = time.perf_counter()
        self.state, self.losses = self.compiled(state, *self._arguments(self.data, self.begin))
        jax.block_until_ready(self.losses)
        self.begin += self.steps
        return (time.perf_counter() - started) / self.steps

    def run_warm(self) -> float:
        """Seconds of a whole dispatch: of the next one or, if that is short, of the one after it, because the first also loads code."""
        seconds = self.run() * self.steps
        return self.run() * self.steps if seconds < SOON else seconds

    def first_loss(self, data: TrainingData) -> float:
        """The loss of the epoch's first batch on `data` without dropout; the state is not changed."""
        _, losses = self.compiled(
            jax.tree.map(jnp.copy, self.state), *self._arguments(data, 0, 0.0)
        )
        return float(losses[0, 0])

    def drawn(self, step: int) -> tuple[PackedBatch, Targets]:
        """The batch and the targets of step `step` of the epoch."""
        batch = gather_batch(self.data.device, jnp.asarray(self.slots[0, step]))
        key, number = self.per_replica.keys[0], jnp.int32(step)
        return draw_targets(key, number, self.data.device, batch, self.data.shape)

    def negatives(self, step: int) -> np.ndarray:
        """[R, L'] item rows that step `step` of the epoch draws; 0 where there is no next item."""
        batch, targets = self.drawn(step)
        # the losses that are timed here use these
        assert isinstance(targets.negatives, SeparateNegatives)
        size = batch.items.size
        drawn, asked = np.zeros(size, np.int32), np.asarray(targets.places.exist(size))
        drawn[np.asarray(targets.places.places(size))[asked]] = np.asarray(targets.negatives.items)[
            asked, 0
        ]
        return drawn.reshape(batch.items.shape)
