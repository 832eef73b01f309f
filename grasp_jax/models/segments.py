"""The last position of each history within a packed row."""

import jax
import jax.numpy as jnp


def is_last(segments: jax.Array) -> jax.Array:
    """[R, L] segment ids, -1 where empty -> [R, L] bool: the last position of each history."""
    changes = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (0, 1)), constant_values=True)
    return changes & (segments >= 0)


def newest_places(segments: jax.Array, batch_users: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The last position of each history: [B] place (row * L + column), [B] user row, and [B] bool, whether there is such a user."""
    last = jnp.nonzero(is_last(segments).ravel(), size=batch_users, fill_value=segments.size)[0]
    places = jnp.minimum(last, segments.size - 1)
    return places, jnp.maximum(segments.ravel()[places], 0), last < segments.size
