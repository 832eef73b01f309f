"""Ids as numbers of the distinct ones (dictionary encoding): a column of millions of rows holds each id once."""

from __future__ import annotations

import dataclasses

import numpy as np

MANY = 1 << 20  # codes from which it pays to import SciPy for a counting sort
BLOCK = 1 << 16  # positions that are computed together
MAX_RANGE = 4  # a range of whole numbers up to so many times the rows is encoded by a lookup table, a larger one by a sort


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The ids of I rows.

    Attributes:
      ids: [n] distinct ids that occur, ascending, int64 or str. NumPy gives every text the size of the longest, but here each is held once.
      codes: [I] int32 place of each row's id in `ids`.
    """

    ids: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def decode(self, rows: np.ndarray | slice) -> np.ndarray:
        """The ids of some rows as plain values."""
        found: np.ndarray = self.ids[self.codes[rows]]
        return found

    def select(self, rows: np.ndarray) -> Encoded:
        """The ids of some rows; ids that only other rows have are dropped."""
        codes = self.codes[rows]
        present = np.bincount(codes, minlength=len(self.ids)) > 0
        return Encoded(self.ids[present], _places(present)[codes])


def encoded(values: np.ndarray | Encoded) -> Encoded:
    """[I] ids by their distinct ones; what is encoded already stays as it is."""
    if isinstance(values, Encoded):
        return values
    if values.dtype.kind in "iu" and len(values):
        low, high = int(values.min()), int(values.max())
        if high - low < MAX_RANGE * len(values):
            present = np.zeros(high - low + 1, bool)
            present[values - low] = True
            ids = (np.flatnonzero(present) + low).astype(values.dtype)
            return Encoded(ids, _places(present)[values - low])
    ids, codes = np.unique(values, return_inverse=True)
    return Encoded(ids, codes.astype(np.int32))


def grouped(codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of each code, one code after the other; many are sorted by counting, in linear time and half the memory.

    Args:
      codes: [I] int32 below `count`.
      count: n.

    Returns:
      [I] places, as `np.argsort(codes, kind="stable")`; [n+1] int64 where those of each code begin.
    """
    if len(codes) < MANY:
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(np.bincount(codes, minlength=count), out=offsets[1:])
        return stable_order(codes), offsets
    from scipy import sparse

    rows = np.arange(len(codes) + 1, dtype=np.int32 if len(codes) < 2**31 else np.int64)
    marks = np.ones(len(codes), bool)
    # The rows of a matrix with one entry in each, listed column by column.
    by_code = sparse.csr_array((marks, codes, rows), (len(codes), count)).tocsc()
    return by_code.indices, by_code.indptr.astype(np.int64)


def stable_order(values: np.ndarray) -> np.ndarray:
    """`np.argsort(values, kind="stable")` of [I]; whole numbers are sorted with their places in one 64-bit word where both fit."""
    if values.dtype.kind == "i" and len(values):
        low, bits = int(values.min()), max(1, (len(values) - 1).bit_length())
        if (int(values.max()) - low).bit_length() + bits <= 63:
            words = values.astype(np.int64)
            words -= low
            words <<= bits
            for start in range(0, len(words), BLOCK):
                stop = min(start + BLOCK, len(words))
                words[start:stop] |= np.arange(start, stop)
            words.sort()
            words &= (1 << bits) - 1
            return words
    return np.argsort(values, kind="stable")


def _places(present: np.ndarray) -> np.ndarray:
    """Of [n] marks: how many marked ones stand before each, int32."""
    before: np.ndarray = np.cumsum(present, dtype=np.int32) - present
    return before
