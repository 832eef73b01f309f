"""People to recommend to, and the best items of each: used by the test, the command line, Python and the service alike."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from grasp_jax.data.log import InteractionLog
from grasp_jax.data.packing import pack_in_blocks
from grasp_jax.data.split import Histories
from grasp_jax.errors import UserError
from grasp_jax.evaluation.ranker import (
    NOBODY_SAW,
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
from grasp_jax.parallel.mesh import everywhere, on_host, shared_out

# Catalogues of LARGE items or more are searched by `top_products`, if scores are inner products. It copies the vectors once for each call,
# which pays only for MANY people or more. It reads one additional group of items for each excluded item and for each wanted item, so
# neither number may be large.
LARGE, MANY, LONGEST, MOST = 2 * BLOCK, 128, 256, 1000


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
    """

    top_n: int = 10
    exclude_seen: bool = True
    allowed: np.ndarray | None = None
    excluded: np.ndarray | None = None
    user_block: int = 128
    item_block: int = 4096


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
    """Some people, dealt into S blocks of B that are answered one after the other.

    Attributes:
      batches: [S, B] rows of the audience, -1 for none.
      packed: the histories of each block.
      places: [S, B] positions in the list of people, -1 for none.
      seen: [S, J, 2] pairs (row within the block, item) that may not be recommended.
      products: the argument of `top_items_by_products`; None if that function is not used.
    """

    batches: np.ndarray
    packed: Sequence[UserBlock]
    places: np.ndarray
    seen: np.ndarray
    products: Products | None


def best_items(
    audience: Audience, people: np.ndarray, wanted: Wanted, first: int = 0
) -> Iterator[Lists]:
    """The best items of some people, each with a history; yields them block by block.

    Args:
      audience: all people.
      people: rows of the audience, each once.
      wanted: which items, and how many.
      first: the first block to compute; equal arguments give equal blocks.

    Raises:
      UserError: the catalogue has fewer than `top_n` items.
    """
    blocks = blocks_of(audience, people, wanted)
    return best_of_blocks(audience, blocks, wanted, range(first, len(blocks.batches)))


def num_blocks(people: np.ndarray, wanted: Wanted) -> int:
    """S of `blocks_of`, without any other work."""
    return -(-len(people) // wanted.user_block)


def blocks_of(audience: Audience, people: np.ndarray, wanted: Wanted) -> PeopleBlocks:
    """Deals some people into blocks; the first two arguments of `best_items`.

    Raises:
      UserError: the catalogue has fewer than `top_n` items.
    """
    num_items, top_n = audience.ranker.num_items, wanted.top_n
    if top_n > num_items:
        raise UserError(
            f"config.recommend.top_n: {top_n}; expected at most {num_items}, the number of items"
        )
    batches, blocks = _blocks(audience, people, wanted.user_block)
    places = _places(audience, people, batches)
    seen = _left_out(audience, batches, places, wanted)
    of_products = _products(audience, len(people), wanted)
    return PeopleBlocks(batches, blocks, places, seen, of_products)


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
    item_block, top_n = min(wanted.item_block, num_items), min(_rounded(wanted.top_n), num_items)
    for step in steps:
        rows, places, seen = blocks.batches[step], blocks.places[step], blocks.seen[step]
        ranker, block = audience.ranker.for_block(blocks.packed[step])
        block = UserBlock(*shared_out(audience.mesh, tuple(block), axis=0))
        lists = lists_of_pairs(seen, len(rows), LONGEST) if blocks.products else None
        if blocks.products is None or lists is None:
            allowed = _allowed(audience.mesh, wanted.allowed, places)
            left_out = everywhere(audience.mesh, seen)
            found = top_items(ranker, block, left_out, item_block, top_n, allowed)
        else:
            found = top_items_by_products(ranker, blocks.products, block, lists, top_n)
        scores, items = (best[:, : wanted.top_n] for best in on_host(found))
        filled = rows >= 0
        kept = scores[filled] != -np.inf  # excluded items come last
        yield Lists(places[filled], kept.sum(axis=1), items[filled][kept], scores[filled][kept])


def _products(audience: Audience, num_people: int, wanted: Wanted) -> Products | None:
    """The argument of `top_items_by_products`, which is faster on a CPU; None if that function cannot be used, or was never timed on this
    device.
    """
    ranker, allowed = audience.ranker, wanted.allowed
    large = ranker.num_items >= LARGE and num_people >= MANY and wanted.top_n <= MOST
    per_person = allowed is not None and allowed.ndim > 1
    on_a_cpu = jax.default_backend() == "cpu" and audience.mesh.size == 1
    if ranker.model.gated or not large or per_person or not on_a_cpu:
        return None
    found: Products = products(ranker, allowed)
    return found


def states_of(audience: Audience, people: np.ndarray, user_block: int) -> np.ndarray:
    """[len(people), D] float32 states after the newest item of each of some people who have a history."""
    batches, blocks = _blocks(audience, people, user_block)
    places = _places(audience, people, batches)
    found: np.ndarray | None = None
    for step, rows in enumerate(batches):
        ranker, block = audience.ranker.for_block(blocks[step])
        states: np.ndarray = on_host(
            user_states(ranker, UserBlock(*shared_out(audience.mesh, tuple(block), axis=0)))
        )
        found = np.zeros((len(people), states.shape[1]), np.float32) if found is None else found
        filled = rows >= 0
        found[places[step][filled]] = states[filled]
    assert found is not None
    return found


def _blocks(
    audience: Audience, people: np.ndarray, user_block: int
) -> tuple[np.ndarray, Sequence[UserBlock]]:
    """[S, B] rows of the audience, -1 for none, and each block packed."""
    mask_at: str = audience.ranker.model.backbone.mask_at
    batches, slots, newest = pack_in_blocks(
        audience.histories, people, user_block, mask_at, audience.mesh.size
    )
    if (
        len(people) <= user_block // 2
    ):  # to compile a program for each number takes longer than to answer
        shares = audience.mesh.size
        batches, slots = _padded(batches, -1, shares), _padded(slots, -1, shares)
        newest = _padded(newest, 0, shares)
    queries = audience.queries[np.maximum(batches, 0)]
    return batches, [UserBlock(slots[s], newest[s], queries[s]) for s in range(len(batches))]


def _padded(blocks: np.ndarray, fill: int, shares: int = 1) -> np.ndarray:
    """[S, n, ...] -> [S, n', ...] with entries of `fill`; n', a power of two for each of the shares of n, is one of few sizes."""
    size = shares * _rounded(-(-blocks.shape[1] // shares))
    widths = [(0, 0)] * blocks.ndim
    widths[1] = (0, size - blocks.shape[1])
    padded: np.ndarray = np.pad(blocks, widths, constant_values=fill)
    return padded


def _rounded(count: int) -> int:
    """The next power of two, at least 1."""
    return 1 << max(count - 1, 0).bit_length()


def _places(audience: Audience, people: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """[S, B] position in `people` of each row of a block, -1 for none."""
    place_of: np.ndarray = np.full(audience.log.num_users + 1, -1, np.int64)  # the last one for -1
    place_of[people] = np.arange(len(people))
    places: np.ndarray = place_of[batches]
    return places


def _left_out(
    audience: Audience, batches: np.ndarray, places: np.ndarray, wanted: Wanted
) -> np.ndarray:
    """[S, J, 2] pairs (row within the block, item) that may not be recommended."""
    found = np.repeat(NOBODY_SAW[None], len(batches), axis=0)
    if wanted.exclude_seen:
        found = seen_pairs(audience.log, audience.histories, batches)
    if wanted.excluded is not None and len(wanted.excluded):
        found = np.concatenate([found, _as_blocks(wanted.excluded, places)], axis=1)
    return _padded(found, -1)


def _as_blocks(pairs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[J, 2] (place, item) and the place of each row of a block [S, B] -> [S, J, 2] (row within the block, item)."""
    blocks, rows = np.nonzero(places >= 0)
    where = np.zeros((places.max() + 1, 2), np.int64)
    where[places[blocks, rows]] = np.stack([blocks, rows], axis=1)
    block, row = where[pairs[:, 0]].T
    order = np.argsort(block, kind="stable")
    return pairs_of_blocks(len(places), block[order], row[order], pairs[order, 1])


def _allowed(mesh: Mesh, allowed: np.ndarray | None, rows: np.ndarray) -> jax.Array | None:
    if allowed is None:
        return None
    whole: jax.Array = everywhere(
        mesh, allowed if allowed.ndim == 1 else allowed[np.maximum(rows, 0)]
    )
    return whole
