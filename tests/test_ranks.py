"""Ranks of held-out items, sampled and full, against a NumPy ranking of every item's score for one user at a time."""

import functools
import json
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.data.log import InteractionLog
from grasp_jax.data.negatives import draw_candidates, exclusion_index
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.evaluation import examples as example_lists
from grasp_jax.evaluation import ranking
from grasp_jax.evaluation.bounds import expansion
from grasp_jax.evaluation.evaluation_set import EvaluationSet, evaluation_set
from grasp_jax.evaluation.metrics import CUTOFFS, metrics
from grasp_jax.evaluation.ranker import Ranker, UserBlock
from grasp_jax.evaluation.ranking import FullRanks, full_ranks, sampled_ranks
from grasp_jax.evaluation.seen import seen_pairs
from grasp_jax.models.batch import PackedBatch
from grasp_jax.models.device_data import DeviceData, logits_of
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.training.snapshot import initial_snapshot
from tests.assembly import assembled

LENGTH, USER_BLOCK, ITEM_BLOCK, NUM_NEGATIVES = 8, 4, 7, 25  # 25: every cutoff lies within the list
MODELS = {
    "plain": ("plain", (), "paper"),
    "hidden": ("grasp", (10,), "learned"),
    "softmax": ("grasp", (), "softmax"),
}


def test_examples_show_no_item_that_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report would show a seen item with the score -Infinity, which is no JSON, to a user who has had nearly everything."""
    items, offsets = np.array([0, 1, 2, 3, 4], np.int32), np.array([0, 5])
    split = leave_one_out(InteractionLog("x", np.arange(1), np.arange(6), items, offsets), 5)
    scores = np.array([[0.5, -np.inf, -np.inf]], np.float32)
    monkeypatch.setattr(example_lists, "top_items", lambda *_: (scores, np.array([[5, 4, 0]])))
    ranker: Any = types.SimpleNamespace(
        model=types.SimpleNamespace(backbone=types.SimpleNamespace(mask_at="")),
        for_block=lambda block: (None, None),
    )
    shown = example_lists.ExampleUsers(np.array([0]), np.zeros(1, np.int32), list("abcdef"))
    (found,) = example_lists.examples(ranker, split, shown, None)
    assert found["top"] == [{"title": "f", "score": 0.5}]
    assert found["truth"] == "e" and found["place"] is None
    json.dumps(found, allow_nan=False)


class Setting(NamedTuple):
    """An untrained model on the small log, and its test set in several blocks, the last of which is not full."""

    split: Split
    data: DeviceData
    tables: dict[str, jax.Array]
    model: SequenceModel
    params: Any
    negatives: np.ndarray
    evaluation: EvaluationSet
    seen: np.ndarray

    def sampled(self) -> np.ndarray:
        return sampled_ranks(self.ranker, self.evaluation)

    def full(
        self, seen: np.ndarray | None, item_block: int = ITEM_BLOCK, progress: Any = None
    ) -> FullRanks:
        return full_ranks(self.ranker, self.evaluation, item_block, seen, progress)

    @property
    def ranker(self) -> Ranker:
        return Ranker.of(self.model, self.params, self.data, self.tables)

    def history(self, user: int) -> np.ndarray:
        """Everything before the target, also what the window has cut off."""
        return self.split.log.items[self.split.log.offsets[user] : self.split.test.end[user]]


Maker = Callable[..., Setting]


@pytest.fixture(scope="module")
def setting(small_log: InteractionLog, unit_tables: dict[str, jax.Array]) -> Maker:
    """Maker of a `Setting` for a name of `MODELS`; `constant` gives all items the same vectors."""

    @functools.cache
    def make(name: str, constant: bool = False) -> Setting:
        method, mlp, gate = MODELS[name]
        split = leave_one_out(small_log, LENGTH)
        tables = {} if method == "plain" else {key: 3 * table for key, table in unit_tables.items()}
        if constant:
            tables = {
                key: jnp.broadcast_to(t[0], t.shape) if key.startswith("items") else t
                for key, t in tables.items()
            }
        config = {"features": 6, "num_layers": 1, "mlp": mlp, "gate": gate}
        made = assembled(
            small_log, tables, method, "sasrec", {"data.max_length": LENGTH, "model": config}
        )
        shapes = jax.eval_shape(
            lambda: initial_snapshot(made.model, made.replicas, made.data).state.params
        )
        rng = np.random.default_rng(2)
        params = jax.tree.map(
            lambda leaf: jnp.asarray(0.7 * rng.standard_normal(leaf.shape[1:]), jnp.float32), shapes
        )
        if constant and not tables:
            params["encoder"]["table"] = jnp.full_like(params["encoder"]["table"], 0.1)
        index = exclusion_index(small_log, small_log.offsets[:-1], small_log.offsets[1:])
        negatives = draw_candidates(index, split.test.evaluated, NUM_NEGATIVES, seed=3)
        evaluation = evaluation_set(split.test, negatives, tables, USER_BLOCK)
        seen = seen_pairs(small_log, split.test, evaluation.batches)
        return Setting(
            split, made.data.device, tables, made.model, params, negatives, evaluation, seen
        )

    return make


def all_scores(s: Setting) -> np.ndarray:
    """[n, V] scores of every item by `score_candidates`, each user alone in a padded row."""
    users, num_items = s.evaluation.users, s.split.log.num_items
    lengths = s.split.test.lengths[users]
    valid = np.arange(LENGTH) < lengths[:, None]
    items = np.zeros(valid.shape, np.int32)
    for row, user in zip(items, users, strict=True):
        window = s.split.log.items[s.split.test.start[user] : s.split.test.end[user]]
        row[: len(window)] = window
    segments, positions = np.where(valid, users[:, None], -1), np.where(valid, np.arange(LENGTH), 0)
    newest = lengths - 1 + LENGTH * np.arange(len(users))

    @jax.jit
    def score(params: Any, tables: Any) -> jax.Array:
        owners = jnp.asarray(users)[:, None]
        own = logits_of(tables, owners, jnp.asarray(items)) if tables else None
        batch = PackedBatch(
            jnp.asarray(items),
            jnp.asarray(segments),
            jnp.asarray(positions),
            own,
            jnp.zeros(items.shape, bool),
            jnp.asarray(segments),
        )
        catalogue = apply(s.model, params, SequenceModel.item_features, tables)
        states, normaliser = apply(
            s.model, params, SequenceModel.user_states, catalogue, batch, newest
        )
        every = jnp.broadcast_to(jnp.arange(num_items), (len(users), num_items))
        features = apply(s.model, params, SequenceModel.item_features, tables, every)
        logits = logits_of(tables, owners, every) if tables else None
        return apply(
            s.model, params, SequenceModel.score_candidates, features, states, logits, normaliser
        )

    return np.asarray(score(s.params, s.tables))


def brute_force(s: Setting, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pessimistic ranks: among the negatives, among all items, and among the items that the user has not seen."""
    ranks = []
    for row, user, target, negatives in zip(
        scores, s.evaluation.users, s.evaluation.targets, s.negatives, strict=True
    ):
        others = [item for item in range(len(row)) if item != target]
        fresh = [item for item in others if item not in set(s.history(user).tolist())]
        ranks.append(
            [
                sum(not row[item] < row[target] for item in group)
                for group in (negatives, others, fresh)
            ]
        )
    return tuple(np.array(ranks).T)


@pytest.mark.parametrize("name", MODELS)
def test_ranks_equal_brute_force(setting: Maker, name: str) -> None:
    """A rank would depend on packing, blocks or the factorised score, or count a seen item, or lose a target bought before."""
    s = setting(name)
    sampled, full, fresh = brute_force(s, all_scores(s))
    np.testing.assert_array_equal(s.sampled(), sampled)
    np.testing.assert_array_equal(s.full(s.seen), [full, fresh])
    np.testing.assert_array_equal(s.full(np.full_like(s.seen, -1)), [full, full])
    assert (fresh < full).any() and full.std() > 5
    # What the comparison above is meant to cover is there.
    assert s.evaluation.batches.shape[0] > 1 and (s.evaluation.batches < 0).any()
    assert s.split.log.num_items % ITEM_BLOCK
    assert any(
        target in s.history(user)
        for user, target in zip(s.evaluation.users, s.evaluation.targets, strict=True)
    )
    assert any(len(s.history(user)) > LENGTH for user in s.evaluation.users)


def test_item_block_changes_nothing(setting: Maker) -> None:
    """Where blocks end would change ranks: blocks that overlap the last one, divide V, or exceed it; `seen` None excludes nothing."""
    s = setting("plain")
    _, full, fresh = brute_force(s, all_scores(s))
    for item_block in (40, 41, 1000):
        np.testing.assert_array_equal(
            s.full(s.seen, item_block), [full, fresh], err_msg=f"item_block={item_block}"
        )
    np.testing.assert_array_equal(s.full(None, 40), [full, full])


# Of three some blocks leave more open, and some do not.
@pytest.mark.parametrize("most", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_what_bounds_leave_open_is_scored(
    setting: Maker, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Ranks would depend on how many items of a block may be open before all of it is scored."""
    s = setting("hidden")
    sampled, full, fresh = brute_force(s, all_scores(s))
    for constant, compiled in (
        ("MAX_UNDECIDED", ranking._full_ranks),
        ("MAX_UNDECIDED_NEGATIVES", ranking._sampled_ranks),
    ):
        monkeypatch.setattr(ranking, constant, most)
        compiled.clear_cache()
    np.testing.assert_array_equal(s.full(s.seen), [full, fresh])
    np.testing.assert_array_equal(s.sampled(), sampled)


def test_progress_counts_users(setting: Maker) -> None:
    """The progress bar would stop short of its total, or count empty places of the last block."""
    s, counts = setting("plain"), []
    s.full(s.seen, progress=counts.append)
    assert len(counts) == len(s.evaluation.batches) and sum(counts) == len(s.evaluation.users)


def test_ties_are_pessimistic(setting: Maker) -> None:
    """Equal scores would be broken in the target's favour: four items share each vector here."""
    s = setting("plain")
    params = {
        **s.params,
        "encoder": {"table": s.params["encoder"]["table"][np.arange(s.split.log.num_items) // 4]},
    }
    s = s._replace(params=params)
    scores = all_scores(s)
    sampled, full, fresh = brute_force(s, scores)
    np.testing.assert_array_equal(s.sampled(), sampled)
    np.testing.assert_array_equal(s.full(s.seen), [full, fresh])
    tied = scores == np.take_along_axis(scores, s.evaluation.targets[:, None], axis=1)
    assert any(tied[row, s.history(user)].any() for row, user in enumerate(s.evaluation.users))
    above = (scores > np.take_along_axis(scores, s.evaluation.targets[:, None], axis=1)).sum(axis=1)
    assert (full >= above + np.where(s.evaluation.targets == 40, 0, 3)).all()


@pytest.mark.parametrize("name", ["plain", "hidden"])
def test_constant_model_scores_zero(setting: Maker, name: str) -> None:
    """The oldest way to a good-looking metric: a model to which all items are equal must score 0 at every cutoff, in every protocol."""
    s = setting(name, constant=True)
    for ranks in (s.sampled(), *s.full(s.seen)):
        row = metrics(ranks)
        assert {row[f"{metric}@{k}"] for metric in ("HR", "NDCG") for k in CUTOFFS} == {0.0}


def test_not_a_number_ranks_last(setting: Maker) -> None:
    """A diverged model would look perfect: every comparison with NaN is false."""
    s = setting("plain")
    s = s._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, s.params))
    assert (s.sampled() == NUM_NEGATIVES).all()
    full, unseen = s.full(s.seen)
    assert (full == s.split.log.num_items - 1).all()
    had = [
        len(set(s.history(user).tolist()) - {target})
        for user, target in zip(s.evaluation.users, s.evaluation.targets, strict=True)
    ]
    np.testing.assert_array_equal(unseen, full - had)


def test_one_item_that_is_not_a_number_counts_as_higher(setting: Maker) -> None:
    """An item with a broken vector would silently make every target's rank better; item 40 is in nobody's history."""
    s = setting("plain")
    broken = s._replace(
        params={**s.params, "encoder": {"table": s.params["encoder"]["table"].at[40].set(jnp.nan)}}
    )
    scores, before = all_scores(broken), all_scores(s)
    assert np.isnan(scores[:, 40]).all() and np.isfinite(np.delete(scores, 40, axis=1)).all()
    sampled, full, _ = brute_force(broken, scores)
    np.testing.assert_array_equal(broken.sampled(), sampled)
    np.testing.assert_array_equal(broken.full(None).full, full)
    assert (full >= brute_force(s, before)[1]).all() and (full > brute_force(s, before)[1]).any()


@pytest.mark.parametrize("name", ["plain", "hidden"])
def test_memory_of_full_ranking_does_not_grow_with_users_times_items(
    setting: Maker, name: str
) -> None:
    """A catalogue of 10^6 items would not fit: working memory beyond the item features must be that of one block."""
    s, users = setting(name), 64
    shape, ints = jax.ShapeDtypeStruct, functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)

    def temporary_bytes(num_items: int) -> int:
        def many(items: Any) -> jax.ShapeDtypeStruct:
            return shape((num_items, *items.shape[1:]), items.dtype)

        model, params = s.model, s.params
        features = many(
            jax.eval_shape(lambda: apply(model, params, SequenceModel.item_features, s.tables))
        )
        of_items = (
            jax.tree.map(many, jax.eval_shape(lambda f: expansion(model, params, f), features))
            if s.tables
            else None
        )
        tables = {
            key: many(table) if key.startswith("items") else table
            for key, table in s.tables.items()
        }
        if not tables:
            model, params = (
                model.clone(encoder=model.encoder.clone(num_items=num_items)),
                {**params, "encoder": {"table": features}},
            )
        ranker = Ranker(model, params, s.data, tables, features)
        block = UserBlock(
            slots=ints((8, 2 * LENGTH)), newest=ints((users,)), queries=ints((users,))
        )
        lowered = ranking._full_ranks.lower(
            ranker, of_items, block, targets=ints((users,)), seen=ints((300, 2)), item_block=256
        )
        return lowered.compile().memory_analysis().temp_size_in_bytes

    small, large = temporary_bytes(2_000), temporary_bytes(42_000)
    assert small > users * 256  # something was measured
    assert large - small < users * 40_000 * 4 / 10
