"""The one form in which interactions reach the rest of the program: grouped by user, in time order."""

import dataclasses
import hashlib

import numpy as np

from grasp_jax.errors import UserError


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
        seen the item; None where nothing was left out.
    """

    name: str
    user_ids: np.ndarray
    item_ids: np.ndarray
    items: np.ndarray
    offsets: np.ndarray
    timestamps: np.ndarray | None = None
    low_rated: np.ndarray | None = None

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

    def fingerprint(self) -> str:
        """SHA-256 of everything a model or a knowledge bank can depend on; order within a user is part of it."""
        digest = hashlib.sha256()
        for array in (self.items, self.offsets, self.user_ids, self.item_ids):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def build_log(
    name: str,
    users: np.ndarray,
    items: np.ndarray,
    timestamps: np.ndarray | None = None,
    catalogue: np.ndarray | None = None,
    source: str = "",
    rows: np.ndarray | None = None,
) -> InteractionLog:
    """Groups raw (user, item[, timestamp]) rows by user; equal timestamps keep their order in the source.

    Args:
      name: dataset name.
      users: [I] ids, int64 or str.
      items: [I] ids, int64 or str.
      timestamps: [I] optional; without it the source's order is the time order.
      catalogue: [V] optional item ids that exist even where nobody interacted; its order becomes the row order.
      source: file of the interactions, for messages.
      rows: [I] rows of that file from 0, for messages; None where they are 0, 1, 2, ...

    Raises:
      UserError: no rows, a repeated catalogue id, or an item that the catalogue lacks.
    """
    if len(users) == 0:
        raise UserError(f"{source or name}: no interactions were read; expected at least one user-item row")
    user_ids, user_rows = np.unique(users, return_inverse=True)
    if catalogue is None:
        item_ids, item_rows = np.unique(items, return_inverse=True)
    else:
        item_ids, item_rows = catalogue, _rows_in_catalogue(source or name, rows, items, catalogue)
    keys = (user_rows,) if timestamps is None else (timestamps, user_rows)
    order = np.lexsort(keys)
    offsets = np.zeros(len(user_ids) + 1, np.int64)
    np.cumsum(np.bincount(user_rows, minlength=len(user_ids)), out=offsets[1:])
    return InteractionLog(
        name=name,
        user_ids=user_ids,
        item_ids=item_ids,
        items=item_rows[order].astype(np.int32),
        offsets=offsets,
        timestamps=None if timestamps is None else timestamps[order],
    )


def _rows_in_catalogue(source: str, rows: np.ndarray | None, items: np.ndarray, catalogue: np.ndarray) -> np.ndarray:
    if items.dtype.kind != catalogue.dtype.kind:
        items, catalogue = items.astype(str), catalogue.astype(str)
    order = np.argsort(catalogue, kind="stable")
    ranked = catalogue[order]
    repeated = np.flatnonzero(ranked[1:] == ranked[:-1])
    if len(repeated):
        raise UserError(f"{source}: item id {ranked[repeated[0]]} stands twice in the items table; remove one row")
    place = np.minimum(np.searchsorted(ranked, items), len(ranked) - 1)
    missing = np.flatnonzero(ranked[place] != items)
    if len(missing):
        row = missing[0] if rows is None else rows[missing[0]]
        raise UserError(
            f"{source}: row {row + 1}: item id {items[missing[0]]} occurs in the interactions but not in the items table "
            f"({len(missing)} such rows); add it there or leave config.data.items_file empty"
        )
    return order[place]
