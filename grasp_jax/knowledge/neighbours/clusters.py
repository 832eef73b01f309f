"""Clusters of unit vectors by k-means, and the nearest clusters of each row, which an approximate search probes.

Vectors are read in blocks from memory or disk, so memory does not grow with the rows: a block of vectors, its cosines with all centres
(`COSINES` of them), and the centres themselves.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

PER_ROOT = 4  # clusters per square root of the rows: then finding the clusters takes about as long as searching them
SAMPLED = 32  # rows of the sample per cluster
ROUNDS = 5  # of k-means; more make clusters no better to search
# of the mean size: clusters below lose their centre, those above are split
SMALL, LARGE = 0.25, 2.0
COSINES = 2**24  # of a block of rows with all centres: 64 MiB
BLOCK = 8192  # rows of a block at most


def clusters_for(rows: int) -> int:
    """How many clusters so many rows are given, before large ones are split."""
    return max(1, min(rows, round(PER_ROOT * math.sqrt(rows))))


def make_centres(unit_vectors: np.ndarray, count: int) -> np.ndarray:
    """Centres by k-means of unit vectors, on a sample of the rows; the same for the same vectors.

    After each round but the last, a cluster with less than `SMALL` of the mean loses its centre, and one of `LARGE` times the mean gets
    further ones among its rows, as far as there are centres left: clusters of one size are searched at the least cost.

    Args:
      unit_vectors: [rows, E] of any float type; it may be memory-mapped.
      count: how many centres, or one for each row if that is less.

    Returns:
      [C, E] float32 of unit length, C at most `count`.
    """
    rng, rows = np.random.default_rng(0), len(unit_vectors)
    sample = np.sort(rng.choice(rows, min(rows, SAMPLED * count), replace=False))
    count = min(count, len(sample))
    centres = _read(unit_vectors, np.sort(rng.choice(sample, count, replace=False)))
    for after in range(ROUNDS - 1, -1, -1):
        nearest = nearest_clusters(unit_vectors, centres, 1, rows=sample)[:, 0].astype(np.int64)
        sizes = np.bincount(nearest, minlength=len(centres))
        means = _means(unit_vectors, sample, nearest, len(centres))
        mean = len(sample) / count
        kept = sizes > (SMALL * mean if after else 0)
        centres = means[kept]
        if after:  # a centre that is added here is moved among its rows by a later round
            added = _within_large(nearest, sizes, mean, count - int(kept.sum()), rng)
            centres = np.concatenate([centres, _read(unit_vectors, sample[added])])
    return centres


def nearest_clusters(
    unit_vectors: np.ndarray,
    centres: np.ndarray,
    searched: int,
    progress: Callable[[int], object] = lambda _: None,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """The clusters whose centres are nearest to each row, the nearest first: a row belongs to that one.

    Args:
      unit_vectors: [rows, E].
      centres: [C, E] float32.
      searched: how many clusters of each row, up to C.
      progress: called with the number of rows done since the last call.
      rows: [n] the rows of the queries; all by default.

    Returns:
      [n, searched] uint16, or int32 where there are more clusters than that can count.
    """
    count = len(unit_vectors) if rows is None else len(rows)
    found = np.empty((count, searched), np.uint16 if len(centres) <= 2**16 else np.int32)
    size = min(BLOCK, max(1, COSINES // len(centres)), count)
    on_device = jax.device_put(centres)
    for start in range(0, count, size):
        stop = min(start + size, count)
        block = unit_vectors[slice(start, stop) if rows is None else rows[start:stop]]
        block = np.pad(block, ((0, size - len(block)), (0, 0)))
        found[start:stop] = np.asarray(_nearest(block, on_device, searched))[: stop - start]
        progress(stop - start)
    return found


def ranks(unit_vectors: np.ndarray, clusters_of: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The number of clusters that are nearer to a row than a given one.

    Args:
      unit_vectors: [n, E], n small.
      clusters_of: [n, m] the clusters whose ranks are computed.
      centres: [C, E] float32.

    Returns:
      [n, m] int32, 0 for a row's nearest cluster.
    """
    size = max(1, COSINES // len(centres))
    found = np.empty(clusters_of.shape, np.int32)
    for start in range(0, len(unit_vectors), size):
        own = slice(start, start + size)
        cosines = unit_vectors[own].astype(np.float32) @ centres.T
        of_clusters = np.take_along_axis(cosines, clusters_of[own].astype(np.int64), axis=1)
        ordered = np.sort(cosines, axis=1)
        for row, (all_cosines, values) in enumerate(zip(ordered, of_clusters, strict=True), start):
            found[row] = len(centres) - np.searchsorted(all_cosines, values, side="right")
    return found


@functools.partial(jax.jit, static_argnames="searched")
def _nearest(vectors: jax.Array, centres: jax.Array, searched: int) -> jax.Array:
    cosines = jnp.einsum(
        "re,ce->rc", vectors.astype(jnp.float32), centres, precision=jax.lax.Precision.HIGHEST
    )
    if searched == 1:
        return jnp.argmax(cosines, axis=1, keepdims=True)
    return jax.lax.top_k(cosines, searched)[1]


def _means(
    unit_vectors: np.ndarray, sample: np.ndarray, nearest: np.ndarray, count: int
) -> np.ndarray:
    """[count, E] unit means of the sampled rows of each cluster; summed on the host in order, so that they are the same on every device."""
    sums = np.zeros((count, unit_vectors.shape[1]), np.float32)
    for start in range(0, len(sample), BLOCK):
        own = nearest[start : start + BLOCK]
        order = np.argsort(own, kind="stable")
        vectors = _read(unit_vectors, sample[start : start + BLOCK])[order]
        found, begins = np.unique(own[order], return_index=True)
        sums[found] += np.add.reduceat(vectors, begins, axis=0)
    means: np.ndarray = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return means


def _within_large(
    nearest: np.ndarray, sizes: np.ndarray, mean: float, most: int, rng: np.random.Generator
) -> np.ndarray:
    """Positions in the sample of rows of large clusters that become further centres, at most `most`, those of the largest cluster first."""
    added = [np.empty(0, np.int64)]
    order = np.argsort(-sizes, kind="stable")
    for cluster in order[sizes[order] > LARGE * mean]:
        if most <= 0:
            break
        rows = np.flatnonzero(nearest == cluster)
        wanted = min(int(sizes[cluster] / mean), most)
        added.append(rng.choice(rows, wanted, replace=False))
        most -= wanted
    return np.concatenate(added)


def _read(unit_vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[n, E] float32."""
    vectors: np.ndarray = unit_vectors[rows].astype(np.float32)
    return vectors
