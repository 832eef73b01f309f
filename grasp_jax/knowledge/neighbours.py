"""Top-K neighbours by cosine, the row itself excluded (Eq. 2), exact in JAX or approximate in ScaNN behind one function."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.errors import UserError

QUERY_BLOCK = 1024
KEY_BLOCK = 16384


def top_neighbours(unit_vectors: np.ndarray, k: int, method: str = "exact", progress: Callable[[int], object] | None = None) -> np.ndarray:
    """The K nearest rows of each row.

    Args:
      unit_vectors: [rows, E] rows of unit length (or zero), so that dot products are cosines.
      k: K, below the number of rows.
      method: "exact" or "scann".
      progress: called with the number of rows done since the last call.

    Returns:
      [rows, K] int32, nearest first.

    Raises:
      UserError: K out of range, an unknown method, or values that are not finite (which abort ScaNN).
    """
    if not 1 <= k < len(unit_vectors):
        raise UserError(f"config.knowledge.num_neighbours: {k}; expected 1 to {len(unit_vectors) - 1}, one less than the rows")
    if not np.isfinite(unit_vectors).all():
        raise UserError("neighbours: the vectors hold a value that is not finite")
    if method not in SEARCHES:
        raise UserError(f"config.knowledge.retrieval: {method!r}; expected one of {', '.join(SEARCHES)}")
    return SEARCHES[method](unit_vectors, k, progress)


def mean_of_neighbours(unit_vectors: np.ndarray, neighbours: np.ndarray, by_similarity: bool = False) -> np.ndarray:
    """Mean pooling of Eq. 2: [rows, E] float32, in blocks so that no [rows, K, E] array exists.

    `by_similarity` weighs each neighbour by its cosine (none below 0), where Eq. 2 weighs all alike; rows without a similar one get the
    plain mean.
    """
    pooled = np.empty_like(unit_vectors)
    for start in range(0, len(neighbours), QUERY_BLOCK):
        block = slice(start, start + QUERY_BLOCK)
        found = unit_vectors[neighbours[block]]
        if not by_similarity:
            pooled[block] = found.mean(axis=1)
            continue
        weights = np.maximum(np.einsum("re,rke->rk", unit_vectors[block], found), 0.0)
        weights = np.where(weights.any(axis=1, keepdims=True), weights, 1.0)
        pooled[block] = np.einsum("rk,rke->re", weights / weights.sum(axis=1, keepdims=True), found)
    return pooled


def _exact(unit_vectors: np.ndarray, k: int, progress: Callable[[int], object] | None) -> np.ndarray:
    """Blocks of queries against blocks of keys with a running top-K: memory is one [queries, keys] block of scores."""
    rows, width = unit_vectors.shape
    key_block = min(KEY_BLOCK, rows)
    padded_rows = -(-rows // key_block) * key_block
    keys = jnp.zeros((padded_rows, width), unit_vectors.dtype).at[:rows].set(unit_vectors)
    found = np.empty((rows, k), np.int32)
    for start in range(0, rows, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, rows)
        first = max(0, stop - QUERY_BLOCK)  # the last block overlaps the one before it, so every block has one shape
        block = _search_block(keys, jnp.asarray(unit_vectors[first:stop]), first, rows, k, key_block)
        found[start:stop] = np.asarray(block)[start - first :]
        if progress:
            progress(stop - start)
    return found


@functools.partial(jax.jit, static_argnames=("k", "key_block"))
def _search_block(keys: jax.Array, queries: jax.Array, first: jax.Array, rows: jax.Array, k: int, key_block: int) -> jax.Array:
    own = first + jnp.arange(queries.shape[0])

    def merge(best: tuple[jax.Array, jax.Array], block: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        begin = block * key_block
        scores = jnp.einsum("qe,ke->qk", queries, jax.lax.dynamic_slice_in_dim(keys, begin, key_block), preferred_element_type=jnp.float32)
        ids = begin + jnp.arange(key_block)
        scores = jnp.where((ids[None, :] == own[:, None]) | (ids[None, :] >= rows), -jnp.inf, scores)
        block_scores, block_places = jax.lax.top_k(scores, min(k, key_block))
        joined_scores = jnp.concatenate([best[0], block_scores], axis=1)
        joined_ids = jnp.concatenate([best[1], ids[block_places]], axis=1)
        top_scores, places = jax.lax.top_k(joined_scores, k)
        return (top_scores, jnp.take_along_axis(joined_ids, places, axis=1)), None

    start = (jnp.full((queries.shape[0], k), -jnp.inf), jnp.zeros((queries.shape[0], k), jnp.int32))
    (_, ids), _ = jax.lax.scan(merge, start, jnp.arange(keys.shape[0] // key_block))
    return ids


def _scann(unit_vectors: np.ndarray, k: int, progress: Callable[[int], object] | None) -> np.ndarray:
    """Partition tree, asymmetric hashing and exact re-ordering; leaves near the square root of the rows."""
    try:
        import scann
    except ImportError as error:
        raise UserError("config.knowledge.retrieval: 'scann' needs the package scann (Linux x86 only); use 'exact'") from error

    rows = len(unit_vectors)
    leaves = max(1, int(np.sqrt(rows)))
    builder = scann.scann_ops_pybind.builder(unit_vectors.astype(np.float32), k + 1, "dot_product")
    if rows >= 4096:
        builder = builder.tree(num_leaves=leaves, num_leaves_to_search=max(1, leaves // 8), training_sample_size=min(rows, 250_000))
        searcher = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(20 * (k + 1)).build()
    else:
        searcher = builder.score_brute_force().build()
    found = np.empty((rows, k), np.int32)
    for start in range(0, rows, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, rows)
        ids, distances = searcher.search_batched_parallel(unit_vectors[start:stop].astype(np.float32))
        found[start:stop] = _drop_self(ids.astype(np.int64), distances, np.arange(start, stop), k)
        if progress:
            progress(stop - start)
    return found


def _drop_self(ids: np.ndarray, distances: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """Removes each row's own id (by id: duplicates may rank before it) and the entries that ScaNN pads with distance NaN."""
    unusable = (ids == own[:, None]) | ~np.isfinite(distances)
    order = np.argsort(unusable, axis=1, kind="stable")[:, :k]
    if np.take_along_axis(unusable, order, axis=1).any():
        raise UserError("ScaNN returned fewer neighbours than asked for; use config.knowledge.retrieval='exact'")
    return np.take_along_axis(ids, order, axis=1)


SEARCHES = {"exact": _exact, "scann": _scann}
