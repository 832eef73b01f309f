"""Negatives that all targets of a batch share, and the logQ correction of their scores for the sampling distribution.

The denominator of a sampled softmax is an unbiased estimate of that of the full softmax if each negative's term is divided by the expected
number of times that its item is drawn, which subtracts the logarithm of this number from the score (Bengio and Senecal, 2008, "Adaptive
importance sampling to accelerate training of a neural probabilistic language model"; for in-batch negatives Yi et al., 2019,
"Sampling-bias-corrected neural modeling for large corpus item recommendations"). The target's own term is always in the denominator, so
its score is not corrected, as Khrylchenko et al., 2025 (arXiv 2507.09331) point out.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from grasp_jax.models.batch import SharedNegatives


class SamplingSettings(Protocol):
    """The fields of `targets.StepShape` that determine the sampling of negatives."""

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
    targets: jax.Array,
    exist: jax.Array,
    popularity: jax.Array | None,
    shape: SamplingSettings,
) -> SharedNegatives:
    """Negatives [G] for a whole batch.

    Args:
      stream: [] random key.
      targets: [P] int32 target items.
      exist: [P] bool, which of them exist.
      popularity: [V] int32 cumulative numbers of training interactions; not needed for uniform draws without a correction.
      shape: how the negatives are drawn, how many, and whether scores are corrected.
    """
    if shape.drawn == "in_batch":
        missing = jnp.where(exist, 0.0, jnp.inf)
        if not shape.logq:
            return SharedNegatives(targets, missing)
        return SharedNegatives(targets, missing + _log_expected(targets, exist.sum(), popularity))
    if shape.drawn == "popularity":
        assert popularity is not None
        interactions = jax.random.randint(stream, (shape.negatives,), 0, popularity[-1], jnp.int32)
        items = jnp.searchsorted(popularity, interactions, side="right").astype(jnp.int32)
        correction = _log_expected(items, shape.negatives, popularity) if shape.logq else None
        return SharedNegatives(items, correction)
    items = jax.random.randint(stream, (shape.negatives,), 0, shape.num_items, jnp.int32)
    expected = jnp.full(shape.negatives, jnp.log(shape.negatives / shape.num_items))
    return SharedNegatives(items, expected if shape.logq else None)


def _log_expected(
    items: jax.Array, draws: int | jax.Array, popularity: jax.Array | None
) -> jax.Array:
    """Logarithm of the expected count of each of [G] items in so many draws by popularity; an item without interactions counts as if it had
    one.
    """
    assert popularity is not None
    count = jnp.maximum(popularity[items] - jnp.where(items > 0, popularity[items - 1], 0), 1)
    return jnp.log(count * (draws / popularity[-1]))
