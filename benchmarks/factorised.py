"""Ours: the packed, factorised step exactly as `grasp_jax.training.loop` runs it, many steps to a dispatch."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workload import ids_of_a_step, memory_beside_tables
from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.split import Split
from grasp_jax.models.device_data import gather_batch
from grasp_jax.models.projection import choose_projection
from grasp_jax.models.recommender import build_recommender
from grasp_jax.training.loop import Member, TrainingData, epoch_slots, initial_snapshot
from grasp_jax.training.step import make_train_steps
from grasp_jax.training.targets import draw_targets

SEED = 0
DROPOUT = 0.2


class FactorisedStep:
    """One model, its compiled function of S steps, and the packed batches of one epoch.

    Attributes:
      model: the recommender, of `method` on `backbone`.
      state: parameters and optimiser state, each leaf with a leading axis 1.
      slots: [1, epoch's steps, R, L'].
      steps: S.
      compile_seconds, memory_bytes: of the compiled function; memory is arguments and temporaries less the frozen tables.
    """

    name = "grasp_jax (packed, factorised)"

    def __init__(
        self, config: ConfigDict, split: Split, data: TrainingData, steps: int, method: str = "grasp",
        backbone: str = "sasrec", projection: str = "",
    ) -> None:  # fmt: skip
        self.data = data
        member = Member(SEED, DROPOUT)
        self.projection = projection or choose_projection(split.log.num_items, ids_of_a_step(data.packing))
        width = data.tables["items"].shape[1] if data.tables else 0
        self.model = build_recommender(
            config.model, method, backbone, split.log.num_items, data.packing.row_length, width, self.projection, data.packing.batch_size
        )
        self.state = initial_snapshot(self.model, [member], data).state
        self.slots = epoch_slots(data, [member], 0)
        self.epoch_steps = self.slots.shape[1]
        self.steps = min(steps, self.epoch_steps)
        self.keys = jnp.stack([jax.random.key(SEED)])
        self.begin = 0
        started = time.perf_counter()
        train_steps = jax.jit(make_train_steps(self.model, config.train.learning_rate, data.shape, data.loss), donate_argnums=0)
        self.compiled = train_steps.lower(self.state, *self._arguments(data, 0, DROPOUT)).compile()
        self.compile_seconds = time.perf_counter() - started
        self.memory_bytes = memory_beside_tables(self.compiled, data.tables)

    def _arguments(self, data: TrainingData, begin: int, dropout: float) -> tuple:
        chunk = jnp.asarray(self.slots[:, begin : begin + self.steps])
        return data.device, data.tables, chunk, self.keys, jnp.int32(begin), jnp.full(1, dropout, jnp.float32)

    def run(self) -> float:
        """Seconds per step of the next dispatch, the copy of its slots to the device included."""
        if self.begin + self.steps > self.epoch_steps:
            self.begin = 0
        started = time.perf_counter()
        self.state, losses = self.compiled(self.state, *self._arguments(self.data, self.begin, DROPOUT))
        losses.block_until_ready()
        self.begin += self.steps
        return (time.perf_counter() - started) / self.steps

    def first_loss(self, data: TrainingData) -> float:
        """The loss of the epoch's first batch on `data`, dropout off; the state stays as it is."""
        _, losses = self.compiled(jax.tree.map(jnp.copy, self.state), *self._arguments(data, 0, 0.0))
        return float(losses[0, 0])

    def negatives(self, step: int) -> np.ndarray:
        """[R, L'] item rows that step `step` of the epoch draws; 0 where there is no next item."""
        batch = gather_batch(self.data.device, jnp.asarray(self.slots[0, step]))
        _, targets = draw_targets(self.keys[0], jnp.int32(step), self.data.device, batch, self.data.shape)
        drawn = np.zeros(batch.items.size + 1, np.int32)
        drawn[np.asarray(targets.places)] = np.asarray(targets.negatives)[:, 0]
        return drawn[:-1].reshape(batch.items.shape)
