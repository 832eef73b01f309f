"""Packed training and ranking against plain per-user references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import default_config
from grasp_jax.data.log import build_log
from grasp_jax.data.negatives import draw_candidates, exclusion_index
from grasp_jax.data.split import leave_one_out
from grasp_jax.evaluation.metrics import metrics
from grasp_jax.evaluation.ranking import evaluation_set, full_ranks, sampled_ranks, seen_pairs
from grasp_jax.models.device_data import DeviceData, interaction_logits, logits_of
from grasp_jax.models.recommender import PackedBatch, build_recommender

NUM_USERS, NUM_ITEMS, WIDTH, LENGTH = 23, 31, 8, 10
CASES = [
    ("plain", (), "paper"), ("grasp", (), "paper"), ("grasp", (12,), "learned"), ("grasp", (12, 6), "paper"), ("grasp", (12,), "softmax"),
]  # fmt: skip


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
            for k, name in enumerate(("items", "items_similar", "users", "users_similar")):
                rows = NUM_ITEMS if name.startswith("items") else NUM_USERS
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
        negative_logits = None if logits is None else jnp.zeros((2, 4, 1, 2))
        self.params = self.model.init(jax.random.key(1), self.tables, batch, negatives, negative_logits)["params"]
        self.params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape), self.params)

    def call(self, method: str, *args: object) -> object:
        return self.model.apply({"params": self.params}, *args, method=method)

    def alone(self, user: int, items: np.ndarray) -> PackedBatch:
        """One user's history in a row of its own."""
        row = jnp.asarray(items)[None]
        logits = logits_of(self.tables, jnp.full(row.shape, user), row) if self.tables else None
        return PackedBatch(row, jnp.full(row.shape, user), jnp.arange(row.shape[1])[None], logits)

    def all_scores(self, user: int, history: np.ndarray) -> np.ndarray:
        """Scores of every item for one user by itself, by the path of sampled candidates."""
        states, normaliser = self.call("user_states", self.tables, self.alone(user, history), jnp.array([len(history) - 1]))
        ids = jnp.arange(NUM_ITEMS)[None]
        logits = logits_of(self.tables, jnp.array([[user]]), ids) if self.tables else None
        features = self.call("item_features", self.tables, ids)
        return np.asarray(self.call("score_candidates", features, states, logits, normaliser)[0])


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
