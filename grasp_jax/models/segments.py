"""Where a history ends within a packed row."""

import jax
import jax.numpy as jnp


def is_last(segments: jax.Array) -> jax.Array:
    """[R, L] segment ids, -1 where empty -> [R, L] bool: the last position of each history."""
    changes = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (0, 1)), constant_values=True)
    return changes & (segments >= 0)
