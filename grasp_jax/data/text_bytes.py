"""Columns of texts as their UTF-8 bytes: millions of ids are checked and sorted without a Python object for each."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

WORD = 8  # bytes that are compared at once
BLOCK = 1 << 20  # bytes at a time
FIRST, LAST, QUOTE = ord("!"), ord("~"), ord('"')


class TextBytes(NamedTuple):
    """n texts in UTF-8.

    Attributes:
      data: [bytes of all] uint8.
      starts: [n] int64 position in `data` where each begins.
      lengths: [n] int64 bytes of each.
    """

    data: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @property
    def longest(self) -> int:
        """Bytes of the longest text."""
        return int(self.lengths.max())


def bytes_of_texts(values: pa.Array) -> TextBytes:
    """The bytes of large strings or large binaries without nulls; shares the array's memory."""
    _, offset_buffer, data_buffer = values.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[
        values.offset : values.offset + len(values) + 1
    ]
    data = np.frombuffer(data_buffer or b"", np.uint8)[: offsets[-1]]
    return TextBytes(data, offsets[:-1], np.diff(offsets))


def are_plain_ascii(texts: TextBytes) -> bool:
    """Whether all characters are visible ASCII and none is a quotation mark: no blanks, no control characters."""
    blocks = (
        texts.data[start : start + BLOCK]
        for start in range(int(texts.starts[0]), len(texts.data), BLOCK)
    )
    return all(((own >= FIRST) & (own <= LAST) & (own != QUOTE)).all() for own in blocks)


def lexical_order(texts: TextBytes) -> np.ndarray:
    """[n] int64 positions that sort the texts by their bytes, which is the order of code points; none may hold a zero byte.

    All are sorted by the first eight bytes after their common prefix; those that are equal there by the next eight, and so on.
    """
    order = np.arange(len(texts.starts))
    group = np.zeros(len(order), np.int64)  # of each place in `order`: equal texts so far
    unresolved, begin, longest = order.copy(), _common_prefix(texts), texts.longest
    while len(unresolved):
        rows, of = order[unresolved], group[unresolved]
        words = _words(texts, rows, begin)
        by = np.lexsort((words, of)) if of[-1] else np.argsort(words)
        order[unresolved], words = rows[by], words[by]
        new = np.ones(len(unresolved), bool)
        new[1:] = (words[1:] != words[:-1]) | (of[1:] != of[:-1])
        group[unresolved] = unresolved[new][np.cumsum(new) - 1]
        begin += WORD
        if begin >= longest:
            break
        unique = new & np.append(new[1:], True)
        unresolved = unresolved[~unique]
    return order


def ascii_strings(texts: TextBytes, order: np.ndarray) -> np.ndarray:
    """[n] str of ASCII texts, in the given order."""
    width = texts.longest
    found = np.empty((len(order), width), np.uint32)
    for own in _blocks(len(order), width):
        found[own] = _bytes(texts, order[own], 0, width)
    strings: np.ndarray = found.view(f"U{width}")[:, 0]
    return strings


def _common_prefix(texts: TextBytes) -> int:
    """The length of the common prefix of all texts, in bytes."""
    data, starts, shortest = texts.data, texts.starts, int(texts.lengths.min())
    place = 0
    while place < shortest and (data[starts + place] == data[starts[0] + place]).all():
        place += 1
    return place


def _words(texts: TextBytes, rows: np.ndarray, begin: int) -> np.ndarray:
    """[n] uint64 of the eight bytes of some texts from a place on, which compare as the bytes do; zeros after the end of a text."""
    found = np.empty(len(rows), np.uint64)
    for own in _blocks(len(rows), WORD):
        found[own] = _bytes(texts, rows[own], begin, WORD).view(">u8")[:, 0]
    return found


def _blocks(rows: int, width: int) -> Iterator[slice]:
    """So many rows, in blocks of `BLOCK` bytes where each has `width`."""
    size = max(1, BLOCK // width)
    return (slice(start, start + size) for start in range(0, rows, size))


def _bytes(texts: TextBytes, rows: np.ndarray, begin: int, width: int) -> np.ndarray:
    """[n, width] uint8 of some texts from a place on; zeros after the end of a text."""
    places = begin + np.arange(width)
    inside = places < texts.lengths[rows][:, None]
    found: np.ndarray = texts.data.take(texts.starts[rows][:, None] + places, mode="clip")
    found *= inside
    return found
