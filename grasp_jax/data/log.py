"""`InteractionLog`, the form of interactions that the rest of the program uses: grouped by user, in time order."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.data.bad_rows import source_rows
from grasp_jax.data.encoded import Encoded, encoded, grouped, stable_order
from grasp_jax.data.id_text import rows_by_text

FIRST_OF = 1000  # missing items; a message names the one that occurs first


@dataclasses.dataclass(frozen=True)
class InteractionLog:
    """Validated interactions of N users with V items, I rows in all.

    Users and items are rows from 0; `user_ids` and `item_ids` hold the ids of the source, so that results can be reported in them.

    Attributes:
      name: dataset name used in result tables.
      user_ids: [N] original user ids, int64 or str, ascending.
      item_ids: [V] original item ids, int64 or str, ascending unless an items table gave the order.
      items: [I] int32 item rows, user after user, each user's in time order.
      offsets: [N+1] int64; user n owns `items[offsets[n]:offsets[n+1]]`.
      timestamps: [I] int64 or float64 in the source's unit (dates: microseconds, or nanoseconds where it has them), or None.
      low_rated: [J, 2] int32, distinct (user row, item row) of interactions that `min_rating` left out: no training, yet the user has
        seen the item. Of users and items of this log alone; None where nothing was left out.
      time_unit: "s", "ms", "us" or "ns" where the timestamps count from 1970, else empty: they are only an order.
    """

    name: str
    user_ids: np.ndarray
    item_ids: np.ndarray
    items: np.ndarray
    offsets: np.ndarray
    timestamps: np.ndarray | None = None
    low_rated: np.ndarray | None = None
    time_unit: str = ""

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def num_interactions(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64 interactions per user."""
        return np.diff(self.offsets)

    @property
    def users(self) -> np.ndarray:
        """[I] int32 user row of each interaction."""
        return np.repeat(np.arange(self.num_users, dtype=np.int32), self.lengths)

    @functools.cached_property
    def user_rows(self) -> dict[str, int]:
        """Row of each user by its id as text without blanks around it; computed once, because a service needs it in every call."""
        return rows_by_text(self.user_ids)

    @functools.cached_property
    def low_rated_by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """User and item rows, [J] int32 each, of `low_rated`, by ascending user."""
        if self.low_rated is None:
            return np.empty(0, np.int32), np.empty(0, np.int32)
        users, items = self.low_rated[np.argsort(self.low_rated[:, 0], kind="stable")].T
        return np.ascontiguousarray(users), np.ascontiguousarray(items)

    def low_rated_of(self, users: np.ndarray | int) -> tuple[Any, Any]:
        """[n] begin and end of each user's rows in `low_rated_by_user`; of -1, a user who is not in the log, both are 0."""
        of_users, _ = self.low_rated_by_user
        return np.searchsorted(of_users, users), np.searchsorted(of_users, users, "right")

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything a model or a knowledge bank can depend on; order within a user is part of it, times are not.

        `Split.fingerprint` covers how a split by time uses the times.
        """
        digest = hashlib.sha256()
        arrays = [self.items, self.offsets, self.user_ids, self.item_ids]
        # only then, so that data without it keep their fingerprint
        if self.low_rated is not None and len(self.low_rated):
            arrays.append(self.low_rated)
        for array in arrays:
            if array.dtype == object:  # its bytes would be addresses
                array = array.astype(str)
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the rows of a log come from, for messages.

    Attributes:
      name: the file or frame of the interactions; empty: the name of the dataset is used.
      rows: [I] row of each interaction, from 0, among those that were not left out; None where they are 0, 1, 2, ...
      left_out: [n] rows of the source that were left out, ascending.
    """

    name: str = ""
    rows: np.ndarray | None = None
    left_out: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))

    def row(self, place: int) -> int:
        """Row of the source, from 0, of the interaction at a place."""
        among = place if self.rows is None else int(self.rows[place])
        return int(source_rows(np.array([among]), self.left_out)[0])


def build_log(
    name: str,
    users: np.ndarray | Encoded,
    items: np.ndarray | Encoded,
    timestamps: np.ndarray | None = None,
    catalogue: np.ndarray | None = None,
    low_rated: tuple[np.ndarray | Encoded, np.ndarray | Encoded] | None = None,
    max_missing: float = 0.0,
    origin: Origin = Origin(),
) -> InteractionLog:
    """Groups raw (user, item[, timestamp]) rows by user; equal timestamps keep their order in the source.

    Args:
      name: dataset name.
      users: [I] ids, int64 or str, or such ids encoded.
      items: [I] ids likewise.
      timestamps: [I] optional; without it the source's order is the time order.
      catalogue: [V] optional item ids that exist even where nobody interacted; its order becomes the row order, and items that it
        lacks follow it in ascending order.
      low_rated: users and items, each [J'], of interactions that are seen but not trained on.
      max_missing: share of the items of the interactions that the catalogue may lack.
      origin: where the rows are from, for messages.

    Raises:
      UserError: no rows, a repeated catalogue id, or more items than `max_missing` that the catalogue lacks.
    """
    source = origin.name or name
    if len(users) == 0:
        raise UserError(f"{source}: no interactions were read; expected at least one user-item row")
    of_users, of_items = encoded(users), encoded(items)
    user_ids, user_rows = of_users.ids, of_users.codes
    item_ids, item_rows = of_items.ids, of_items.codes
    if catalogue is not None:

        def first_row(k: int) -> int:
            """Row of the source in which an item first occurs."""
            return origin.row(int(np.argmax(of_items.codes == k)))

        item_ids, row_of = _with_catalogue(source, item_ids, catalogue, max_missing, first_row)
        item_rows = row_of.astype(np.int32)[item_rows]
    order, offsets = _order(user_rows, len(user_ids), timestamps)
    return InteractionLog(
        name=name,
        user_ids=user_ids,
        item_ids=item_ids,
        items=item_rows[order],
        offsets=offsets,
        timestamps=None if timestamps is None else timestamps[order],
        low_rated=None if low_rated is None else _known_pairs(*low_rated, user_ids, item_ids),
    )


def _order(
    user_rows: np.ndarray, num_users: int, timestamps: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """[I] positions sorted by user, then by time, ties in their given order; and [N+1] int64, where those of each user begin."""
    if timestamps is None or (timestamps[1:] >= timestamps[:-1]).all():
        return grouped(user_rows, num_users)
    by_time = stable_order(timestamps)
    order, offsets = grouped(user_rows[by_time], num_users)
    return by_time[order], offsets


def _with_catalogue(
    source: str,
    ids: np.ndarray,
    catalogue: np.ndarray,
    max_missing: float,
    first_row: Callable[[int], int],
) -> tuple[np.ndarray, np.ndarray]:
    """All item ids, the catalogue's first, and of each of `ids` (distinct, ascending) its row among them."""
    if ids.dtype.kind != catalogue.dtype.kind:
        ids, catalogue = ids.astype(str), catalogue.astype(str)
    ranked = np.sort(catalogue)
    repeated = np.flatnonzero(ranked[1:] == ranked[:-1])
    if len(repeated):
        raise UserError(
            f"{source}: item id {ranked[repeated[0]]} occurs twice in the items table; remove one row"
        )
    rows = rows_of(catalogue, ids)
    missing = np.flatnonzero(rows < 0)
    if len(missing) > max_missing * len(ids):
        first = min(missing.tolist()[:FIRST_OF], key=first_row)
        raise UserError(
            f"{source}: row {first_row(first) + 1}: item id {ids[first]} occurs in the interactions but not in the items table "
            f"({len(missing):,} of {len(ids):,} items lack a row there, and config.data.max_missing_text={max_missing:g} allows "
            f"{int(max_missing * len(ids)):,}); add them there, raise that field, or leave config.data.items_file empty; if such items are "
            "no longer sold, raise that field (their number grows every day); config.recommend.listed_only=True "
            "keeps them from being recommended"
        )
    rows[missing] = len(catalogue) + np.arange(len(missing))
    return np.concatenate([catalogue, ids[missing]]), rows


def rows_of(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[n] int64 place of each of `ids` in `known`, which are distinct; -1 where it is not among them. Both int64 or both str."""
    if np.array_equal(known, ids):  # a table in the order of the log
        return np.arange(len(ids))
    if not len(known):
        return np.full(len(ids), -1, np.int64)
    order = np.argsort(known, kind="stable")
    place = order[np.minimum(np.searchsorted(known, ids, sorter=order), len(known) - 1)]
    return np.where(known[place] == ids, place, -1)


def _known_pairs(
    users: np.ndarray | Encoded,
    items: np.ndarray | Encoded,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
) -> np.ndarray | None:
    """[J, 2] int32 distinct rows of the pairs whose user and item are known; None if there are none."""
    of_users, of_items = encoded(users), encoded(items)
    ids = of_items.ids
    if ids.dtype.kind != item_ids.dtype.kind:
        ids = ids.astype(str)
    rows = (
        rows_of(user_ids, of_users.ids)[of_users.codes],
        rows_of(item_ids, ids)[of_items.codes],
    )
    pairs = np.stack(rows, axis=1)
    pairs = pairs[(pairs >= 0).all(axis=1)]
    if not len(pairs):
        return None
    keys = distinct(pairs[:, 0] * len(item_ids) + pairs[:, 1])
    return np.stack([keys // len(item_ids), keys % len(item_ids)], axis=1).astype(np.int32)


def distinct_items(log: InteractionLog) -> np.ndarray:
    """[N] int64 how many different items each user has had, those that were rated low included."""
    pairs = [log.users.astype(np.int64) * log.num_items + log.items]
    if log.low_rated is not None:
        users, items = log.low_rated.astype(np.int64).T
        pairs.append(users * log.num_items + items)
    return np.bincount(distinct(np.concatenate(pairs)) // log.num_items, minlength=log.num_users)


def most_items(log: InteractionLog) -> int:
    """An upper bound of `distinct_items` that needs no sort: the most rows of a user, those that were rated low included."""
    begin, end = log.low_rated_of(np.arange(log.num_users))
    return int((log.lengths + end - begin).max())


def distinct(pairs: np.ndarray) -> np.ndarray:
    """[n] int64 -> [at most n] int64, ascending, as `np.unique`, by one sort: a hundredth of its time where pairs are nearly in order."""
    ordered = np.sort(pairs, kind="stable")
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]
