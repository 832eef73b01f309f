"""Hashes of ids and numbers that are the same on every machine and day. Their bits decide what is stored, so they must not change."""

import hashlib
from collections.abc import Iterable

import numpy as np


def hash_of_texts(values: Iterable[object], key: bytes = b"") -> np.ndarray:
    """[n] uint64 of values as texts, so that 7 and "7" are one.

    Args:
      values: n ids.
      key: at most 64 bytes; another key makes another hash.
    """
    digests = (
        hashlib.blake2b(str(value).encode(), digest_size=8, key=key).digest() for value in values
    )
    return np.frombuffer(b"".join(digests), np.uint64)


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Every bit of [n] uint64 spread over all: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    spread: np.ndarray = numbers ^ (numbers >> np.uint64(31))
    return spread
