"""The order of a user's interactions that have the same time: the source's, or a random one that is a function of ids alone.

A source's order of tied rows is not the order of events, and often contains information: in Amazon's dumps it is ascending item id. 44 % of
the neighbours in the histories of Beauty 5-core share a day, so a model may learn, and be tested on, an order that does not reflect
behaviour.
"""

import dataclasses

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.hashing import hash_of_texts, mixed
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
    of_users = hash_of_texts(log.user_ids.tolist(), str(seed).encode())
    of_items = hash_of_texts(log.item_ids.tolist(), str(~seed).encode())
    keys = mixed(of_users[users] ^ of_items[log.items])
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
