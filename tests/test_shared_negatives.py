"""Negatives that a batch shares, by each way of drawing them, and the softmax over them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from grasp_jax.data.log import InteractionLog
from grasp_jax.models.batch import PairScores, SharedNegatives
from grasp_jax.models.encoders.dual_view import DualViewEncoder
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.training.losses import sampled_softmax
from grasp_jax.training.shared_negatives import shared_negatives
from grasp_jax.training.targets import StepShape
from tests.test_catalogue_step import inputs_of, made

COUNTS = np.array([0, 5, 1, 0, 30, 14, 0, 50, 3, 0])
POPULARITY = jnp.asarray(np.cumsum(COUNTS), jnp.int32)
WANTED = jnp.array([4, 7, 7, 1, 0], jnp.int32)
EXIST = jnp.array([True, True, True, True, False])


@functools.cache
def compiled(kind: str, logq: bool, count: int) -> Callable[[jax.Array], SharedNegatives]:
    shape = StepShape(len(COUNTS), 0, len(WANTED), count, shared=True, drawn=kind, logq=logq)
    return jax.jit(lambda key: shared_negatives(key, WANTED, EXIST, POPULARITY, shape))


def drawn(kind: str, logq: bool, count: int = 20, seed: int = 0) -> SharedNegatives:
    return compiled(kind, logq, count)(jax.random.key(seed))


def test_draws_by_popularity() -> None:
    """Items would be drawn more or less often than they occur, or those that nobody bought at all."""
    negatives = drawn("popularity", True, 20_000)
    times = np.bincount(negatives.items, minlength=len(COUNTS))
    bought = COUNTS > 0
    assert not times[~bought].any()
    expected = 20_000 * COUNTS[bought] / COUNTS.sum()
    assert stats.chisquare(times[bought], expected).pvalue > 1e-3
    np.testing.assert_allclose(
        negatives.correction, np.log(20_000 * COUNTS[negatives.items] / COUNTS.sum()), rtol=1e-5
    )
    assert drawn("popularity", False).correction is None


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_corrected_terms_are_on_average_those_of_the_catalogue(kind: str) -> None:
    """The sampled softmax would stand for another than that over all items (those that can be drawn)."""
    scores = np.random.default_rng(0).standard_normal(len(COUNTS))
    possible = COUNTS > 0 if kind == "popularity" else np.ones(len(COUNTS), bool)
    sums = []
    for seed in range(200):
        negatives = drawn(kind, True, 20, seed)
        sums.append(np.exp(scores[negatives.items] - negatives.correction).sum())
    deviation = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - np.exp(scores[possible]).sum()) < 4 * deviation < 2.0


def test_targets_of_the_batch() -> None:
    """A place without a target would be a negative, or an item be expected as often as in another batch."""
    negatives = drawn("in_batch", True)
    np.testing.assert_array_equal(negatives.items, WANTED)
    expected = np.log(4 * COUNTS[np.asarray(WANTED[:4])] / COUNTS.sum())
    np.testing.assert_allclose(negatives.correction[:4], expected, rtol=1e-5)
    assert np.isposinf(negatives.correction[4])
    np.testing.assert_array_equal(
        drawn("in_batch", False).correction, np.float32([0, 0, 0, 0, np.inf])
    )


def test_uniform_draws_are_as_they_were() -> None:
    """Numbers of earlier runs would move."""
    negatives = drawn("uniform", False, 12)
    expected = jax.random.randint(jax.random.key(0), (12,), 0, len(COUNTS), jnp.int32)
    np.testing.assert_array_equal(negatives.items, expected)
    assert negatives.correction is None
    np.testing.assert_allclose(drawn("uniform", True, 12).correction, np.log(1.2), rtol=1e-5)


@pytest.mark.parametrize("name", ["plain", "bert4rec"])
def test_in_batch_loss_of_a_step(name: str, small_log: InteractionLog, unit_tables: Any) -> None:
    """The target would compete with itself, or scores be corrected the wrong way: by hand, from the scores of every item."""
    fields = {"train__loss": "softmax", "train__negatives_drawn": "in_batch"}
    own, tables = made(name, small_log, unit_tables, train__label_smoothing=0.0, **fields)
    assert own.data.shape.logq and own.data.device.popularity is not None
    batch, targets, params = inputs_of(own, tables)
    method = SequenceModel.training_scores
    loss = jax.jit(
        lambda params: own.data.loss(apply(own.model, params, method, tables, batch, targets))
    )(params)
    whole, _ = made(name, small_log, unit_tables, train__label_smoothing=0.0)
    asked = inputs_of(whole, tables)[1]
    every = jax.jit(lambda params: apply(whole.model, params, method, tables, batch, asked))(params)
    scores, exist = np.asarray(every.states @ every.items.T, np.float64), np.asarray(every.mask)
    wanted = np.asarray(every.targets)
    counts = np.diff(np.asarray(own.data.device.popularity), prepend=0)
    expected = np.log(exist.sum() * counts / counts.sum(), where=counts > 0, out=np.zeros(41))
    losses = []
    for p in np.flatnonzero(exist):
        others = wanted[exist & (wanted != wanted[p])]
        terms = np.exp(scores[p, others] - expected[others]).sum()
        losses.append(np.log(np.exp(scores[p, wanted[p]]) + terms) - scores[p, wanted[p]])
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)


class TwoTowers(DualViewEncoder):
    """Its two views, as towers."""

    @property
    def towers(self) -> tuple[int, ...]:
        return (self.view,) * 2


@pytest.mark.parametrize("loss", ["softmax", "ce"])
def test_towers_of_a_step(loss: str, small_log: InteractionLog, unit_tables: Any) -> None:
    """A tower would meet the other's states: with the other's item vectors at zero, the summed score is its own."""
    own, tables = made(
        "llm_esr", small_log, unit_tables, train__loss=loss, train__shared_negatives=20
    )
    encoder: Any = own.model.encoder
    both = own.model.clone(encoder=TwoTowers(encoder.num_items, encoder.width, encoder.view))
    batch, targets, params = inputs_of(own, tables)
    method = SequenceModel.training_scores

    @jax.jit
    def losses_and_scores(params: Any) -> Any:
        split, summed = (
            apply(model, params, method, tables, batch, targets) for model in (both, own.model)
        )
        assert len(split.towers) == 2 and not summed.towers
        if loss == "ce":
            assert split.towers == (6, 6)
            of_half = [jnp.where(jnp.arange(12) // 6 == k, summed.items, 0) for k in range(2)]
            halves, more = [summed._replace(items=items) for items in of_half], None
        else:
            halves, more = split.towers, (split.towers, summed)
        return [own.data.loss(scores) for scores in (split, *halves)], more

    (of_split, *of_halves), more = losses_and_scores(params)
    np.testing.assert_allclose(of_split, sum(of_halves), rtol=1e-5)
    if loss == "softmax":
        halves, summed = more
        for name in ("positive", "negative"):
            each = [np.asarray(getattr(half, name)) for half in halves]
            np.testing.assert_allclose(sum(each), getattr(summed, name), rtol=1e-4, atol=1e-5)


def test_a_batch_with_one_target() -> None:
    """Where no negative is left, gradients would be NaN."""
    pairs = PairScores(jnp.ones(2), jnp.full((2, 3), -jnp.inf), jnp.array([True, False]))
    gradient = jax.grad(lambda x: sampled_softmax(pairs._replace(positive=x)))(pairs.positive)
    np.testing.assert_array_equal(gradient, [0.0, 0.0])
