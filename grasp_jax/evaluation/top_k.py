"""Exact top k of the scores of many items, with the result of sorting all of them; among equal scores the first row comes first.

A CPU sorts slowly, and writes arrays slowly that do not fit into its caches. So items are scored in blocks, and first only the highest
scores of groups of `GROUP` rows are compared: the k groups with the highest maxima contain the k best items.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Best = tuple[jax.Array, jax.Array]  # [b, k] scores in descending order, and their rows

GROUP = 16
BLOCK = 32768  # rows that are scored at a time: for 64 people their scores take 8 MiB
# additional groups that are searched, because a score may differ in its last bit from the maximum by which its group was chosen
EXTRA_GROUPS = 8
PEOPLE_AT_ONCE = 8  # people whose leading groups are gathered at once


def top_k(scores: jax.Array, k: int) -> Best:
    """The same result as `jax.lax.top_k` of [b, n]."""
    groups = scores.shape[1] // GROUP
    if groups <= k:
        best, rows = jax.lax.top_k(scores, k)
        return best, rows
    in_groups, rest = scores[:, : groups * GROUP], scores[:, groups * GROUP :]
    grouped = in_groups.reshape(len(scores), groups, GROUP)
    leading = _leading(grouped.max(axis=-1), k)
    candidates = jnp.take_along_axis(grouped, leading[:, :, None], axis=1).reshape(len(scores), -1)
    rows = _rows_of(leading)
    if rest.shape[1]:
        last = groups * GROUP + jnp.arange(rest.shape[1], dtype=rows.dtype)
        candidates = jnp.concatenate([candidates, rest], axis=1)
        rows = jnp.concatenate([rows, jnp.broadcast_to(last, rest.shape)], axis=1)
    best, index = jax.lax.top_k(candidates, k)
    return best, jnp.take_along_axis(rows, index, axis=1)


def top_k_in_blocks(
    score: Callable[[jax.Array], jax.Array], num_rows: int, k: int, block: int
) -> Best:
    """The best rows, found by a running top-k over blocks of rows.

    Args:
      score: [] int32 first row -> [b, block] scores of the rows from there on.
      num_rows: number of rows, at least k and at least `block`.
      k: number of rows to return.
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
        block_best, rows = top_k(scores, min(k, block))
        joined = jnp.concatenate([best[0], block_best], axis=1)
        joined_rows = jnp.concatenate([best[1], rows + first], axis=1)
        highest, index = jax.lax.top_k(joined, k)
        return (highest, jnp.take_along_axis(joined_rows, index, axis=1)), None

    of_block = jax.eval_shape(score, jax.ShapeDtypeStruct((), jnp.int32))
    shape = (of_block.shape[0], k)
    start = (jnp.full(shape, -jnp.inf, of_block.dtype), jnp.zeros(shape, jnp.int32))
    best: Best = jax.lax.scan(merge, start, jnp.arange(-(-num_rows // block)))[0]
    return best


def top_products(
    states: jax.Array,
    vectors: jax.Array,
    factors: jax.Array,
    excluded: jax.Array,
    k: int,
) -> Best:
    """The largest inner products with many vectors. Only the highest product of each group is written to memory.

    Args:
      states: [b, D] float32.
      vectors: [C, D] float32, C a multiple of `GROUP` and larger than `BLOCK`.
      factors: [C] float32 factors of the products of each row; nan excludes a row.
      excluded: [b, n] int32 rows that are excluded for each person, -1 for none.
      k: number of rows to return.

    Returns:
      [b, k] scores, -inf where no more rows are left, and int32 rows.
    """
    num_rows, num_excluded = len(vectors), excluded.shape[1]

    def maxima_of(vectors: jax.Array, factors: jax.Array) -> jax.Array:
        scores = jnp.where(jnp.isnan(factors), -jnp.inf, (states @ vectors.T) * factors)
        return scores.reshape(len(states), -1, GROUP).max(axis=-1)

    def one_block(n: jax.Array) -> jax.Array:
        return maxima_of(
            *(jax.lax.dynamic_slice_in_dim(x, n * BLOCK, BLOCK) for x in (vectors, factors))
        )

    in_blocks = num_rows // BLOCK * BLOCK
    maxima = jax.lax.map(one_block, jnp.arange(num_rows // BLOCK))
    maxima = jnp.moveaxis(maxima, 0, 1).reshape(len(states), -1)
    if in_blocks < num_rows:
        rest = maxima_of(vectors[in_blocks:], factors[in_blocks:])
        maxima = jnp.concatenate([maxima, rest], axis=1)
    # Excluded rows may be the best of their groups, so as many additional groups are searched.
    leading = _leading(maxima, min(k + num_excluded + EXTRA_GROUPS, num_rows // GROUP))

    def of_person(person: tuple[jax.Array, jax.Array, jax.Array]) -> Best:
        state, groups, excluded = person
        rows = _rows_of(groups[None])[0]
        candidates = vectors.reshape(-1, GROUP, vectors.shape[1])[groups].reshape(len(rows), -1)
        factor = factors[rows]
        scores = jnp.where(jnp.isnan(factor), -jnp.inf, (candidates @ state) * factor)
        best, index = jax.lax.top_k(scores, min(k + num_excluded, len(rows)))
        best_rows = rows[index]
        skip = (best_rows[:, None] == excluded[None, :]).any(axis=1)
        best, index = jax.lax.top_k(jnp.where(skip, -jnp.inf, best), k)
        return best, best_rows[index]

    best: Best = jax.lax.map(of_person, (states, leading, excluded), batch_size=PEOPLE_AT_ONCE)
    return best


def _leading(maxima: jax.Array, count: int) -> jax.Array:
    """[b, count] int32 the groups with the highest maxima [b, groups], in the order of their rows, so that the first row wins a tie."""
    _, groups = jax.lax.top_k(maxima, count)
    return jnp.sort(groups.astype(jnp.int32), axis=1)


def _rows_of(groups: jax.Array) -> jax.Array:
    """[b, n] int32 groups -> [b, n * GROUP] their rows."""
    rows = groups[:, :, None] * GROUP + jnp.arange(GROUP, dtype=jnp.int32)
    return rows.reshape(len(groups), -1)
