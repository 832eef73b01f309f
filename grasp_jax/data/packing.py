"""Histories packed end to end into fixed rows, so that steps compute on hardly any padding.

A packed batch is one int32 array of *slots* [R, L]: each entry points into the log's flat interactions, -1 means empty, and `MASK_SLOT - n`
is a mask at the end of user n's history, where a bidirectional backbone predicts the next item, or at its start, where a causal backbone
may predict the first item. Items, users, positions and cached gate logits all follow from the slot by one gather on the device, so an epoch
is copied to the device as four bytes per token. A user has at most one contiguous part of one row, so the user row is also the segment id.
"""

import dataclasses

import numpy as np

from grasp_jax.data.split import Histories

ROW_MULTIPLE = 8
MASK_SLOT = -2
START, END = "start", "end"  # where a history's mask stands; "" for none


@dataclasses.dataclass(frozen=True)
class Packing:
    """The static shape of every packed batch of one dataset.

    Attributes:
      batch_size: B users per batch.
      row_length: L tokens per row, at least the longest history.
      num_rows: R rows per batch, enough for any batch of `stratified_batches`.
      num_pairs: P, the most (item, next item) pairs that any such batch holds.
      shares: devices that share out the rows of a batch; R is a multiple of it, with empty rows at the end.
    """

    batch_size: int
    row_length: int
    num_rows: int
    num_pairs: int
    shares: int = 1


def stratified_batches(
    lengths: np.ndarray, users: np.ndarray, batch_size: int, rng: np.random.Generator | None
) -> np.ndarray:
    """Deals users into batches that hold the same mix of long and short histories.

    Users are ordered by falling length (ties at random) and cut into B strata of S users; step s takes the s-th user of each
    stratum after a shuffle within it. Every user occurs once an epoch, and batches need nearly the same number of tokens.

    Args:
      lengths: [N] tokens per user.
      users: [n] rows of the users to deal.
      batch_size: B.
      rng: source of the shuffle; None deals in order, which is what evaluation wants.

    Returns:
      [S, B] int64 user rows, -1 where the last stratum runs out.
    """
    steps = -(-len(users) // batch_size)
    ties = np.arange(len(users)) if rng is None else rng.permutation(len(users))
    ordered = users[np.lexsort((ties, -lengths[users]))]
    dealt = np.full(steps * batch_size, -1, np.int64)
    dealt[: len(users)] = ordered
    strata = dealt.reshape(batch_size, steps)
    if rng is not None:
        strata = rng.permuted(strata, axis=1)
    return strata.T


def plan_packing(
    histories: Histories, users: np.ndarray, batch_size: int, mask_at: str = "", shares: int = 1
) -> Packing:
    """Chooses rows that fit every batch: first-fit of the longest history of each stratum.

    The shape depends on the data alone, never on the epoch, so nothing recompiles and a resumed run repeats the same sums.
    `mask_at` leaves room for a mask at each history.
    """
    return packing_of_lengths(histories.lengths[users] + bool(mask_at), batch_size, shares)


def packing_of_lengths(lengths: np.ndarray, batch_size: int, shares: int = 1) -> Packing:
    """The same of the tokens of each user, [n]."""
    row_length = _up_to(int(lengths.max()), ROW_MULTIPLE)
    batch_size = min(batch_size, len(lengths))
    worst = _longest_of_strata(lengths, batch_size)[None]
    rows, _ = _first_fit(worst, row_length)
    return Packing(
        batch_size,
        row_length,
        _up_to(int(rows.max()) + 1, shares),
        int(np.maximum(worst - 1, 0).sum()),
        shares,
    )


def _longest_of_strata(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """[B] the longest length of each stratum of `stratified_batches`, 0 for an empty one.

    Lengths are counted and not sorted, which for 100 million users takes a second instead of a minute.
    """
    steps = -(-len(lengths) // batch_size)
    first = np.arange(batch_size) * steps  # of each stratum, in falling order of length
    longest = int(lengths.max())
    as_long = np.cumsum(np.bincount(lengths, minlength=longest + 1)[::-1])  # lengths >= longest - i
    found = longest - np.searchsorted(as_long, first, side="right")
    return np.where(first < len(lengths), found, 0)


def pack(
    histories: Histories,
    batches: np.ndarray,
    packing: Packing,
    mask_at: str = "",
    part: tuple[int, int] = (0, 1),
) -> tuple[np.ndarray, np.ndarray]:
    """Slots of each batch, and the place of each user's newest item, or of the mask after it.

    Args:
      histories: windows into the flat interactions.
      batches: [S, B] user rows, -1 for none, each batch in falling order of length (as `stratified_batches` gives them).
      packing: the static shape.
      mask_at: `START`, `END` or "": where each history gets a mask.
      part: k of n: only the k-th n-th of the rows is filled and given.

    Returns:
      [S, R / n, L] int32 slots, -1 where empty (R grows beyond `packing.num_rows` only if first-fit does worse than on the strata's
      maxima), and [S, B] int32 place, row * L + column in the part, of each user's newest slot, 0 where there is no user.
    """
    steps = batches.shape[0]
    lengths = np.where(batches >= 0, histories.lengths[batches] + bool(mask_at), 0)
    rows, columns = _first_fit(lengths, packing.row_length)
    num_rows = max(packing.num_rows, _up_to(int(rows.max()) + 1, packing.shares)) // part[1]
    rows -= part[0] * num_rows
    lengths = np.where((rows >= 0) & (rows < num_rows), lengths, 0)
    slots = np.full(steps * num_rows * packing.row_length, -1, np.int32)
    flat_lengths = lengths.ravel()
    step_of = np.repeat(np.arange(steps), batches.shape[1])
    begin = (step_of * num_rows + rows.ravel()) * packing.row_length + columns.ravel()
    within = np.arange(flat_lengths.sum()) - np.repeat(
        np.cumsum(flat_lengths) - flat_lengths, flat_lengths
    )
    first = histories.start[batches].ravel() - (mask_at == START)
    slots[np.repeat(begin, flat_lengths) + within] = np.repeat(first, flat_lengths) + within
    if mask_at:
        nonempty = flat_lengths > 0
        place = begin if mask_at == START else begin + flat_lengths - 1
        slots[place[nonempty]] = MASK_SLOT - batches.ravel()[nonempty]
    newest = np.where(lengths > 0, rows * packing.row_length + columns + lengths - 1, 0).astype(
        np.int32
    )
    return slots.reshape(steps, num_rows, packing.row_length), newest


def pack_in_blocks(
    histories: Histories, users: np.ndarray, block: int, mask_at: str = "", shares: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All of `users` once, in blocks, as ranking wants them: [S, B] user rows (-1 for none), and the slots and places of `pack`.

    B and R are multiples of `shares`.
    """
    packing = plan_packing(histories, users, block, mask_at, shares)
    batches = stratified_batches(histories.lengths, users, packing.batch_size, None)
    batches = np.pad(batches, ((0, 0), (0, -batches.shape[1] % shares)), constant_values=-1)
    return batches, *pack(histories, batches, packing, mask_at)


def _up_to(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _first_fit(lengths: np.ndarray, row_length: int) -> tuple[np.ndarray, np.ndarray]:
    """First-fit over all steps at once: [S, B] lengths -> [S, B] row and first column of each user."""
    steps, batch_size = lengths.shape
    used = np.zeros((steps, batch_size), np.int64)
    rows = np.zeros((steps, batch_size), np.int64)
    columns = np.zeros((steps, batch_size), np.int64)
    every = np.arange(steps)
    open_rows = 1
    for b in range(batch_size):
        need = lengths[:, b]
        fits = used[:, :open_rows] + need[:, None] <= row_length
        if not fits.any(axis=1).all():
            open_rows += 1
            fits = used[:, :open_rows] + need[:, None] <= row_length
        row = fits.argmax(axis=1)
        rows[:, b], columns[:, b] = row, used[every, row]
        used[every, row] += need
    return rows, columns
