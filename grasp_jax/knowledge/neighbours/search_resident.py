"""Exact top-K by cosine on devices that hold the whole table: a shortlist by products in bfloat16, scored again in float32.

Scores in bfloat16 choose groups of neighbouring rows, by the highest score of each. All rows of the chosen groups are then scored in
float32. Rounding moves a score by a bounded amount, so a row of another group cannot be among the nearest if the last of the K found ones
is ahead of the last chosen group by more than that. A query for which this does not hold is reported, and searched in another way. So the
result is that of a search in float32, at the speed of bfloat16, and the host copies the table once.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from grasp_jax.knowledge.neighbours import NONE

GROUP = 16  # rows of which the highest score is compared first
MORE_GROUPS = 16  # chosen in addition to K
SHARE = 0.6  # of a device's memory that the table may take
LEAST_ROWS = 32_768  # of a smaller table most of a block of keys would be padding
# largest relative error of one addition in float32, even where a device cuts off instead of rounding
SUMMED = 2.0**-23


class Pieces(NamedTuple):
    """How much is computed at once.

    Attributes:
      queries: of a device in one call.
      keys: rows that are scored at a time; a multiple of `GROUP`.
      scored: queries whose groups are gathered at a time.
    """

    queries: int = 2048
    keys: int = 65_536
    scored: int = 32


PIECES = Pieces()
Leading = tuple[jax.Array, jax.Array]  # [Q, m] the highest scores of groups, and the groups


class Resident(NamedTuple):
    """A table on every device.

    Attributes:
      keys: [V', E] float32, or in the 16-bit type of the table; V' is a multiple of `Pieces.keys`, and rows from V on are zero.
      rounded: [V', E] bfloat16.
      labels: [V'] int32.
      num_rows: [] V.
      longest, farthest: [] the largest length of a rounded row, and of what rounding took from a row.
    """

    keys: jax.Array
    rounded: jax.Array
    labels: jax.Array
    num_rows: jax.Array
    longest: jax.Array
    farthest: jax.Array


def fits(rows: int, width: int, itemsize: int) -> bool:
    """Whether devices are GPUs that hold a table of so many bytes a number, its rounded copy, and what a search needs besides; False for
    small tables, which are searched fast in any way.
    """
    devices = jax.local_devices()
    if devices[0].platform != "gpu" or rows < LEAST_ROWS:
        return False
    memory: int = (devices[0].memory_stats() or {}).get("bytes_limit", 0)
    return rows * width * (min(itemsize, 4) + 2) <= SHARE * memory


def load(
    unit_vectors: np.ndarray, labels: np.ndarray, mesh: Mesh, pieces: Pieces = PIECES
) -> Resident:
    """Copies a table [V, E] of any float type and its labels [V] to every device of the mesh, a block at a time."""
    count, width = unit_vectors.shape
    replicated = NamedSharding(mesh, P())
    padded = -(-count // pieces.keys) * pieces.keys
    dtype = unit_vectors.dtype if unit_vectors.dtype.itemsize == 2 else np.dtype(np.float32)
    keys = jnp.zeros((padded, width), dtype, device=replicated)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=replicated)
    def written(keys: jax.Array, block: jax.Array, begin: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(keys, block, (begin, 0))

    for begin in range(0, count, pieces.keys):
        block = np.ascontiguousarray(unit_vectors[begin : begin + pieces.keys], dtype)
        keys = written(keys, jax.device_put(block, replicated), begin)
    of_rows = jax.device_put(np.pad(labels, (0, padded - count)), replicated)
    rounded, longest, farthest = _rounded(keys)
    return Resident(keys, rounded, of_rows, jnp.int32(count), longest, farthest)


@jax.jit
def _rounded(keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Keys in bfloat16, the largest length of one, and the largest length of what rounding took away."""
    rounded = keys.astype(jnp.bfloat16)
    wide = rounded.astype(jnp.float32)
    lengths = (jnp.linalg.norm(x, axis=1).max() for x in (wide, keys.astype(jnp.float32) - wide))
    return rounded, *lengths


def search_resident(
    table: Resident,
    k: int,
    rows: np.ndarray,
    mesh: Mesh,
    progress: Callable[[int], object] | None = None,
    pieces: Pieces = PIECES,
) -> tuple[np.ndarray, np.ndarray]:
    """The K nearest rows with another label, for `rows` of the table.

    Returns:
      [queries, K] int32, nearest first, of equals the first row first, -1 where there are fewer rows with another label; and [queries]
      bool, whether that is certain.
    """
    nearest = _nearest(mesh, k, pieces)
    spread, together = NamedSharding(mesh, P("queries")), mesh.size * pieces.queries
    found, certain = np.empty((len(rows), k), np.int32), np.empty(len(rows), bool)
    waiting: list[tuple[int, tuple[jax.Array, jax.Array]]] = []

    def take() -> None:
        start, (ids, sure) = waiting.pop(0)
        stop = min(start + together, len(rows))
        found[start:stop] = np.asarray(ids)[: stop - start]
        certain[start:stop] = np.asarray(sure)[: stop - start]
        if progress:
            progress(stop - start)

    for start in range(0, len(rows), together):
        # The last call repeats a row: one shape for all.
        own = rows[np.minimum(np.arange(start, start + together), len(rows) - 1)]
        waiting.append((start, nearest(jax.device_put(own.astype(np.int32), spread), table)))
        if len(waiting) > 1:  # the next call is queued before the result of the last is copied
            take()
    while waiting:
        take()
    return found, certain


@functools.cache
def _nearest(mesh: Mesh, k: int, pieces: Pieces) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The compiled search of [Q] rows: [Q, K] rows and [Q] bool."""
    of_device = functools.partial(_search, k=k, pieces=pieces)
    over, whole = P("queries"), P()
    return jax.jit(
        jax.shard_map(of_device, mesh=mesh, in_specs=(over, whole), out_specs=over, check_vma=False)
    )


def _search(
    rows: jax.Array, table: Resident, *, k: int, pieces: Pieces
) -> tuple[jax.Array, jax.Array]:
    queries, own = table.keys[rows].astype(jnp.float32), table.labels[rows]
    rounded = table.rounded[rows]
    best, groups = _leading_groups(rounded, own, table, k + MORE_GROUPS, pieces)

    def of_piece(
        given: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array]:
        return _scored_again(*given, table, k)

    pieced = tuple(x.reshape(-1, pieces.scored, *x.shape[1:]) for x in (queries, own, groups))
    scores, found = (x.reshape(-1, k) for x in jax.lax.map(of_piece, pieced))
    wide = rounded.astype(jnp.float32)
    length, lost = (jnp.linalg.norm(x, axis=1) for x in (queries, queries - wide))
    error = lost * table.longest + length * table.farthest
    error += 2.0 * SUMMED * queries.shape[1] * (length + lost) * (table.longest + table.farthest)
    last = best[:, -1]
    return found, (scores[:, -1] > last + error) | ((last == -jnp.inf) & (own != NONE))


def no_pair(own: jax.Array, labels: jax.Array) -> jax.Array:
    """Which rows of two broadcast arrays of labels are not neighbours: those with one label, and any with the label `NONE`."""
    return (own == labels) | (own == NONE) | (labels == NONE)


def _leading_groups(
    queries: jax.Array, own: jax.Array, table: Resident, many: int, pieces: Pieces
) -> tuple[jax.Array, jax.Array]:
    """[Q, m] the highest scores in bfloat16 of groups, descending, and the groups in ascending order; -1 for none."""
    many = min(many, len(table.keys) // GROUP)

    def block(best: Leading, begin: jax.Array) -> tuple[Leading, None]:
        keys = jax.lax.dynamic_slice_in_dim(table.rounded, begin, pieces.keys)
        labels = jax.lax.dynamic_slice_in_dim(table.labels, begin, pieces.keys)
        scores = jnp.einsum("qe,ke->qk", queries, keys, preferred_element_type=jnp.float32)
        ids = begin + jnp.arange(pieces.keys)
        out = no_pair(own[:, None], labels) | (ids >= table.num_rows)
        highest = jnp.where(out, -jnp.inf, scores).reshape(len(queries), -1, GROUP).max(axis=-1)
        values, places = top(highest, min(many, highest.shape[1]))
        values = jnp.concatenate([best[0], values], axis=1)
        groups = jnp.concatenate([best[1], begin // GROUP + places], axis=1)
        values, chosen = jax.lax.top_k(values, many)
        return (values, jnp.take_along_axis(groups, chosen, axis=1)), None

    shape = len(queries), many
    start = jnp.full(shape, -jnp.inf), jnp.full(shape, -1, jnp.int32)
    begins = jnp.arange(0, len(table.keys), pieces.keys, dtype=jnp.int32)
    values, groups = jax.lax.scan(block, start, begins)[0]
    return values, jnp.sort(jnp.where(values == -jnp.inf, -1, groups), axis=1)


def top(values: jax.Array, many: int) -> tuple[jax.Array, jax.Array]:
    """`jax.lax.top_k` of [Q, n], by the highest of each `GROUP` values first: a GPU sorts all that it is given."""
    if values.shape[1] % GROUP or values.shape[1] < 2 * GROUP * many:
        best, places = jax.lax.top_k(values, many)
        return best, places
    grouped = values.reshape(len(values), -1, GROUP)
    _, groups = jax.lax.top_k(grouped.max(axis=-1), many)
    near = jnp.take_along_axis(grouped, groups[:, :, None], axis=1).reshape(len(values), -1)
    best, places = jax.lax.top_k(near, many)
    rows = jnp.take_along_axis(groups, places // GROUP, axis=1) * GROUP + places % GROUP
    return best, rows


def _scored_again(
    queries: jax.Array, own: jax.Array, groups: jax.Array, table: Resident, k: int
) -> tuple[jax.Array, jax.Array]:
    """[q, K] the highest scores in float32 among the rows of groups [q, m], and their rows; -1 for none."""
    rows = (groups[:, :, None] * GROUP + jnp.arange(GROUP)).reshape(len(queries), -1)
    near = table.keys[jnp.maximum(rows, 0)].astype(jnp.float32)
    scores = jnp.einsum("qe,qre->qr", queries, near, precision=jax.lax.Precision.HIGHEST)
    out = no_pair(own[:, None], table.labels[rows]) | (rows < 0) | (rows >= table.num_rows)
    scores = jnp.where(out, -jnp.inf, scores)
    scores = jnp.pad(scores, ((0, 0), (0, max(k - scores.shape[1], 0))), constant_values=-jnp.inf)
    rows = jnp.pad(rows, ((0, 0), (0, scores.shape[1] - rows.shape[1])), constant_values=-1)
    best, places = jax.lax.top_k(scores, k)
    found = jnp.take_along_axis(rows, places, axis=1)
    return best, jnp.where(best == -jnp.inf, -1, found)
