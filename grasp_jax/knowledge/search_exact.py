"""Exact top-K by cosine in JAX: queries are spread over all devices, keys pass by in blocks, and a running top-K is kept.

A device holds one block of queries, one of keys and one of their scores, so tables may be larger than its memory, or memory-mapped.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

QUERY_BLOCK = 8192  # a device's queries for one pass over the keys
SCORED_QUERIES = 1024  # of them at a time
KEY_BLOCK = 16384


def search_exact(
    unit_vectors: np.ndarray, k: int, labels: np.ndarray, progress: Callable[[int], object] | None = None, rows: np.ndarray | None = None
) -> np.ndarray:  # fmt: skip
    """The K nearest rows with another label.

    Args:
      unit_vectors: [keys, E] of any float type, scored in float32.
      k: K, below the number of keys.
      labels: [keys] int32.
      progress: called with the number of rows done since the last call.
      rows: [queries] the rows to search for; all of them by default.

    Returns:
      [queries, K] int32, nearest first, -1 where there are fewer rows with another label.
    """
    count = len(unit_vectors)
    if rows is not None and not len(rows):
        return np.empty((0, k), np.int32)
    rows = np.arange(count) if rows is None else rows
    mesh = Mesh(jax.devices(), ("queries",))
    spread, everywhere = NamedSharding(mesh, P("queries")), NamedSharding(mesh, P())
    scored = min(SCORED_QUERIES, -(-len(rows) // mesh.size))
    query_block = mesh.size * scored * max(1, min(QUERY_BLOCK // scored, -(-len(rows) // (mesh.size * scored))))
    key_block = min(KEY_BLOCK, count)
    merge = _merge(mesh, k, scored)
    found = np.empty((len(rows), k), np.int32)
    for start in range(0, len(rows), query_block):
        own = rows[np.minimum(np.arange(start, start + query_block), len(rows) - 1)]  # the last block repeats a row: one shape for all
        queries = jax.device_put(unit_vectors[own].astype(np.float32), spread)
        query_labels = jax.device_put(labels[own], spread)
        best = jax.device_put((np.full((query_block, k), -np.inf, np.float32), np.full((query_block, k), -1, np.int32)), spread)
        for begin in range(0, count, key_block):
            keys = jax.device_put(_block(unit_vectors, begin, key_block), everywhere)
            key_labels = jax.device_put(_block(labels, begin, key_block), everywhere)
            jax.block_until_ready(best)  # no more than one block waits
            best = merge(best, queries, query_labels, keys, key_labels, begin, count)
        stop = min(start + query_block, len(rows))
        found[start:stop] = np.asarray(best[1])[: stop - start]
        if progress:
            progress(stop - start)
    return found


def _block(table: np.ndarray, begin: int, size: int) -> np.ndarray:
    """Rows from `begin` on, filled up with zeros."""
    block = table[begin : begin + size]
    block = block.astype(np.float32) if block.ndim == 2 else block
    return np.pad(block, ((0, size - len(block)), *(((0, 0),) * (block.ndim - 1))))


@functools.cache
def _merge(mesh: Mesh, k: int, scored: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Puts the best of a block of keys among the best so far."""

    def part(
        best: tuple[jax.Array, jax.Array], queries: jax.Array, query_labels: jax.Array, keys: jax.Array, key_labels: jax.Array,
        begin: jax.Array, count: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        ids = begin + jnp.arange(len(keys), dtype=jnp.int32)

        def some(own: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            best_scores, best_ids, vectors, labels = own
            # In full float32: a GPU would take its short form of it, and the bank depend on the machine.
            scores = jnp.einsum("qe,ke->qk", vectors, keys, precision=jax.lax.Precision.HIGHEST)
            scores = jnp.where((key_labels[None, :] == labels[:, None]) | (ids[None, :] >= count), -jnp.inf, scores)
            block_scores, block_places = jax.lax.top_k(scores, min(k, len(keys)))
            joined_ids = jnp.concatenate([best_ids, ids[block_places]], axis=1)
            top_scores, places = jax.lax.top_k(jnp.concatenate([best_scores, block_scores], axis=1), k)
            return top_scores, jnp.where(top_scores == -jnp.inf, -1, jnp.take_along_axis(joined_ids, places, axis=1))

        split = jax.tree.map(lambda array: array.reshape(-1, scored, *array.shape[1:]), (*best, queries, query_labels))
        scores, nearest = jax.lax.map(some, split)
        return scores.reshape(-1, k), nearest.reshape(-1, k)

    over, whole = P("queries"), P()
    return jax.jit(jax.shard_map(part, mesh=mesh, in_specs=(over, over, over, whole, whole, whole, whole), out_specs=over))
