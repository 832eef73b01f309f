"""The order of a user's interactions that have the same time: the source's, or a random one that is a function of ids alone.

A source's order of tied rows is not the order of events, and often contains information: in Amazon's dumps it is ascending item id. 44 % of
the neighbours in the histories of Beauty 5-core share a day, so a model may learn, and be tested on, an order that does not reflect
behaviour.
"""

import dataclasses
import hashlib

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.data.log import InteractionLog

FILE, SHUFFLE = "file", "shuffle"


def ties_as(log: InteractionLog, ties: str, seed: int) -> InteractionLog:
    """The log with its ties as `config.data.ties` wants them.

    Raises:
      UserError: they are to be shuffled, and there are no times.
    """
    if ties == FILE:
        return log
    if log.timestamps is None:
        raise UserError(
            f"config.data.ties: {ties!r}, and the interactions of {log.name} have no times that say which are tied; "
            "expected 'file', or a column of times, config.data.columns.timestamp"
        )
    return shuffled_ties(log, seed)


def shuffled_ties(log: InteractionLog, seed: int) -> InteractionLog:
    """Interactions of one user at one time in a random order, a function of (seed, user id, item id).

    So neither the source's order nor other users or items decide it, and data that grow keep the order of what they had.
    """
    assert log.timestamps is not None
    users = log.users
    keys = _mixed(_codes(log.user_ids, seed)[users] ^ _codes(log.item_ids, ~seed)[log.items])
    order = np.lexsort((keys, log.timestamps, users))
    return dataclasses.replace(log, items=log.items[order])


def num_tied(log: InteractionLog) -> int:
    """Interactions at the very time of the same user's last one; 0 without times."""
    if log.timestamps is None:
        return 0
    same_time = log.timestamps[1:] == log.timestamps[:-1]
    first = log.offsets[1:-1]  # of each user but the first; the one before it is another user's
    same_time[first[(first > 0) & (first < log.num_interactions)] - 1] = False
    return int(same_time.sum())


def _codes(ids: np.ndarray, seed: int) -> np.ndarray:
    """[n] uint64 of ids in words, so that 7 and "7" are one."""
    salt = str(seed).encode()
    digests = (
        hashlib.blake2b(str(name).encode(), digest_size=8, key=salt).digest()
        for name in ids.tolist()
    )
    return np.frombuffer(b"".join(digests), np.uint64)


def _mixed(codes: np.ndarray) -> np.ndarray:
    """Every bit of [n] uint64 spread over all: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    codes = (codes ^ (codes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    codes = (codes ^ (codes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = codes ^ (codes >> np.uint64(31))
    return mixed
