"""The query vectors of the gates: the user's text as published, or other vectors without its leak.

A user's text is written from the training history, which contains every training target. All `config.model.QUERIES` but "user" replace it
by averages of vectors, so that the effect of the leak can be measured and removed:

  user        the user's text and the mean of similar users' texts, as published
  neighbours  the mean of similar users' texts for both
  history     the mean of the training items' vectors: leaks like the user's text; the control of the two below
  two_fold    the mean over the half of the training items that does not contain the target (nor the same item, if it was bought twice)
  prefix      the mean over the items before the target

The last three are computed on the host before training (as sums, because only directions count), as two float32 tables of [N, E] (history)
or [I + N, E]: 600 GB each for 10^8 interactions and E = 1536. So they are for studies of the leak; `planning.sizes` refuses what
is above the memory of the machine.
"""

from collections.abc import Mapping

import numpy as np

from grasp_jax.config.model import QUERIES_BY_INTERACTION
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import Split
from grasp_jax.knowledge.encoders.geometry import unit_rows

BLOCK = 1 << 16  # interactions whose vectors are gathered together


def query_rows(
    kind: str, log: InteractionLog, interactions: np.ndarray, users: np.ndarray
) -> np.ndarray:
    """Row of the query tables for each target interaction, given by its flat index (the end of the history for the next
    item) and its user.
    """
    return (interactions + users if kind in QUERIES_BY_INTERACTION else users).astype(np.int32)


def query_tables(kind: str, bank: Mapping[str, np.ndarray], split: Split) -> dict[str, np.ndarray]:
    """The tables "users" and "users_similar" of a kind: [N, E], or [I + N, E] if every target interaction has its own query."""
    if kind == "user":
        return {name: bank[name] for name in ("users", "users_similar")}
    if kind == "neighbours":
        return dict.fromkeys(("users", "users_similar"), bank["users_similar"])
    sums = {"history": history_sums, "two_fold": two_fold_sums, "prefix": prefix_sums}[kind]
    # At unit length a sum and a mean are the same vector. Zeros stay zeros, so their logits are 0.
    return {
        name: unit_rows(sums(bank[of], split))
        for name, of in (("users", "items"), ("users_similar", "items_similar"))
    }


def history_sums(items: np.ndarray, split: Split) -> np.ndarray:
    """[N, E] sum of the vectors of each user's training items."""
    return _sums(items, split.log.items, split.log.users, _in_training(split), split.log.num_users)


def two_fold_sums(items: np.ndarray, split: Split) -> np.ndarray:
    """[I + N, E]: the query for a training item at an even position is the sum over the odd positions, and the other way round; for later
    items it is the sum over all.
    """
    log, training = split.log, _in_training(split)
    half_of = (np.arange(log.num_interactions) - log.offsets[log.users]) % 2
    sums = [
        _sums(items, log.items, log.users, training & (half_of == half), log.num_users)
        for half in (0, 1)
    ]
    rows = np.repeat(sums[0] + sums[1], log.lengths + 1, axis=0)
    for half in (0, 1):
        targets = np.flatnonzero(training & (half_of == half))
        others = np.flatnonzero(training & (half_of != half))
        # an item that was bought twice may be in the other half too
        repeats = _occurrences(log, others, targets)
        users = log.users[targets]
        rows[targets + users] = sums[1 - half][users] - repeats[:, None] * items[log.items[targets]]
    return rows


def _occurrences(log: InteractionLog, among: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How often the user of each target interaction has the same item in the interactions `among`: [len(targets)]."""
    keys = log.users.astype(np.int64) * log.num_items + log.items
    known, counts = np.unique(keys[among], return_counts=True)
    if not len(known):
        return np.zeros(len(targets), np.float32)
    index = np.minimum(np.searchsorted(known, keys[targets]), len(known) - 1)
    return np.where(known[index] == keys[targets], counts[index], 0).astype(np.float32)


def prefix_sums(items: np.ndarray, split: Split) -> np.ndarray:
    """[I + N, E] sum of the vectors of the items before each position; the last row of a user sums the whole history."""
    log = split.log
    rows = np.zeros((log.num_interactions + log.num_users, items.shape[1]), np.float32)
    for user in range(log.num_users):
        begin, end = log.offsets[user], log.offsets[user + 1]
        np.cumsum(
            items[log.items[begin:end]],
            axis=0,
            dtype=np.float32,
            out=rows[begin + user + 1 : end + user + 1],
        )
    return rows


def _in_training(split: Split) -> np.ndarray:
    """[I] bool."""
    inside: np.ndarray = np.arange(split.log.num_interactions) < split.train.end[split.log.users]
    return inside


def _sums(
    vectors: np.ndarray, items: np.ndarray, users: np.ndarray, counted: np.ndarray, num_users: int
) -> np.ndarray:
    """[N, E] sum of the vectors of each user's items, over the interactions that are `counted` [I] bool."""
    sums = np.zeros((num_users, vectors.shape[1]), np.float32)
    places = np.flatnonzero(counted)
    for start in range(0, len(places), BLOCK):  # in the same order as all at once, so the same sums
        block = places[start : start + BLOCK]
        np.add.at(sums, users[block], vectors[items[block]])
    return sums
