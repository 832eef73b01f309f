"""Counter-based random bits: a hash of a seed and of counters, the same inside a kernel and outside.

A kernel with dropout needs the same bits in its backward pass, and its reference needs them too. Bits that depend only on the seed and on
positions can be computed again, so nothing of the weights' size is stored.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# digits of pi: from zero, counters that are all zero would hash to zero
_START = np.uint32(0x243F6A88)
_GOLDEN = np.uint32(0x9E3779B9)  # 2^32 over the golden ratio: odd, so no two counters fall together


class SeededDropout(NamedTuple):
    """Dropout whose bits depend on a seed.

    Attributes:
      rate: [] float32 dropout rate; the values that are kept are divided by 1 - rate. It has no gradient.
      seed: [] uint32; draw a new one for each step.
    """

    rate: jax.Array
    seed: jax.Array


def as_words(dropout: SeededDropout | None) -> tuple[jax.Array, jax.Array]:
    """Seed, [1] uint32, and rate, [1] float32, as kernels read them; zeros without dropout."""
    if dropout is None:
        return jnp.zeros(1, jnp.uint32), jnp.zeros(1)
    rate = jnp.asarray(dropout.rate, jnp.float32)
    return jnp.asarray(dropout.seed).astype(jnp.uint32).reshape(1), rate.reshape(1)


def mix(bits: jax.Array) -> jax.Array:
    """A bijection of uint32 in which each bit of the input moves about half of the output's ("lowbias32", C. Wellons, 2018)."""
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B)
    return bits ^ (bits >> np.uint32(16))


def hash_counters(*counters: jax.Array) -> jax.Array:
    """uint32 bits of counters (int32 or uint32, shapes that broadcast), of their common shape.

    Counters are mixed in one after the other, and each step has the shape of the counters so far: (seed, row, query [Q, 1], key [1, K])
    costs one `mix` for each pair and one for each query.
    """
    bits = jnp.asarray(_START)
    for counter in counters:
        bits = mix(bits ^ (counter.astype(jnp.uint32) * _GOLDEN))
    return bits


def keep_scale(bits: jax.Array, rate: jax.Array) -> jax.Array:
    """The factor of dropout for each of `bits`: 0 with probability `rate`, else 1 / (1 - rate), float32."""
    # 24 bits are what a float32 holds exactly; as int32, because not every backend converts uint32.
    uniform = (bits >> np.uint32(8)).astype(jnp.int32).astype(jnp.float32) * np.float32(2.0**-24)
    return jnp.where(uniform >= rate, 1.0 / (1.0 - rate), 0.0)
