"""Columns of Arrow as codes into their distinct values, a piece at a time, in memory that follows the distinct values and not the rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PENDING = 1 << 21  # rows that wait to be encoded together


class Encoder:
    """Encodes a column of texts or bytes that arrives in pieces.

    What waits is encoded behind the values that are known, so that the codes of earlier pieces stay. It waits until it is at least
    as large as these, for they are hashed again each time.
    """

    def __init__(self) -> None:
        self._known: pa.Array | None = None
        self._waiting: list[pa.Array] = []
        self._rows = 0
        self._codes: list[np.ndarray] = []

    def add(self, values: pa.Array) -> None:
        """The next rows, without nulls, all of one type."""
        self._waiting.append(values)
        self._rows += len(values)
        if self._rows >= max(PENDING, 2 * len(self._known or ())):
            self._encode()

    def finish(self) -> pa.DictionaryArray:
        """All rows, each distinct value once, in the order in which they came first."""
        if self._waiting or self._known is None:
            self._encode()
        codes = np.concatenate(self._codes)
        return pa.DictionaryArray.from_arrays(int32_array(codes), self._known, safe=False)

    def _encode(self) -> None:
        known = [] if self._known is None else [self._known]
        parts = pa.chunked_array([*known, *self._waiting]).dictionary_encode().chunks
        self._codes += [int32_of(part.indices).copy() for part in parts[len(known) :]]
        self._known = parts[-1].dictionary
        self._waiting, self._rows = [], 0


def dictionary_of(values: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """[rows] int32 codes of a column without nulls, and its distinct values, all of which occur."""
    if pa.types.is_dictionary(values.type) and values.num_chunks == 1:
        found = values.chunk(0)
        codes, distinct = int32_of(pc.cast(found.indices, pa.int32())), found.dictionary
        present = np.bincount(codes, minlength=len(distinct)) > 0
        if present.all() and not distinct.null_count:
            return codes, distinct
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    encoder = Encoder()
    for part in values.chunks:
        encoder.add(part)
    if not values.num_chunks:
        encoder.add(pa.nulls(0, values.type))
    whole = encoder.finish()
    return int32_of(whole.indices), whole.dictionary


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


def int32_array(values: np.ndarray) -> pa.Array:
    """[n] int32 as Arrow has it, which shares its memory."""
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])


def int64_array(values: np.ndarray) -> pa.Array:
    """[n] int64 likewise."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])
