"""The users for whom items are recommended, and their best items; evaluation, command line, Python interface and service all use it."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from grasp_jax.core.errors import UserError
from grasp_jax.core.padding import next_power_of_two
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import pack_in_blocks
from grasp_jax.data.split import Histories
from grasp_jax.evaluation.ranker import (
    NO_PAIRS,
    Products,
    Ranker,
    UserBlock,
    products,
    top_items,
    top_items_by_products,
    user_states,
)
from grasp_jax.evaluation.seen import lists_of_pairs, pairs_of_blocks, seen_pairs
from grasp_jax.evaluation.top_k import BLOCK
from grasp_jax.parallel.mesh import on_host, replicate, shard

# Catalogues with at least MIN_ITEMS items are searched by `top_products`, if scores are inner products. It copies the vectors once for each
# call, which pays only for at least MIN_PEOPLE people. It reads an additional group of items for each excluded item and for each item to
# recommend, so neither number may be large.
MIN_ITEMS, MIN_PEOPLE, MAX_EXCLUDED, MAX_TOP_N = 2 * BLOCK, 128, 256, 1000


@dataclasses.dataclass(frozen=True)
class Audience:
    """N people with their histories.

    Attributes:
      ranker: the model, over these histories: its `data` holds the log's interactions.
      log: the histories, in which item rows are those of the model.
      queries: [N] int32 rows of the query tables: the text vectors of each person that gates compare with items.
      histories: the part of each history that the model reads.
      mesh: devices that share a block of people.
    """

    ranker: Ranker
    log: InteractionLog
    queries: np.ndarray
    histories: Histories
    mesh: Mesh


def whole_histories(log: InteractionLog, max_length: int) -> Histories:
    """The newest `max_length` interactions of each user, including those of validation and test."""
    begin, end = log.offsets[:-1], log.offsets[1:]
    return Histories(np.maximum(begin, end - max_length), end, np.full(log.num_users, -1, np.int32))


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which items may be recommended, and how many.

    Attributes:
      top_n: largest number of items for each person.
      exclude_seen: leave out the items that a person has had or rated low.
      allowed: [V] bool, or [n, V] for each of the n people: the items to choose from; None: all.
      excluded: [J, 2] int32 (position in the list of people, item) that are also left out; None: nothing.
      user_block, item_block: numbers of people and of items that are scored at once.
      kept: [n] an item of each of the n people that `exclude_seen` does not leave out; None: no item.
    """

    top_n: int = 10
    exclude_seen: bool = True
    allowed: np.ndarray | None = None
    excluded: np.ndarray | None = None
    user_block: int = 128
    item_block: int = 4096
    kept: np.ndarray | None = None


class Lists(NamedTuple):
    """Recommendations of a block of people, one after the other.

    Attributes:
      people: [B] positions in the list of people.
      counts: [B] numbers of items; fewer than `top_n` if no more are left.
      items: [sum of counts] int32 item rows, best first.
      scores: [sum of counts] float32.
    """

    people: np.ndarray
    counts: np.ndarray
    items: np.ndarray
    scores: np.ndarray


class PeopleBlocks(NamedTuple):
    """Some people, divided into S blocks of B that are ranked one after the other.

    Attributes:
      batches: [S, B] rows of the audience, -1 for none.
      packed: the histories of each block.
      positions: [S, B] positions in the list of people, -1 for none.
      excluded: [S, J, 2] pairs (row within the block, item) that may not be recommended.
      products: the argument of `top_items_by_products`; None if that function is not used.
    """

    batches: np.ndarray
    packed: Sequence[UserBlock]
    positions: np.ndarray
    excluded: np.ndarray
    products: Products | None


def best_items(
    audience: Audience, people: np.ndarray, wanted: Wanted, first: int = 0
) -> Iterator[Lists]:
    """The best items of some people, each with a history; yields them block by block.

    Args:
      audience: everybody.
      people: [n] int rows of the audience, each once.
      wanted: which items, and how many.
      first: the first block to compute; equal arguments give equal blocks.

    Raises:
      UserError: the catalogue has fewer than `top_n` items.
    """
    blocks = blocks_of(audience, people, wanted)
    return best_of_blocks(audience, blocks, wanted, range(first, len(blocks.batches)))


def num_blocks(people: np.ndarray, wanted: Wanted) -> int:
    """S of `blocks_of`, computed without packing the histories."""
    return -(-len(people) // wanted.user_block)


def blocks_of(audience: Audience, people: np.ndarray, wanted: Wanted) -> PeopleBlocks:
    """Divides [n] people into S blocks of B, for `best_of_blocks`; the arguments are those of `best_items`.

    Raises:
      UserError: the catalogue has fewer than `top_n` items.
    """
    num_items, top_n = audience.ranker.num_items, wanted.top_n
    if top_n > num_items:
        raise UserError(
            f"config.recommend.top_n: {top_n}; expected at most {num_items}, the number of items"
        )
    batches, blocks = _blocks(audience, people, wanted.user_block)
    positions = _positions(audience, people, batches)
    excluded = _excluded_pairs(audience, batches, positions, wanted)
    return PeopleBlocks(
        batches, blocks, positions, excluded, _products(audience, len(people), wanted)
    )


def best_of_blocks(
    audience: Audience, blocks: PeopleBlocks, wanted: Wanted, steps: Iterable[int]
) -> Iterator[Lists]:
    """The best items of the people of some blocks.

    Args:
      audience: all people.
      blocks: `blocks_of` this audience.
      wanted: which items, and how many.
      steps: the numbers of the blocks; equal arguments give equal lists.
    """
    num_items = audience.ranker.num_items
    item_block, top_n = (
        min(wanted.item_block, num_items),
        min(next_power_of_two(wanted.top_n), num_items),
    )
    for step in steps:
        rows, positions = blocks.batches[step], blocks.positions[step]
        excluded = blocks.excluded[step]
        ranker, block = audience.ranker.for_block(blocks.packed[step])
        block = UserBlock(*shard(audience.mesh, tuple(block), axis=0))
        lists = lists_of_pairs(excluded, len(rows), MAX_EXCLUDED) if blocks.products else None
        if blocks.products is None or lists is None:
            allowed = _allowed(audience.mesh, wanted.allowed, positions)
            pairs = replicate(audience.mesh, excluded)
            best = top_items(ranker, block, pairs, item_block, top_n, allowed)
        else:
            best = top_items_by_products(ranker, blocks.products, block, lists, top_n)
        is_user = rows >= 0
        scores, items = (array[is_user, : wanted.top_n] for array in on_host(best))
        is_item = scores != -np.inf  # excluded items come last
        yield Lists(positions[is_user], is_item.sum(axis=1), items[is_item], scores[is_item])


def _products(audience: Audience, num_people: int, wanted: Wanted) -> Products | None:
    """The argument of `top_items_by_products`, which is faster on a CPU; None if that function cannot be used, or was never timed on this
    device.
    """
    ranker, allowed = audience.ranker, wanted.allowed
    pays = ranker.num_items >= MIN_ITEMS and num_people >= MIN_PEOPLE and wanted.top_n <= MAX_TOP_N
    per_person = allowed is not None and allowed.ndim > 1
    on_one_cpu = jax.default_backend() == "cpu" and audience.mesh.size == 1
    if ranker.model.gated or not pays or per_person or not on_one_cpu:
        return None
    result: Products = products(ranker, allowed)
    return result


def states_of(audience: Audience, people: np.ndarray, user_block: int) -> np.ndarray:
    """[len(people), D] float32 states after the newest item of each of some people who have a history."""
    batches, blocks = _blocks(audience, people, user_block)
    positions = _positions(audience, people, batches)
    result: np.ndarray | None = None
    for step, rows in enumerate(batches):
        ranker, block = audience.ranker.for_block(blocks[step])
        states: np.ndarray = on_host(
            user_states(ranker, UserBlock(*shard(audience.mesh, tuple(block), axis=0)))
        )
        if result is None:
            result = np.zeros((len(people), states.shape[1]), np.float32)
        is_user = rows >= 0
        result[positions[step][is_user]] = states[is_user]
    assert result is not None
    return result


def _blocks(
    audience: Audience, people: np.ndarray, user_block: int
) -> tuple[np.ndarray, Sequence[UserBlock]]:
    """[S, B] rows of the audience, -1 for none, and each block packed."""
    mask_at: str = audience.ranker.model.backbone.mask_at
    batches, slots, newest = pack_in_blocks(
        audience.histories, people, user_block, mask_at, audience.mesh.size
    )
    # few sizes, because to compile a program for each number of people takes longer than to rank
    if len(people) <= user_block // 2:
        shares = audience.mesh.size
        batches, slots = _padded(batches, -1, shares), _padded(slots, -1, shares)
        newest = _padded(newest, 0, shares)
    queries = audience.queries[np.maximum(batches, 0)]
    return batches, [UserBlock(slots[s], newest[s], queries[s]) for s in range(len(batches))]


def _padded(blocks: np.ndarray, fill: int, shares: int = 1) -> np.ndarray:
    """[S, n, ...] -> [S, n', ...], padded with `fill`; n' is a power of two times `shares`, so that few sizes are compiled."""
    size = shares * next_power_of_two(-(-blocks.shape[1] // shares))
    widths = [(0, 0)] * blocks.ndim
    widths[1] = (0, size - blocks.shape[1])
    padded: np.ndarray = np.pad(blocks, widths, constant_values=fill)
    return padded


def _positions(audience: Audience, people: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """[S, B] position in `people` of each row of a block, -1 for none."""
    # the last entry is for rows of -1
    position_of: np.ndarray = np.full(audience.log.num_users + 1, -1, np.int64)
    position_of[people] = np.arange(len(people))
    positions: np.ndarray = position_of[batches]
    return positions


def _excluded_pairs(
    audience: Audience, batches: np.ndarray, positions: np.ndarray, wanted: Wanted
) -> np.ndarray:
    """[S, J, 2] pairs (row within the block, item) that may not be recommended."""
    pairs = np.repeat(NO_PAIRS[None], len(batches), axis=0)
    if wanted.exclude_seen:
        pairs = seen_pairs(audience.log, audience.histories, batches)
    if wanted.exclude_seen and wanted.kept is not None:
        kept = np.take_along_axis(wanted.kept[positions], pairs[:, :, 0], axis=1)
        pairs[pairs[:, :, 1] == kept] = -1
    if wanted.excluded is not None and len(wanted.excluded):
        pairs = np.concatenate([pairs, _by_block(wanted.excluded, positions)], axis=1)
    return _padded(pairs, -1)


def _by_block(pairs: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """[J, 2] (position, item) and the position of each row of a block [S, B] -> [S, J, 2] (row within the block, item)."""
    blocks, rows = np.nonzero(positions >= 0)
    block_and_row = np.zeros((positions.max() + 1, 2), np.int64)
    block_and_row[positions[blocks, rows]] = np.stack([blocks, rows], axis=1)
    block, row = block_and_row[pairs[:, 0]].T
    order = np.argsort(block, kind="stable")
    return pairs_of_blocks(len(positions), block[order], row[order], pairs[order, 1])


def _allowed(mesh: Mesh, allowed: np.ndarray | None, positions: np.ndarray) -> jax.Array | None:
    """`Wanted.allowed` of a block of people, on every device."""
    if allowed is None:
        return None
    of_block = allowed if allowed.ndim == 1 else allowed[np.maximum(positions, 0)]
    replicated: jax.Array = replicate(mesh, of_block)
    return replicated
