"""Packed training and ranking against plain per-user references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import default_config
from grasp_jax.data.log import build_log
from grasp_jax.data.negatives import draw_candidates, draw_negatives, exclusion_index
from grasp_jax.data.packing import pack, plan_packing, stratified_batches
from grasp_jax.data.split import leave_one_out
from grasp_jax.evaluation.metrics import metrics
from grasp_jax.evaluation.ranking import evaluation_set, full_ranks, sampled_ranks, seen_pairs
from grasp_jax.models.device_data import DeviceData, gather_batch, interaction_logits, logits_of
from grasp_jax.models.recommender import PackedBatch, build_recommender
from grasp_jax.training.step import pairwise_loss

NUM_USERS, NUM_ITEMS, WIDTH, LENGTH = 23, 31, 8, 10
CASES = [("plain", (), "paper"), ("grasp", (), "paper"), ("grasp", (12,), "learned"), ("grasp", (12, 6), "paper"), ("grasp", (12,), "softmax")]


class World:
    """A small dataset and an untrained model on it."""

    def __init__(self, method: str, mlp: tuple[int, ...], gate: str) -> None:
        rng = np.random.default_rng(0)
        lengths = rng.integers(4, 14, NUM_USERS)
        users = np.repeat(np.arange(NUM_USERS), lengths)
        items = np.concatenate([rng.integers(0, NUM_ITEMS, length) for length in lengths])
        self.log = build_log("small", users, items, catalogue=np.arange(NUM_ITEMS))
        self.split = leave_one_out(self.log, LENGTH)
        self.tables = {}
        if method == "grasp":
            for k, (name, rows) in enumerate({"items": NUM_ITEMS, "items_similar": NUM_ITEMS, "users": NUM_USERS, "users_similar": NUM_USERS}.items()):
                x = jax.random.normal(jax.random.key(k), (rows, WIDTH))
                self.tables[name] = 2 * x / jnp.linalg.norm(x, axis=1, keepdims=True)
        log_users, log_items = jnp.asarray(self.log.users), jnp.asarray(self.log.items)
        index = exclusion_index(self.log, self.log.offsets[:-1], self.split.train.end)
        logits = interaction_logits(self.tables, log_users, log_items) if self.tables else None
        self.data = DeviceData(log_items, log_users, logits, jnp.asarray(index.shifted), jnp.asarray(index.offsets))
        self.index = index
        config = default_config().model
        config.features, config.mlp, config.gate = 6, mlp, gate
        self.model = build_recommender(config, method, "sasrec", NUM_ITEMS, LENGTH + 6, WIDTH, "token")
        negatives = jnp.zeros((2, 4, 1), jnp.int32)
        blank = jnp.zeros((2, 4), jnp.int32)
        batch = PackedBatch(blank, blank, blank, None if logits is None else jnp.zeros((2, 4, 2)))
        self.params = self.model.init(jax.random.key(1), self.tables, batch, negatives, None if logits is None else jnp.zeros((2, 4, 1, 2)))["params"]
        self.params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape), self.params)

    def call(self, method: str, *args: object) -> object:
        return self.model.apply({"params": self.params}, *args, method=method)

    def alone(self, user: int, items: np.ndarray) -> PackedBatch:
        """One user's history in a row of its own."""
        row = jnp.asarray(items)[None]
        logits = logits_of(self.tables, jnp.full(row.shape, user), row) if self.tables else None
        return PackedBatch(row, jnp.full(row.shape, user), jnp.arange(row.shape[1])[None], logits)

    def all_scores(self, user: int, history: np.ndarray) -> np.ndarray:
        """Scores of every item, one candidate at a time, for one user by itself."""
        states, normaliser = self.call("user_states", self.tables, self.alone(user, history), jnp.array([len(history) - 1]))
        scores = []
        for item in range(NUM_ITEMS):
            ids = jnp.array([[item]])
            logits = logits_of(self.tables, jnp.array([[user]]), ids) if self.tables else None
            scores.append(float(self.call("score_candidates", self.call("item_features", self.tables, ids), states, logits, normaliser)[0, 0]))
        return np.array(scores)


@pytest.mark.parametrize(("method", "mlp", "gate"), CASES)
def test_ranks_equal_brute_force(method: str, mlp: tuple[int, ...], gate: str) -> None:
    """Would break if packing, blocks, factorised scores or the handling of seen items changed any rank."""
    world = World(method, mlp, gate)
    test = world.split.test
    whole = exclusion_index(world.log, world.log.offsets[:-1], world.log.offsets[1:])
    negatives = draw_candidates(whole, test.evaluated, 7, seed=3)
    evaluation = evaluation_set(test, negatives, world.tables, user_block=5)
    sampled = sampled_ranks(world.model, world.params, world.data, world.tables, evaluation)
    seen = seen_pairs(world.log, test, evaluation.batches)
    full = full_ranks(world.model, world.params, world.data, world.tables, evaluation, 8, None)
    unseen = full_ranks(world.model, world.params, world.data, world.tables, evaluation, 8, seen)
    for n, user in enumerate(evaluation.users):
        scores = world.all_scores(user, world.log.items[test.start[user] : test.end[user]])
        target = evaluation.targets[n]
        others = np.delete(np.arange(NUM_ITEMS), target)
        assert sampled[n] == (scores[negatives[n]] >= scores[target]).sum()
        assert full[n] == (scores[others] >= scores[target] - 2e-6).sum()
        history = set(world.log.items[world.log.offsets[user] : test.end[user]].tolist())
        fresh = np.array([item for item in others if item not in history])
        assert unseen[n] == (scores[fresh] >= scores[target] - 2e-6).sum()


def test_constant_model_scores_zero() -> None:
    """Would break if equal scores were broken in the target's favour: the oldest way to a good-looking metric."""
    world = World("plain", (), "paper")
    world.params["encoder"]["table"] = jnp.ones_like(world.params["encoder"]["table"])
    test = world.split.test
    whole = exclusion_index(world.log, world.log.offsets[:-1], world.log.offsets[1:])
    evaluation = evaluation_set(test, draw_candidates(whole, test.evaluated, 12, 0), {}, 5)
    for ranks in (
        sampled_ranks(world.model, world.params, world.data, {}, evaluation),
        full_ranks(world.model, world.params, world.data, {}, evaluation, 8, None),
    ):
        assert metrics(ranks)["HR@10"] == metrics(ranks)["NDCG@10"] == 0


def test_not_a_number_ranks_last() -> None:
    """Would break early stopping: a diverged model must not look perfect."""
    world = World("plain", (), "paper")
    world.params = jax.tree.map(lambda p: p * jnp.nan, world.params)
    test = world.split.test
    whole = exclusion_index(world.log, world.log.offsets[:-1], world.log.offsets[1:])
    evaluation = evaluation_set(test, draw_candidates(whole, test.evaluated, 12, 0), {}, 5)
    assert (sampled_ranks(world.model, world.params, world.data, {}, evaluation) == 12).all()


@pytest.mark.parametrize(("method", "mlp", "gate"), CASES)
def test_packed_loss_and_gradient_equal_users_alone(method: str, mlp: tuple[int, ...], gate: str) -> None:
    """Would break if users of one row saw each other, or if an item's two roles were not one vector; projections must agree too."""
    world = World(method, mlp, gate)
    train = world.split.train
    users = np.flatnonzero(train.lengths > 1)
    packing = plan_packing(train, users, 8)
    slots, _ = pack(train, stratified_batches(train.lengths, users, 8, np.random.default_rng(0)), packing)
    batch = gather_batch(world.data, jnp.asarray(train.start.astype(np.int32)), jnp.asarray(slots[0]))
    owners = jnp.maximum(batch.segments, 0)
    negatives = draw_negatives(jax.random.key(2), owners, world.data.excluded, world.data.excluded_offsets, NUM_ITEMS, world.index.search_steps, 2)
    negative_logits = logits_of(world.tables, owners[..., None], negatives) if world.tables else None

    def packed(params: dict, projection: str) -> jax.Array:
        model = world.model.clone(projection=projection)
        scores = model.apply({"params": params}, world.tables, batch, negatives, negative_logits, None, method="training_scores")
        return pairwise_loss(scores)

    def alone(params: dict) -> jax.Array:
        total, count = 0.0, 0
        for user in np.unique(np.asarray(batch.segments)):
            rows, columns = np.nonzero(np.asarray(batch.segments) == user)
            if user < 0:
                continue
            one = world.alone(user, np.asarray(batch.items)[rows, columns])
            theirs = negatives[rows, columns][None]
            logits = logits_of(world.tables, jnp.full(theirs.shape, user), theirs) if world.tables else None
            scores = world.model.apply({"params": params}, world.tables, one, theirs, logits, None, method="training_scores")
            n = len(rows) - 1
            positive, negative = scores.positive[0, :n], scores.negative[0, :n]
            total += (-jax.nn.log_sigmoid(positive) - jax.nn.log_sigmoid(-negative).mean(axis=-1)).sum()
            count += n
        return total / count

    expected, gradient = jax.value_and_grad(alone)(world.params)
    for projection in ("token", "distinct", "table"):
        value, ours = jax.jit(jax.value_and_grad(packed), static_argnums=1)(world.params, projection)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_causal_states_do_not_see_the_future() -> None:
    """Would break if training could read its own target."""
    world = World("plain", (), "paper")
    history = np.arange(8)
    changed = history.copy()
    changed[5] = 20
    vectors = [world.call("item_features", {}, jnp.asarray(h)[None]) for h in (history, changed)]
    segments, positions = jnp.zeros((1, 8), jnp.int32), jnp.arange(8)[None]
    for causal in (True, False):
        backbone = world.model.backbone.clone(causal=causal)
        a, b = (backbone.apply({"params": world.params["backbone"]}, v, segments, positions) for v in vectors)
        assert np.allclose(a[0, :5], b[0, :5], atol=1e-6) == causal


def test_metrics_by_hand() -> None:
    """Would break every table: ranks count from 0, gains are 1 / log2(rank + 2)."""
    row = metrics(np.array([0, 1, 9, 10, 50]))
    assert row["HR@1"] == 0.2 and row["HR@10"] == 0.6 and row["HR@20"] == 0.8
    assert row["NDCG@10"] == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(11)) / 5)
    assert row["MRR"] == pytest.approx((1 + 1 / 2 + 1 / 10 + 1 / 11 + 1 / 51) / 5)
