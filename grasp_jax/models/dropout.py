"""Dropout for models that are trained side by side."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """Dropout whose rate is an argument, so that models of different rates share one compiled step; None switches it off."""

    @nn.compact
    def __call__(self, x: jax.Array, rate: jax.Array | None) -> jax.Array:
        if rate is None:
            return x
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - rate, x.shape)
        return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)
