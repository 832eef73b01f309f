"""Vectors of length 1, whose products are cosines."""

import jax
import jax.numpy as jnp

SHORTEST = 1e-12  # squared length below which a vector keeps its direction and is not made long


def unit(vectors: jax.Array) -> jax.Array:
    """[..., D] -> [..., D] of length 1; zeros stay zeros, and their gradient finite, which that of a norm is not."""
    squared = (vectors * vectors).sum(axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squared, SHORTEST))
