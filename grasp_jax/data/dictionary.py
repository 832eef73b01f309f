"""Dictionary encoding of Arrow columns, a piece at a time: the memory depends on the number of distinct values, not of rows."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

PENDING = 1 << 21  # rows that are encoded together
WIDEST = 16  # bytes of a text that is encoded as whole numbers
OFFSETS = {  # the type of the offsets of a type of texts
    pa.binary(): np.int32,
    pa.string(): np.int32,
    pa.large_binary(): np.int64,
    pa.large_string(): np.int64,
}


class DictionaryColumn(NamedTuple):
    """A dictionary-encoded column of texts without nulls.

    Attributes:
      codes: [rows] int32 place of each row's value in `values`.
      values: [n] distinct strings or bytes; all occur, in the order of their first rows.
    """

    codes: np.ndarray
    values: pa.Array

    @property
    def null_count(self) -> int:
        """0: nulls are not encoded."""
        return 0

    def filter(self, mask: np.ndarray) -> "DictionaryColumn":
        """The rows of a mask ([rows] bool), as `pa.ChunkedArray.filter`."""
        codes, used = _factorize(self.codes[mask].astype(np.uint64))
        return DictionaryColumn(codes, self.values.take(int64_array(used.astype(np.int64))))


class Encoder:
    """Encodes a column of texts or bytes that arrives in pieces.

    New values are appended to the dictionary, so the codes of earlier pieces stay. Pieces are buffered until they have at least twice
    as many rows as the dictionary, because each encoding hashes the dictionary again. Texts of one width are encoded as whole numbers,
    which are faster to compare.
    """

    def __init__(self) -> None:
        self._dictionary: pa.Array | None = None
        self._pending: list[pa.Array] = []
        self._pending_rows = 0
        self._codes: list[np.ndarray] = []

    def add(self, values: pa.Array) -> None:
        """The next rows, without nulls, all of one type."""
        self._pending.append(values)
        self._pending_rows += len(values)
        if self._pending_rows >= max(PENDING, 2 * len(self._dictionary or ())):
            self._encode()

    def finish(self) -> DictionaryColumn:
        """All rows; at least one piece was added."""
        if self._pending or self._dictionary is None:
            self._encode()
        return DictionaryColumn(
            np.concatenate([np.empty(0, np.int32), *self._codes]), self._dictionary
        )

    def _encode(self) -> None:
        dictionary = self._pending[0].slice(0, 0) if self._dictionary is None else self._dictionary
        pieces = [dictionary, *self._pending]
        if (texts := fixed_of(pieces)) is not None:
            found = encoded_fixed(texts, dictionary.type)
            self._codes.append(found.codes[len(dictionary) :].copy())
            self._dictionary = found.values
        else:
            parts = pa.chunked_array(pieces).dictionary_encode().chunks
            codes = [int32_of(part.indices) for part in parts]  # Arrow drops pieces without rows
            self._codes += [part.copy() for part in codes[bool(len(dictionary)) :]]
            self._dictionary = parts[-1].dictionary if parts else dictionary
        self._pending, self._pending_rows = [], 0


class Fixed(NamedTuple):
    """n texts of one width, as whole numbers.

    Attributes:
      high, low: [n] uint64 of the bytes before the last eight, and of these.
      width: bytes of each text.
    """

    high: np.ndarray
    low: np.ndarray
    width: int


def fixed_of(pieces: Sequence[pa.Array]) -> Fixed | None:
    """The texts of some arrays of one type; None if they have several widths or more than `WIDEST` bytes, or if there are none."""
    rows, width, end = sum(map(len, pieces)), 0, 0
    high, low = np.empty(rows, np.uint64), np.empty(rows, np.uint64)
    for piece in pieces:
        if piece.type not in OFFSETS:
            return None
        if not len(piece):
            continue
        _, offset_buffer, data_buffer = piece.buffers()
        offsets = np.frombuffer(offset_buffer, OFFSETS[piece.type])
        offsets = offsets[piece.offset : piece.offset + len(piece) + 1]
        width = width or int(offsets[1] - offsets[0])
        if not 0 < width <= WIDEST or (np.diff(offsets) != width).any():
            return None
        data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
        raw = np.zeros((len(piece), WIDEST), np.uint8)
        raw[:, -width:] = data.reshape(-1, width)
        own = slice(end, end := end + len(piece))
        high[own], low[own] = raw.view(">u8").T
    return Fixed(high, low, width) if width else None


def encoded_fixed(texts: Fixed, kind: pa.DataType) -> DictionaryColumn:
    """The column of texts of one width; its values are of the Arrow type `kind`."""
    codes, low = _factorize(texts.low)
    high = np.full(len(low), texts.high[0])
    if (texts.high != texts.high[0]).any():
        of_high, highs = _factorize(texts.high)
        both = of_high.astype(np.int64) * len(low) + codes
        codes, both = _factorize(both.view(np.uint64))
        of_high, of_low = np.divmod(both.view(np.int64), len(low))
        high, low = highs[of_high], low[of_low]
    raw = np.stack([high, low], axis=1).astype(">u8").view(np.uint8)[:, -texts.width :]
    offsets = texts.width * np.arange(len(low) + 1, dtype=OFFSETS[kind])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(raw.tobytes())]
    return DictionaryColumn(codes, pa.Array.from_buffers(kind, len(low), buffers))


def _factorize(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n] uint64 -> [n] int32 codes, and the distinct values in the order of their first rows."""
    array = pa.Array.from_buffers(pa.uint64(), len(values), [None, pa.py_buffer(values)])
    encoded = array.dictionary_encode()
    distinct = np.frombuffer(encoded.dictionary.buffers()[1], np.uint64)[: len(encoded.dictionary)]
    return int32_of(encoded.indices), distinct


@contextlib.contextmanager
def lean_memory() -> Iterator[None]:
    """Within it Arrow takes memory from jemalloc, if it was built with that: it keeps less freed memory, and touches fewer new pages."""
    usual = pa.default_memory_pool()
    if "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(usual)


def dictionary_column(values: pa.ChunkedArray) -> DictionaryColumn:
    """A column of texts or categories of them, without nulls."""
    if pa.types.is_dictionary(values.type):  # which may hold values that no row has
        values = values.cast(values.type.value_type)
    encoder = Encoder()
    for part in values.chunks or [pa.nulls(0, values.type)]:
        encoder.add(part)
    return encoder.finish()


def int32_of(values: pa.Array) -> np.ndarray:
    """An int32 array without nulls as NumPy has it, which shares its memory; `to_numpy` would load pandas where there is one."""
    whole = np.frombuffer(values.buffers()[1] or b"", np.int32)
    return whole[values.offset : values.offset + len(values)]


def int64_of(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """An int64 array without nulls as NumPy has it; only that of a chunked one is a copy."""
    parts = [
        np.frombuffer(part.buffers()[1] or b"", np.int64)[part.offset : part.offset + len(part)]
        for part in (values.chunks if isinstance(values, pa.ChunkedArray) else [values])
    ]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])


def int64_array(values: np.ndarray) -> pa.Array:
    """[n] int64 as Arrow has it, which shares its memory."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def bytes_scalar(value: bytes) -> pa.Scalar:
    """One value as Arrow has it; `pa.scalar` would load pandas where there is one."""
    offsets = np.array([0, len(value)], np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(value)]
    return pa.Array.from_buffers(pa.binary(), 1, buffers)[0]
