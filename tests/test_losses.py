"""Losses over scored pairs against their formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.models.batch import PairScores
from grasp_jax.training.losses import binary_cross_entropy, generalised_bce, sampled_softmax

PAIRS, NEGATIVES, ITEMS = 15, 6, 31


def scores(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positive, negative (one of them left out) and mask."""
    rng = np.random.default_rng(seed)
    positive, negative, mask = (
        4 * rng.standard_normal(PAIRS),
        4 * rng.standard_normal((PAIRS, NEGATIVES)),
        rng.random(PAIRS) < 0.6,
    )
    negative[mask.argmax(), 2] = -np.inf
    return positive, negative, mask


def as_pairs(positive: np.ndarray, negative: np.ndarray, mask: np.ndarray) -> PairScores:
    return PairScores(
        jnp.asarray(positive, jnp.float32),
        jnp.asarray(negative, jnp.float32),
        jnp.asarray(mask),
        jnp.float32(0.5),
    )


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_softmax_by_formula(smoothing: float) -> None:
    """The target would compete with itself where it was drawn as a negative, or smoothing spread weight over what is not there."""
    positive, negative, mask = scores()
    expected = []
    for p in np.flatnonzero(mask):
        drawn = negative[p][np.isfinite(negative[p])]
        logits = np.concatenate([[positive[p]], drawn])
        weights = np.concatenate([[1 - smoothing], np.full(len(drawn), smoothing / len(drawn))])
        expected.append(-(weights * (logits - np.log(np.exp(logits).sum()))).sum())
    softmax = jax.jit(sampled_softmax, static_argnums=1)
    found = softmax(as_pairs(positive, negative, mask), smoothing)
    np.testing.assert_allclose(found, np.mean(expected) + 0.5, rtol=1e-5)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_generalised_bce_by_formula(calibration: float) -> None:
    """gBCE would raise the positive's probability to another power than Eq. 20 of its paper; with 0 it is binary cross-entropy."""
    positive, negative, mask = scores()
    rate = NEGATIVES / (ITEMS - 1)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    assert np.isclose(beta, {0.0: 1.0, 1.0: rate}.get(calibration, beta))
    terms = -np.log(sigmoid(positive) ** beta) - np.log(1 - sigmoid(negative)).sum(axis=1)
    np.testing.assert_allclose(
        generalised_bce(as_pairs(positive, negative, mask), ITEMS, calibration),
        terms[mask].mean() + 0.5,
        rtol=1e-5,
    )


def test_gradients_pass_what_is_left_out() -> None:
    """A negative that is the target itself scores -inf; its gradient must be nothing, and not NaN."""
    pairs = as_pairs(*scores())
    for loss in (
        binary_cross_entropy,
        lambda s: sampled_softmax(s, 0.1),
        lambda s: generalised_bce(s, ITEMS, 0.75),
    ):
        of_loss = jax.grad(lambda negative, loss=loss: loss(pairs._replace(negative=negative)))
        gradient = np.asarray(jax.jit(of_loss)(pairs.negative))
        left_out = ~np.isfinite(np.asarray(pairs.negative))
        assert (
            np.isfinite(gradient).all() and (gradient[left_out] == 0).all() and left_out.sum() == 1
        )
        assert (gradient[np.asarray(pairs.mask)][:, :2] > 0).any() and not gradient[
            ~np.asarray(pairs.mask)
        ].any()


def test_pairwise_loss_by_formula() -> None:
    """Eq. 6 would be another loss: the mean over the pairs that exist, the G negatives of a pair weighing as one."""
    rng = np.random.default_rng(0)
    positive, negative, mask = (
        rng.standard_normal(15) * 4,
        rng.standard_normal((15, 4)) * 4,
        rng.random(15) < 0.6,
    )
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    terms = -np.log(sigmoid(positive)) - np.log(1 - sigmoid(negative)).mean(axis=-1)
    scores = PairScores(
        jnp.asarray(positive, jnp.float32), jnp.asarray(negative, jnp.float32), jnp.asarray(mask)
    )
    np.testing.assert_allclose(binary_cross_entropy(scores), terms[mask].mean(), rtol=1e-5)


def test_pairwise_loss_at_its_limits() -> None:
    """Large scores would overflow, and a batch without any pair would divide by zero."""
    scores = PairScores(
        jnp.array([-200.0, 200.0]), jnp.array([[300.0], [-300.0]]), jnp.array([True, True])
    )
    np.testing.assert_allclose(binary_cross_entropy(scores), (200 + 300) / 2, rtol=1e-6)
    nobody = scores._replace(mask=jnp.zeros(2, bool))
    np.testing.assert_allclose(
        binary_cross_entropy(scores._replace(auxiliary=jnp.float32(7.0))), 250 + 7, rtol=1e-6
    )
    loss, gradient = jax.jit(
        jax.value_and_grad(
            lambda positive: binary_cross_entropy(nobody._replace(positive=positive))
        )
    )(scores.positive)
    assert loss == 0 and not np.asarray(gradient).any()
