"""Scores, loss and gradient of a training step against ranking and against padded references of one user a row."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.models import gates
from grasp_jax.models.batch import Negatives, PairScores, SeparateNegatives, SharedNegatives
from grasp_jax.models.device_data import gather_batch, logits_of
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.training.losses import binary_cross_entropy
from grasp_jax.training.targets import draw_targets
from tests.step_setting import NEGATIVES, Setting


def training_scores(model: SequenceModel, params: Any, s: Setting) -> PairScores:
    logits = (
        logits_of(s.tables, s.targets.users[:, None], s.targets.negatives.items)
        if s.model.gated
        else None
    )
    return apply(
        model,
        params,
        SequenceModel.training_scores,
        s.tables,
        s.batch,
        s.targets._replace(negative_logits=logits),
    )


@pytest.fixture(scope="module")
def scores_of(setting: Any) -> Any:
    """Training scores of a `Setting` by name."""

    @functools.cache
    def make(name: str) -> PairScores:
        s = setting(name)
        return jax.tree.map(
            np.asarray, jax.jit(lambda params: training_scores(s.model, params, s))(s.params)
        )

    return make


def test_pairs_are_the_positions_with_a_next_item(setting: Any, scores_of: Any) -> None:
    """The last item of one user would be trained to predict the first item of the next user in the row, or a position be left out."""
    s = setting("plain")
    slots = s.slots[0].ravel()
    users = np.where(slots >= 0, s.split.log.users[np.maximum(slots, 0)], -1)
    expected = [
        place
        for place in np.flatnonzero(slots >= 0)
        if slots[place] + 1 < s.split.train.end[users[place]]
    ]
    mask, places = scores_of("plain").mask, np.asarray(s.targets.places.flat)
    assert places[mask].tolist() == expected and (places[~mask] == slots.size).all()
    np.testing.assert_array_equal(np.asarray(s.targets.users)[mask], users[expected])
    assert len(expected) == (slots >= 0).sum() - len(set(users[users >= 0].tolist()))


PARTS = [  # of what "gated plus" computes
    pytest.param(name, marks=pytest.mark.slow) for name in ("plus", "hidden")
]


@pytest.mark.parametrize("name", ["plain", "softmax", "llm_esr", "gated plus", "towers", *PARTS])
def test_training_score_is_the_serving_score_after_the_prefix(
    setting: Any, scores_of: Any, name: str
) -> None:
    """Training would fit another score than ranking reads: at position t, the next item's score after the history up to t."""
    s = setting(name)
    batch, scores = jax.tree.map(np.asarray, s.batch), scores_of(name)
    exists = scores.mask
    rows, columns = np.divmod(np.asarray(s.targets.places.flat)[exists], batch.items.shape[1])
    width = batch.items.shape[1]
    prefixes = np.full((len(rows), width), -1, np.int32)  # slots, one prefix a row
    for p, (row, column) in enumerate(zip(rows, columns, strict=True)):
        count = batch.positions[row, column] + 1
        prefixes[p, :count] = s.slots[0][row, column - count + 1 : column + 1]
    newest = (prefixes >= 0).sum(axis=1) - 1 + width * np.arange(len(rows))
    users, targets = batch.segments[rows, columns], batch.items[rows, columns + 1]
    candidates = np.concatenate(
        [targets[:, None], np.asarray(s.targets.negatives.items)[exists]], axis=1
    )

    @jax.jit
    def serve(params: Any) -> jax.Array:
        alone = gather_batch(s.data, jnp.asarray(prefixes))
        states, normaliser = apply(
            s.model, params, SequenceModel.user_states, features(s, params, None), alone, newest
        )
        logits = (
            logits_of(s.tables, jnp.asarray(users)[:, None], jnp.asarray(candidates))
            if s.model.gated
            else None
        )
        return apply(
            s.model,
            params,
            SequenceModel.score_candidates,
            features(s, params, candidates),
            states,
            logits,
            normaliser,
        )

    served = serve(s.params)
    np.testing.assert_allclose(scores.positive[exists], served[:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.negative[exists], served[:, 1:], rtol=1e-5, atol=1e-5)


def features(s: Setting, params: Any, ids: jax.Array) -> jax.Array:
    return apply(s.model, params, SequenceModel.item_features, s.tables, ids)


@pytest.mark.parametrize(
    ("name", "projection"),
    [
        ("plain", "token"),
        pytest.param("hidden", "token", marks=pytest.mark.slow),  # of what "gated plus" computes
        ("softmax", "table"),
        ("llm_esr", "token"),
        ("gated plus", "table"),
    ],
)
def test_loss_and_gradient_equal_a_padded_loss(setting: Any, name: str, projection: str) -> None:
    """Packing, projecting once and reading one vector twice would train another model than one padded row per user does."""
    s = setting(name)
    segments, items = np.asarray(s.batch.segments), np.asarray(s.batch.items)
    users = np.unique(segments[segments >= 0])
    lengths = s.split.train.lengths[users]
    longest = int(lengths.max())
    valid = np.arange(longest) < lengths[:, None]
    padded_items, padded_negatives = (
        np.zeros(valid.shape, int),
        np.zeros((*valid.shape, NEGATIVES), int),
    )
    for b, user in enumerate(users):
        window = slice(s.split.train.start[user], s.split.train.end[user])
        np.testing.assert_array_equal(items[segments == user], s.split.log.items[window])
        padded_items[b, : lengths[b]] = s.split.log.items[window]
        own = np.asarray(s.targets.users) == user
        own &= np.asarray(s.targets.places.flat) < segments.size
        padded_negatives[b, : lengths[b] - 1] = np.asarray(s.targets.negatives.items)[own]
    padded_segments = jnp.asarray(np.where(valid, users[:, None], -1))
    positions = jnp.broadcast_to(jnp.arange(longest), valid.shape)

    def padded_loss(params: Any) -> jax.Array:
        def vectors(
            ids: np.ndarray, logits: jax.Array | None, normaliser: jax.Array | None
        ) -> jax.Array:
            encoder = s.model.encoder.bind({"params": params["encoder"]})
            return encoder(features(s, params, jnp.asarray(ids)), encoder.gates(logits, normaliser))

        own = other = normaliser = with_candidate = None
        if s.model.gated:
            own = logits_of(s.tables, jnp.asarray(users)[:, None], jnp.asarray(padded_items))
            other = logits_of(
                s.tables, jnp.asarray(users)[:, None, None], jnp.asarray(padded_negatives)
            )
        if name == "softmax":
            normaliser = gates.history_normaliser(own, padded_segments)
            with_candidate = gates.candidate_normaliser(other, normaliser[:, :, None])
        history = vectors(padded_items, own, normaliser)
        states = s.model.backbone.apply(
            {"params": params["backbone"]}, history, padded_segments, positions
        )
        positive = jnp.einsum("btd,btd->bt", states[:, :-1], history[:, 1:])
        negative = jnp.einsum(
            "btd,btgd->btg", states, vectors(padded_negatives, other, with_candidate)
        )[:, :-1]
        losses = -jax.nn.log_sigmoid(positive) - jax.nn.log_sigmoid(-negative).mean(axis=-1)
        return jnp.where(valid[:, 1:], losses, 0).sum() / valid[:, 1:].sum()

    model = s.model.clone(projection=projection)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda params: binary_cross_entropy(training_scores(model, params, s)))
    )(s.params)
    expected, reference = jax.jit(jax.value_and_grad(padded_loss))(s.params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(gradient), jax.tree.leaves(reference), strict=True
    ):
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path)
        )
        idle = "key']['bias" in jax.tree_util.keystr(
            path
        )  # a softmax does not see a constant added to all its logits
        assert idle or np.abs(np.asarray(theirs)).max() > 1e-4, jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", ["plain", "gated plus", *PARTS])
def test_shared_negatives_score_as_each_targets_own(setting: Any, name: str) -> None:
    """A softmax would be over other scores than ranking's, or a target compete with itself."""
    s = setting(name)
    shape = s.shape._replace(negatives=30, shared=True)
    _, drawn = jax.jit(lambda key: draw_targets(key, 0, s.data, s.batch, shape))(jax.random.key(1))
    again = jax.jit(lambda key: draw_targets(key, 1, s.data, s.batch, shape))(jax.random.key(1))[1]
    ids = drawn.negatives.items
    assert (
        isinstance(drawn.negatives, SharedNegatives)
        and ids.shape == (30,)
        and len(np.unique(ids)) > 15
    )
    assert (ids != again.negatives.items).any()
    np.testing.assert_array_equal(drawn.places.flat, s.targets.places.flat)
    negatives = jnp.broadcast_to(ids, (len(drawn.places.flat), 30))
    logits = logits_of(s.tables, drawn.users[:, None], negatives) if s.model.gated else None

    def scores(params: Any, negatives: Negatives) -> PairScores:
        asked = drawn._replace(negatives=negatives, negative_logits=logits)
        return apply(s.model, params, SequenceModel.training_scores, s.tables, s.batch, asked)

    each = SharedNegatives(ids), SeparateNegatives(negatives)
    shared, own = (jax.tree.map(np.asarray, jax.jit(scores)(s.params, kind)) for kind in each)
    wanted = np.asarray(s.batch.items).ravel()[
        np.minimum(np.asarray(drawn.places.flat) + 1, s.batch.items.size - 1)
    ]
    is_target = (wanted[:, None] == np.asarray(negatives)) & own.mask[:, None]
    assert is_target.any() and (shared.negative[is_target] == -np.inf).all()
    usual = own.mask[:, None] & ~is_target
    np.testing.assert_allclose(shared.negative[usual], own.negative[usual], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(shared.positive[own.mask], own.positive[own.mask], rtol=1e-5)
