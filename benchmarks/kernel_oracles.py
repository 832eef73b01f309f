"""What the kernels compute, written out without blocks in the number type of the arguments; in float64, the truth for all forms."""

import jax
import jax.numpy as jnp

from grasp_jax.kernels.sasrec_layer import Layer
from grasp_jax.kernels.sasrec_layer_kernels import EPSILON


def gru(shares: jax.Array, weights: jax.Array, first: jax.Array) -> jax.Array:
    """Input shares [R, L, 3D] and weights [D, 3D] -> states [R, L, D], zero where `first` [R, L] begins a history."""
    state = jnp.zeros((len(shares), len(weights)), shares.dtype)
    states = []
    for position in range(shares.shape[1]):
        state = jnp.where(first[:, position, None], 0.0, state)
        r, z, n = jnp.split(shares[:, position], 3, axis=1)
        own_r, own_z, own_n = jnp.split(state @ weights, 3, axis=1)
        r, z = jax.nn.sigmoid(r + own_r), jax.nn.sigmoid(z + own_z)
        state = (1 - z) * jnp.tanh(n + r * own_n) + z * state
        states.append(state)
    return jnp.stack(states, axis=1)


def attention(
    queries: jax.Array, keys: jax.Array, values: jax.Array, allowed: jax.Array, normaliser: str
) -> jax.Array:
    """[R, L, n, d] each and [R, L, L] bool -> [R, L, n, d]."""
    scores = jnp.einsum("rqnd,rknd->rnqk", queries, keys) / queries.shape[-1] ** 0.5
    if normaliser == "softmax":
        weights = jax.nn.softmax(jnp.where(allowed[:, None], scores, -jnp.inf), axis=-1)
    else:
        weights = jnp.where(allowed[:, None], jax.nn.sigmoid(scores), 0.0)
    return jnp.einsum("rnqk,rknd->rqnd", weights, values)


def sasrec_layers(
    x: jax.Array, layers: list[Layer], allowed: jax.Array, num_heads: int
) -> jax.Array:
    """[R, L, D] -> [R, L, D]: the published layers one after the other, then the norm in the last one's parameters."""
    for before, after in layers:
        normalised = _norm(x, before.scale, before.offset)
        parts = (
            normalised @ before.query + before.query_bias,
            x @ before.key + before.key_bias,
            x @ before.value + before.value_bias,
        )
        q, k, v = (part.reshape(*x.shape[:2], num_heads, -1) for part in parts)
        attended = attention(q, k, v, allowed, "softmax").reshape(x.shape)
        x = normalised + attended @ after.out + after.out_bias
        x = _norm(x, after.scale, after.offset)
        hidden = jnp.maximum(x @ after.first + after.first_bias, 0.0)
        x = x + hidden @ after.second + after.second_bias
    return _norm(x, layers[-1][1].last_scale, layers[-1][1].last_offset)


def _norm(x: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + EPSILON) * scale + offset
