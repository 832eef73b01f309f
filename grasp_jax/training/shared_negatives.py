"""Negatives that all targets of a batch share, and the correction of their scores for how they were drawn.

A sampled softmax stands for one over the whole catalogue if the terms of its negatives add up, on average, to those of all other items:
each is divided by how often its item is expected among them (Bengio and Senecal, 2008, "Adaptive importance sampling to accelerate
training of a neural probabilistic language model"; of a batch's own targets Yi et al., 2019, "Sampling-bias-corrected neural modeling
for large corpus item recommendations"). The target is there for certain, so that nothing is taken off its own score, as Khrylchenko et
al., 2025 (arXiv 2507.09331) point out.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from grasp_jax.models.batch import SharedNegatives


class Drawing(Protocol):
    """The fields of `targets.StepShape` that a draw reads."""

    @property
    def num_items(self) -> int: ...
    @property
    def negatives(self) -> int: ...
    @property
    def drawn(self) -> str: ...
    @property
    def logq(self) -> bool: ...


def shared_negatives(
    stream: jax.Array,
    wanted: jax.Array,
    exist: jax.Array,
    popularity: jax.Array | None,
    shape: Drawing,
) -> SharedNegatives:
    """Negatives [S] for a whole batch.

    Args:
      stream: [] random key.
      wanted: [P] int32 target items.
      exist: [P] bool, which of them exist.
      popularity: [V] int32 cumulative numbers of training interactions; not needed for uniform draws without a correction.
      shape: how the negatives are drawn, how many, and whether scores are corrected.
    """
    if shape.drawn == "in_batch":
        missing = jnp.where(exist, 0.0, jnp.inf)
        if not shape.logq:
            return SharedNegatives(wanted, missing)
        return SharedNegatives(wanted, missing + _log_expected(wanted, exist.sum(), popularity))
    if shape.drawn == "popularity":
        assert popularity is not None
        place = jax.random.randint(stream, (shape.negatives,), 0, popularity[-1], jnp.int32)
        items = jnp.searchsorted(popularity, place, side="right").astype(jnp.int32)
        correction = _log_expected(items, shape.negatives, popularity) if shape.logq else None
        return SharedNegatives(items, correction)
    items = jax.random.randint(stream, (shape.negatives,), 0, shape.num_items, jnp.int32)
    expected = jnp.full(shape.negatives, jnp.log(shape.negatives / shape.num_items))
    return SharedNegatives(items, expected if shape.logq else None)


def _log_expected(
    items: jax.Array, draws: int | jax.Array, popularity: jax.Array | None
) -> jax.Array:
    """Logarithm of the expected count of each of [S] items in so many draws by popularity; an item without interactions counts as if it had
    one.
    """
    assert popularity is not None
    count = jnp.maximum(popularity[items] - jnp.where(items > 0, popularity[items - 1], 0), 1)
    return jnp.log(count * (draws / popularity[-1]))
