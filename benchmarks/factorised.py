"""Ours: the packed, factorised step exactly as `grasp_jax.training.loop` runs it, many steps to a dispatch, of one model or of several."""

import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workload import LEARNING_RATE, ids_of_a_step, memory_beside_tables
from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.split import Split
from grasp_jax.models.device_data import gather_batch
from grasp_jax.models.projection import choose_projection
from grasp_jax.models.recommender import build_recommender
from grasp_jax.training.epochs import TrainingData, make_epoch
from grasp_jax.training.loop import initial_snapshot
from grasp_jax.training.members import Member, of_members
from grasp_jax.training.step import TrainState, make_train_steps
from grasp_jax.training.targets import draw_targets

SEED = 0
DROPOUT = 0.2
ONE = (Member(SEED, DROPOUT, LEARNING_RATE),)


class FactorisedStep:
    """M models, their compiled function of S steps, and the packed batches of one epoch.

    Attributes:
      model: the recommender, of `method` on `backbone`.
      slots: [M, epoch's steps, R, L'].
      steps: S.
      compile_seconds, memory_bytes: of the compiled function; memory is arguments and temporaries less the frozen tables.
      losses: [S, M] of the newest dispatch, None before the first.
    """

    name = "grasp_jax (packed, factorised)"

    def __init__(
        self, config: ConfigDict, split: Split, data: TrainingData, steps: int, method: str = "grasp",
        backbone: str = "sasrec", members: Sequence[Member] = ONE, compiler_options: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.data, self.members, self.losses = data, list(members), None
        self.projection = choose_projection(split.log.num_items, ids_of_a_step(data.packing))
        width = data.tables["items"].shape[1] if data.tables else 0
        self.model = build_recommender(
            config.model, method, backbone, split.log.num_items, data.packing.row_length, width, self.projection, data.packing.batch_size
        )
        self.slots = make_epoch(data, self.members, 0).slots
        self.epoch_steps = self.slots.shape[1]
        self.steps = min(steps, self.epoch_steps)
        self.of_members = of_members(self.members)
        self.begin = 0
        started = time.perf_counter()
        train_steps = jax.jit(make_train_steps(self.model, data.shape, data.loss), donate_argnums=0)
        state = jax.eval_shape(lambda: initial_snapshot(self.model, self.members, data).state)
        self.compiled = train_steps.lower(state, *self._arguments(data, 0)).compile(compiler_options)
        self.compile_seconds = time.perf_counter() - started
        self.memory_bytes = memory_beside_tables(self.compiled, data.tables)

    @functools.cached_property
    def state(self) -> TrainState:
        """Parameters and optimiser state, each leaf with a leading axis M; made when first asked for, for many models may not fit."""
        return initial_snapshot(self.model, self.members, self.data).state

    def _arguments(self, data: TrainingData, begin: int, dropout: float | None = None) -> tuple:
        chunk = jnp.asarray(self.slots[:, begin : begin + self.steps])
        keys, own, rates = self.of_members
        given = own if dropout is None else jnp.full_like(own, dropout)
        return data.device, data.tables, chunk, keys, jnp.int32(begin), given, rates

    def run(self) -> float:
        """Seconds per step of the next dispatch, the copy of its slots to the device included."""
        state = self.state  # made before the clock starts
        if self.begin + self.steps > self.epoch_steps:
            self.begin = 0
        started = time.perf_counter()
        self.state, self.losses = self.compiled(state, *self._arguments(self.data, self.begin))
        jax.block_until_ready(self.losses)
        self.begin += self.steps
        return (time.perf_counter() - started) / self.steps

    def first_loss(self, data: TrainingData) -> float:
        """The loss of the epoch's first batch on `data`, dropout off; the state stays as it is."""
        _, losses = self.compiled(jax.tree.map(jnp.copy, self.state), *self._arguments(data, 0, 0.0))
        return float(losses[0, 0])

    def negatives(self, step: int) -> np.ndarray:
        """[R, L'] item rows that step `step` of the epoch draws; 0 where there is no next item."""
        batch = gather_batch(self.data.device, jnp.asarray(self.slots[0, step]))
        _, targets = draw_targets(self.of_members.keys[0], jnp.int32(step), self.data.device, batch, self.data.shape)
        drawn = np.zeros(batch.items.size + 1, np.int32)
        drawn[np.asarray(targets.places)] = np.asarray(targets.negatives)[:, 0]
        return drawn[:-1].reshape(batch.items.shape)
