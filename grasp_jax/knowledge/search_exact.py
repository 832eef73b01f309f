"""Exact top-K by cosine in JAX: blocks of queries against blocks of keys with a running top-K, in the memory of one block of scores."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

QUERY_BLOCK = 1024
KEY_BLOCK = 16384


def search_exact(
    unit_vectors: np.ndarray, k: int, labels: np.ndarray, progress: Callable[[int], object] | None = None, rows: np.ndarray | None = None
) -> np.ndarray:  # fmt: skip
    """The K nearest rows with another label.

    Args:
      unit_vectors: [keys, E].
      k: K, below the number of keys.
      labels: [keys] int32.
      progress: called with the number of rows done since the last call.
      rows: [queries] the rows to search for; all of them by default.

    Returns:
      [queries, K] int32, nearest first, -1 where there are fewer rows with another label.
    """
    count, width = unit_vectors.shape
    key_block = min(KEY_BLOCK, count)
    padded = -(-count // key_block) * key_block
    keys = jnp.zeros((padded, width), unit_vectors.dtype).at[:count].set(unit_vectors)
    key_labels = jnp.zeros(padded, jnp.int32).at[:count].set(labels)
    rows = np.arange(count) if rows is None else rows
    found = np.empty((len(rows), k), np.int32)
    for start in range(0, len(rows), QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, len(rows))
        first = max(0, stop - QUERY_BLOCK)  # the last block overlaps the one before it, so every block has one shape
        own = rows[first:stop]
        block = _search_block(keys, key_labels, jnp.asarray(unit_vectors[own]), jnp.asarray(labels[own]), count, k, key_block)
        found[start:stop] = np.asarray(block)[start - first :]
        if progress:
            progress(stop - start)
    return found


@functools.partial(jax.jit, static_argnames=("k", "key_block"))
def _search_block(
    keys: jax.Array, key_labels: jax.Array, queries: jax.Array, query_labels: jax.Array, count: jax.Array, k: int, key_block: int
) -> jax.Array:  # fmt: skip
    def merge(best: tuple[jax.Array, jax.Array], block: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        begin = block * key_block
        part, labels = (jax.lax.dynamic_slice_in_dim(array, begin, key_block) for array in (keys, key_labels))
        scores = jnp.einsum("qe,ke->qk", queries, part, preferred_element_type=jnp.float32)
        ids = begin + jnp.arange(key_block)
        scores = jnp.where((labels[None, :] == query_labels[:, None]) | (ids[None, :] >= count), -jnp.inf, scores)
        block_scores, block_places = jax.lax.top_k(scores, min(k, key_block))
        joined_scores = jnp.concatenate([best[0], block_scores], axis=1)
        joined_ids = jnp.concatenate([best[1], ids[block_places]], axis=1)
        top_scores, places = jax.lax.top_k(joined_scores, k)
        return (top_scores, jnp.take_along_axis(joined_ids, places, axis=1)), None

    start = (jnp.full((queries.shape[0], k), -jnp.inf), jnp.full((queries.shape[0], k), -1, jnp.int32))
    (scores, ids), _ = jax.lax.scan(merge, start, jnp.arange(keys.shape[0] // key_block))
    return jnp.where(scores == -jnp.inf, -1, ids)
