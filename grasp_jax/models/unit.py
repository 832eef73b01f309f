"""Vectors of length 1, whose products are cosines."""

import jax
import jax.numpy as jnp

SHORTEST = 1e-12  # squared length below which a vector is not scaled to length 1


def unit(vectors: jax.Array) -> jax.Array:
    """[..., D] -> [..., D] of length 1. Zeros stay zeros with a finite gradient, which a plain norm would not have."""
    squared = (vectors * vectors).sum(axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squared, SHORTEST))
