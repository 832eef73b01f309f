"""Queries of the gates: the repairs of the leak, compared with loops over users; each scored item gets its own row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config.model import QUERIES, QUERIES_BY_INTERACTION
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import leave_one_out
from grasp_jax.models.device_data import DeviceData, gather_batch
from grasp_jax.models.encoders.holistic import HolisticEncoder
from grasp_jax.models.gate_queries import query_rows, query_tables
from grasp_jax.training.targets import StepShape, draw_targets

LENGTH = 20


def by_hand(
    kind: str,
    bank: dict[str, np.ndarray],
    name: str,
    log: InteractionLog,
    training: int,
    user: int,
    place: int,
) -> np.ndarray:
    """The query for what stands at `place` of a user's history."""
    begin = log.offsets[user]
    before = list(log.items[begin : begin + training])
    if kind == "prefix":
        before = list(log.items[begin : begin + place])
    elif kind == "two_fold" and place < training:
        asked = log.items[begin + place]
        before = [item for item in before[1 - place % 2 :: 2] if item != asked]
    if kind == "user":
        return bank["users" if name == "users" else "users_similar"][user]
    if kind == "neighbours":
        return bank["users_similar"][user]
    total = sum(
        (bank["items" if name == "users" else "items_similar"][item] for item in before),
        np.zeros(12),
    )
    return total / (np.linalg.norm(total) or 1)


@pytest.mark.parametrize("kind", QUERIES)
def test_queries_by_hand(
    small_log: InteractionLog, unit_tables: dict[str, jax.Array], kind: str
) -> None:
    """A repair would still see the asked item, or a gate be asked with another user's or another place's query."""
    split = leave_one_out(small_log, LENGTH)
    bank = {name: np.asarray(table) for name, table in unit_tables.items()}
    tables = query_tables(kind, bank, split)
    users, every = small_log.users, np.arange(small_log.num_interactions)
    rows = query_rows(kind, small_log, every, users)
    after = query_rows(kind, small_log, small_log.offsets[1:], np.arange(small_log.num_users))
    for name, table in tables.items():
        for user in range(small_log.num_users):
            training = split.train.end[user] - small_log.offsets[user]
            for k in range(small_log.offsets[user], small_log.offsets[user + 1] + 1):
                row = after[user] if k == small_log.offsets[user + 1] else rows[k]
                place = k - small_log.offsets[user]
                np.testing.assert_allclose(
                    table[row],
                    by_hand(kind, bank, name, small_log, training, user, place),
                    atol=1e-6,
                )


@pytest.mark.parametrize("mask_rate", [0.0, 0.5])
def test_targets_are_asked_with_their_own_query(
    small_log: InteractionLog, mask_rate: float
) -> None:
    """A negative would be scored with the query of another place than the positive it stands against."""
    every, users = np.arange(small_log.num_interactions), small_log.users
    rows = query_rows(QUERIES_BY_INTERACTION[0], small_log, every, users)
    nothing = jnp.zeros(small_log.num_users + 1, jnp.int32)
    data = DeviceData(
        jnp.asarray(small_log.items), jnp.asarray(users), None, nothing, nothing, jnp.asarray(rows)
    )
    slots = np.full((2, LENGTH), -1, np.int32)
    slots[0, :3], slots[0, 3:9], slots[1, 2:8] = every[3:6], every[6:12], every[20:26]
    shape = StepShape(small_log.num_items, 1, 30, 2, mask_rate)
    batch, targets = jax.jit(
        lambda s: draw_targets(jax.random.key(0), 0, data, gather_batch(data, s), shape)
    )(jnp.asarray(slots))
    ahead = 0 if mask_rate else 1
    places = np.asarray(targets.places.flat)
    there = places < batch.items.size
    asked = np.tile(slots, (2, 1) if mask_rate else (1, 1)).ravel()[places[there]] + ahead
    assert there.sum() > 6
    np.testing.assert_array_equal(np.asarray(targets.queries)[there], rows[asked])


def test_scale_of_gates() -> None:
    """The study would measure another temperature than it says."""
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((4000, 2)), jnp.float32)
    plain, scaled = HolisticEncoder(12, 4), HolisticEncoder(12, 4, scale=4.0)
    unit = jnp.ones((1, 12)) / np.sqrt(12)
    params = plain.init(
        jax.random.key(0),
        unit,
        unit,
        method=lambda m, i, ibar: m(m.project(i, ibar), m.gates(logits[:1])),
    )
    gates = np.asarray(scaled.apply(params, logits, method="gates"))
    np.testing.assert_allclose(gates, plain.apply(params, 4 * logits, method="gates"), rtol=1e-5)
    np.testing.assert_allclose(
        gates[:, 2], 1 / (1 + np.exp(-4 * np.asarray(logits).sum(1) / np.sqrt(2))), rtol=1e-4
    )
