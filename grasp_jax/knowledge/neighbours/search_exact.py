"""Exact top-K by cosine in JAX: queries are spread over all devices, keys pass by in blocks, and a running top-K is kept.

A device holds one block of queries, one of keys and one of their scores, so tables may be larger than its memory, or memory-mapped.
Where all rows are searched, each pair of blocks is scored once and read from both sides, for a cosine is the same from either. GPUs that
hold the whole table search it by `search_resident`, which is faster and finds the same.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from grasp_jax.core.log import logger
from grasp_jax.knowledge.neighbours.search_resident import fits, load, no_pair, search_resident

# a device's queries for one pass over the keys; among all rows, a device's part of a block. Each pass copies all keys to a GPU.
QUERY_BLOCKS = {"gpu": 131_072}
QUERY_BLOCK = 8192  # on other devices
SCORED_QUERIES = 1024  # of them at a time
KEY_BLOCK = 16384
GROUP = 16  # number of queries whose highest score a key reads first

Best = tuple[jax.Array, jax.Array]  # [Q, K] scores, descending, and the rows that they are of
Labelled = tuple[jax.Array, jax.Array]  # [n, E] vectors and [n] their labels


def search_exact(
    unit_vectors: np.ndarray,
    k: int,
    labels: np.ndarray,
    progress: Callable[[int], object] | None = None,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """The K nearest rows with another label.

    Args:
      unit_vectors: [keys, E] of any float type, scored in float32.
      k: K, below the number of keys.
      labels: [keys] int32, `NONE` for a row that is nobody's neighbour and has none.
      progress: called with the number of rows done since the last call; among all rows, with so many as the work done is worth.
      rows: [queries] the rows to search for; all of them by default.

    Returns:
      [queries, K] int32, nearest first, of equals the first row first, -1 where there are fewer rows with another label.
    """
    mesh = Mesh(jax.local_devices(), ("queries",))
    if rows is not None and not len(rows):
        return np.empty((0, k), np.int32)
    count, width = unit_vectors.shape
    if fits(count, width, unit_vectors.dtype.itemsize):
        return _on_devices(unit_vectors, k, labels, progress, rows, mesh)
    return search_in_blocks(unit_vectors, k, labels, progress, rows)


def _on_devices(
    unit_vectors: np.ndarray,
    k: int,
    labels: np.ndarray,
    progress: Callable[[int], object] | None,
    rows: np.ndarray | None,
    mesh: Mesh,
) -> np.ndarray:
    """`search_exact` by a table on every device; rows of which it is not certain are searched in blocks, and counted as done before."""
    searched = np.arange(len(unit_vectors)) if rows is None else rows
    table = load(unit_vectors, labels, mesh)
    found, certain = search_resident(table, k, searched, mesh, progress)
    del table  # frees the memory of the devices
    if not certain.all():
        uncertain = searched[~certain]
        logger.info(
            f"neighbours: {len(uncertain):,} of {len(searched):,} rows are searched once more"
        )
        found[~certain] = search_in_blocks(unit_vectors, k, labels, None, uncertain)
    return found


def search_in_blocks(
    unit_vectors: np.ndarray,
    k: int,
    labels: np.ndarray,
    progress: Callable[[int], object] | None = None,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """`search_exact` with a block of keys on the devices at a time."""
    mesh = Mesh(jax.local_devices(), ("queries",))
    if rows is None:
        return _among_all(unit_vectors, k, labels, progress, mesh)
    count = len(unit_vectors)
    spread, replicated = NamedSharding(mesh, P("queries")), NamedSharding(mesh, P())
    scored = min(SCORED_QUERIES, -(-len(rows) // mesh.size))
    query_block = (
        mesh.size
        * scored
        * max(1, min(_query_block() // scored, -(-len(rows) // (mesh.size * scored))))
    )
    key_block = min(KEY_BLOCK, count)
    merge = _merge(mesh, scored)
    found = np.empty((len(rows), k), np.int32)
    for start in range(0, len(rows), query_block):
        # the last block repeats a row: one shape for all
        block_rows = rows[np.minimum(np.arange(start, start + query_block), len(rows) - 1)]
        queries = jax.device_put(unit_vectors[block_rows].astype(np.float32), spread)
        query_labels = jax.device_put(labels[block_rows], spread)
        best = jax.device_put(empty_best(query_block, k), spread)
        for begin in range(0, count, key_block):
            keys = jax.device_put(_block(unit_vectors, begin, key_block), replicated)
            key_labels = jax.device_put(_block(labels, begin, key_block), replicated)
            jax.block_until_ready(best)  # no more than one block waits
            best = merge(best, queries, query_labels, keys, key_labels, begin, count)
        stop = min(start + query_block, len(rows))
        found[start:stop] = np.asarray(best[1])[: stop - start]
        if progress:
            progress(stop - start)
    return found


def _among_all(
    unit_vectors: np.ndarray,
    k: int,
    labels: np.ndarray,
    progress: Callable[[int], object] | None,
    mesh: Mesh,
) -> np.ndarray:
    """`search_exact` for every row: half the products, for those of two blocks serve the rows of both."""
    count = len(unit_vectors)
    spread, replicated = NamedSharding(mesh, P("queries")), NamedSharding(mesh, P())
    blocks = -(-count // (mesh.size * _query_block()))
    pieces = -(-count // (blocks * mesh.size * SCORED_QUERIES))
    # blocks of one size, with next to no padding
    scored = GROUP * -(-count // (blocks * mesh.size * pieces * GROUP))
    size = mesh.size * pieces * scored
    merge, merge_both = _merge(mesh, scored), _merge_both(mesh, scored)
    best = [jax.device_put(empty_best(size, k), replicated) for _ in range(blocks)]
    found, pairs, done = np.empty((count, k), np.int32), blocks * (blocks + 1) // 2, 0
    for block in range(blocks):
        vectors, vector_labels = (
            _block(unit_vectors, block * size, size),
            _block(labels, block * size, size),
        )
        queries, query_labels = jax.device_put((vectors, vector_labels), spread)
        nearest = jax.device_put(best[block], spread)
        for other in range(block, blocks):
            if other == block:
                keys, key_labels = jax.device_put((vectors, vector_labels), replicated)
                nearest = merge(
                    nearest, queries, query_labels, keys, key_labels, block * size, count
                )
            else:
                keys = jax.device_put(_block(unit_vectors, other * size, size), replicated)
                key_labels = jax.device_put(_block(labels, other * size, size), replicated)
                jax.block_until_ready(nearest)  # no more than one block waits
                nearest, best[other] = merge_both(
                    nearest,
                    best[other],
                    (queries, query_labels),
                    (keys, key_labels),
                    block * size,
                    other * size,
                    count,
                )
            done += 1
            if progress:
                progress(count * done // pairs - count * (done - 1) // pairs)
        stop = min((block + 1) * size, count)
        found[block * size : stop] = np.asarray(nearest[1])[: max(stop - block * size, 0)]
    return found


def _query_block() -> int:
    return QUERY_BLOCKS.get(jax.default_backend(), QUERY_BLOCK)


def empty_best(rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best of no keys."""
    return np.full((rows, k), -np.inf, np.float32), np.full((rows, k), -1, np.int32)


def _block(table: np.ndarray, begin: int, size: int) -> np.ndarray:
    """Rows from `begin` on, filled up with zeros."""
    block = table[begin : begin + size]
    block = block.astype(np.float32) if block.ndim == 2 else block
    return np.pad(block, ((0, size - len(block)), *(((0, 0),) * (block.ndim - 1))))


def _scores(
    queries: jax.Array,
    query_labels: jax.Array,
    keys: jax.Array,
    key_labels: jax.Array,
    key_ids: jax.Array,
    count: jax.Array,
) -> jax.Array:
    """[Q, E] and [n, E] -> [Q, n] cosines, -inf for a key with the query's label, for padding, and where either's label is `NONE`."""
    # In full float32: a GPU would take its short form of it, and the bank depend on the machine.
    scores = jnp.einsum("qe,ke->qk", queries, keys, precision=jax.lax.Precision.HIGHEST)
    out = no_pair(query_labels[:, None], key_labels[None, :]) | (key_ids[None, :] >= count)
    return jnp.where(out, -jnp.inf, scores)


def best_of(scores: jax.Array, ids: jax.Array, k: int) -> Best:
    """[Q, n] scores of the rows `ids` [n] -> the best k, or all where there are fewer."""
    best, places = jax.lax.top_k(scores, min(k, scores.shape[1]))
    return best, ids[places]


def best_of_columns(scores: jax.Array, ids: jax.Array, k: int) -> Best:
    """`best_of(scores.T, ids, k)`: the groups of rows with the highest scores have the best rows.

    So only a few scores of each column are turned; turning all of them takes a CPU twice as long.
    """
    grouped = scores.reshape(-1, GROUP, scores.shape[1])
    _, groups = jax.lax.top_k(grouped.max(axis=1).T, min(k, len(grouped)))
    groups = jnp.sort(groups, axis=1)  # of equals the first row comes first
    near = grouped[
        groups[:, :, None], jnp.arange(GROUP), jnp.arange(scores.shape[1])[:, None, None]
    ].reshape(len(groups), -1)
    best, places = jax.lax.top_k(near, min(k, near.shape[1]))
    rows = jnp.take_along_axis(groups, places // GROUP, axis=1) * GROUP + places % GROUP
    return best, ids[rows]


def joined(best: Best, more: Best) -> Best:
    """The best of both; of equals those of `best`, which are earlier rows, come first."""
    scores, places = jax.lax.top_k(jnp.concatenate([best[0], more[0]], axis=1), best[0].shape[1])
    ids = jnp.take_along_axis(jnp.concatenate([best[1], more[1]], axis=1), places, axis=1)
    return scores, jnp.where(scores == -jnp.inf, -1, ids)


@functools.cache
def _merge(mesh: Mesh, scored: int) -> Callable[..., Best]:
    """Puts the best of a block of keys among the best so far, `scored` of a device's queries at a time."""

    def part(
        best: Best,
        queries: jax.Array,
        query_labels: jax.Array,
        keys: jax.Array,
        key_labels: jax.Array,
        begin: jax.Array,
        count: jax.Array,
    ) -> Best:
        ids = begin + jnp.arange(len(keys), dtype=jnp.int32)

        def some(piece: tuple[Best, jax.Array, jax.Array]) -> Best:
            best, vectors, labels = piece
            return joined(
                best,
                best_of(
                    _scores(vectors, labels, keys, key_labels, ids, count), ids, best[0].shape[1]
                ),
            )

        return _whole(jax.lax.map(some, _in_pieces((best, queries, query_labels), scored)))

    over, whole = P("queries"), P()
    return jax.jit(
        jax.shard_map(
            part, mesh=mesh, in_specs=(over, over, over, whole, whole, whole, whole), out_specs=over
        )
    )


@functools.cache
def _merge_both(mesh: Mesh, scored: int) -> Callable[..., tuple[Best, Best]]:
    """As `_merge`, and puts the best of the queries among the best so far of each key, whose rows come after theirs."""

    def part(
        best: Best,
        queries: jax.Array,
        query_labels: jax.Array,
        query_ids: jax.Array,
        keys: jax.Array,
        key_labels: jax.Array,
        key_begin: jax.Array,
        count: jax.Array,
    ) -> tuple[Best, Best]:
        key_ids = key_begin + jnp.arange(len(keys), dtype=jnp.int32)

        def some(piece: tuple[Best, jax.Array, jax.Array, jax.Array]) -> tuple[Best, Best]:
            best, vectors, labels, ids = piece
            scores, k = _scores(vectors, labels, keys, key_labels, key_ids, count), best[0].shape[1]
            return joined(best, best_of(scores, key_ids, k)), best_of_columns(scores, ids, k)

        nearest, of_keys = jax.lax.map(
            some, _in_pieces((best, queries, query_labels, query_ids), scored)
        )
        return _whole(nearest), of_keys

    over, whole = P("queries"), P()
    sharded = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(over, over, over, over, whole, whole, whole, whole),
        out_specs=over,
    )

    def both(
        best: Best,
        best_of_keys: Best,
        labelled_queries: Labelled,
        labelled_keys: Labelled,
        begin: jax.Array,
        key_begin: jax.Array,
        count: jax.Array,
    ) -> tuple[Best, Best]:
        (queries, query_labels), (keys, key_labels) = labelled_queries, labelled_keys
        ids = begin + jnp.arange(len(queries), dtype=jnp.int32)
        nearest, of_keys = sharded(
            best, queries, query_labels, ids, keys, key_labels, key_begin, count
        )
        side_by_side = jax.tree.map(
            lambda pieces: jnp.moveaxis(pieces, 0, 1).reshape(len(keys), -1), of_keys
        )
        return nearest, joined(best_of_keys, side_by_side)

    return jax.jit(both, out_shardings=(NamedSharding(mesh, over), NamedSharding(mesh, whole)))


def _in_pieces(arrays: Any, scored: int) -> Any:
    """[Q, ...] -> [Q / scored, scored, ...] of each."""
    return jax.tree.map(lambda array: array.reshape(-1, scored, *array.shape[1:]), arrays)


def _whole(best: Best) -> Best:
    """Undoes `_in_pieces`."""
    scores, ids = (pieces.reshape(-1, pieces.shape[-1]) for pieces in best)
    return scores, ids
