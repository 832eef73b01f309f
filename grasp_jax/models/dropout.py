"""Dropout for models that are trained together, with different rates."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """Dropout whose rate is an argument, so that models with different rates share one compiled step; None switches it off."""

    @nn.compact
    def __call__(self, x: jax.Array, rate: jax.Array | None) -> jax.Array:
        if rate is None:
            return x
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - rate, x.shape)
        return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def for_each(module: nn.Module, run: Callable[..., jax.Array], *stacked: jax.Array) -> jax.Array:
    """`run(module, *part)` for each part [R, ...] of arrays [n, R, ...], with the same parameters and separate dropout: [n, ...].

    If the parts were concatenated to [n * R, ...], the dropout of the second part would depend on the number of rows, which is rounded up
    to a multiple of the number of devices.
    """
    return nn.vmap(
        run, variable_axes={"params": None}, split_rngs={"params": False, "dropout": True}
    )(module, *stacked)
