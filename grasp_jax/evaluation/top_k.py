"""Exact top k of the scores of many items, equal to one sort of them all, ties included: of equals the first row comes first.

A CPU sorts slowly, and writes slowly what does not fit into its caches. So items are scored in blocks, and of each group of `GROUP` rows
only the highest score is compared at first: the k groups that lead have the k best items.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Best = tuple[jax.Array, jax.Array]  # [b, k] scores in descending order, and their rows

GROUP = 16
BLOCK = 32768  # rows that are scored at a time: for 64 people their scores take 8 MiB
# additional groups that are searched, because a score may differ in its last bit from the one that chose its group
SPARE = 8
NEAR = 8  # people whose leading groups are gathered at once


def top_k(scores: jax.Array, k: int) -> Best:
    """The same result as `jax.lax.top_k` of [b, n]."""
    groups = scores.shape[1] // GROUP
    if groups <= k:
        best, places = jax.lax.top_k(scores, k)
        return best, places
    whole, rest = scores[:, : groups * GROUP], scores[:, groups * GROUP :]
    grouped = whole.reshape(len(scores), groups, GROUP)
    leading = _leading(grouped.max(axis=-1), k)
    near = jnp.take_along_axis(grouped, leading[:, :, None], axis=1).reshape(len(scores), -1)
    rows = _rows_of(leading)
    if rest.shape[1]:
        last = groups * GROUP + jnp.arange(rest.shape[1], dtype=rows.dtype)
        near = jnp.concatenate([near, rest], axis=1)
        rows = jnp.concatenate([rows, jnp.broadcast_to(last, rest.shape)], axis=1)
    best, places = jax.lax.top_k(near, k)
    return best, jnp.take_along_axis(rows, places, axis=1)


def top_k_in_blocks(
    score: Callable[[jax.Array], jax.Array], num_rows: int, k: int, block: int
) -> Best:
    """The best rows, found by a running top-k over blocks of rows.

    Args:
      score: [] int32 first row -> [b, block] scores of the rows from there on.
      num_rows: number of rows, at least k and at least `block`.
      k: how many are wanted.
      block: rows of a block.

    Returns:
      [b, k] scores and int32 rows; a row whose score is -inf may be any row.
    """
    if num_rows == block:
        return top_k(score(jnp.int32(0)), k)

    def merge(best: Best, step: jax.Array) -> tuple[Best, None]:
        # The last block overlaps the one before it, so that no row is padded; rows of the block before are masked.
        first = jnp.minimum(step * block, num_rows - block)
        scores = jnp.where(first + jnp.arange(block) < step * block, -jnp.inf, score(first))
        found, rows = top_k(scores, min(k, block))
        joined = jnp.concatenate([best[0], found], axis=1)
        joined_rows = jnp.concatenate([best[1], rows + first], axis=1)
        highest, places = jax.lax.top_k(joined, k)
        return (highest, jnp.take_along_axis(joined_rows, places, axis=1)), None

    of_block = jax.eval_shape(score, jax.ShapeDtypeStruct((), jnp.int32))
    shape = (of_block.shape[0], k)
    start = (jnp.full(shape, -jnp.inf, of_block.dtype), jnp.zeros(shape, jnp.int32))
    best: Best = jax.lax.scan(merge, start, jnp.arange(-(-num_rows // block)))[0]
    return best


def top_products(
    states: jax.Array,
    vectors: jax.Array,
    factors: jax.Array,
    left_out: jax.Array,
    k: int,
) -> Best:
    """The largest inner products with many vectors. Only the highest product of each group is written to memory.

    Args:
      states: [b, D] float32.
      vectors: [C, D] float32, C a multiple of `GROUP` and larger than `BLOCK`.
      factors: [C] float32 factors of the products of each row; nan excludes a row.
      left_out: [b, S] int32 rows that are excluded for each person, -1 for none.
      k: how many are wanted.

    Returns:
      [b, k] scores, -inf where no more rows are left, and int32 rows.
    """
    num_rows, unwanted = len(vectors), left_out.shape[1]

    def highest(block: jax.Array, own: jax.Array) -> jax.Array:
        scores = jnp.where(jnp.isnan(own), -jnp.inf, (states @ block.T) * own)
        return scores.reshape(len(states), -1, GROUP).max(axis=-1)

    def of_block(n: jax.Array) -> jax.Array:
        cut = [jax.lax.dynamic_slice_in_dim(rows, n * BLOCK, BLOCK) for rows in (vectors, factors)]
        return highest(*cut)

    whole = num_rows // BLOCK * BLOCK
    maxima = jax.lax.map(of_block, jnp.arange(num_rows // BLOCK))
    maxima = jnp.moveaxis(maxima, 0, 1).reshape(len(states), -1)
    if whole < num_rows:
        rest = highest(vectors[whole:], factors[whole:])
        maxima = jnp.concatenate([maxima, rest], axis=1)
    # Excluded rows may be the best of their groups, so as many additional groups are searched.
    leading = _leading(maxima, min(k + unwanted + SPARE, num_rows // GROUP))

    def of_person(about: tuple[jax.Array, jax.Array, jax.Array]) -> Best:
        state, groups, own = about
        rows = _rows_of(groups[None])[0]
        near = vectors.reshape(-1, GROUP, vectors.shape[1])[groups].reshape(len(rows), -1)
        factor = factors[rows]
        scores = jnp.where(jnp.isnan(factor), -jnp.inf, (near @ state) * factor)
        found, places = jax.lax.top_k(scores, min(k + unwanted, len(rows)))
        found_rows = rows[places]
        skip = (found_rows[:, None] == own[None, :]).any(axis=1)
        found, places = jax.lax.top_k(jnp.where(skip, -jnp.inf, found), k)
        return found, found_rows[places]

    best: Best = jax.lax.map(of_person, (states, leading, left_out), batch_size=NEAR)
    return best


def _leading(maxima: jax.Array, count: int) -> jax.Array:
    """[b, count] int32 the groups with the highest maxima [b, groups], in the order of their rows, so that the first row wins a tie."""
    _, groups = jax.lax.top_k(maxima, count)
    return jnp.sort(groups.astype(jnp.int32), axis=1)


def _rows_of(groups: jax.Array) -> jax.Array:
    """[b, n] int32 groups -> [b, n * GROUP] their rows."""
    rows = groups[:, :, None] * GROUP + jnp.arange(GROUP, dtype=jnp.int32)
    return rows.reshape(len(groups), -1)
