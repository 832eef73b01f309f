"""Losses over scored pairs; `config.train.loss` names one, and "auto" is the method's own."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from grasp_jax.config import TrainConfig
from grasp_jax.models.auxiliary import mean_where
from grasp_jax.models.batch import PairScores
from grasp_jax.training.catalogue_loss import catalogue_cross_entropy
from grasp_jax.training.cross_entropy import CrossEntropy

# the type of `models.batch.Scores` from which the loss is computed
Loss = Callable[[Any], jax.Array]
# For a negative that does not exist, instead of -inf: exp(LOWEST - x) is 0 for every score x, but the difference of two of them is 0, not
# NaN. So gradients are finite even if no negative exists, as in a batch with only one target.
LOWEST = -1e30
CATALOGUE = "ce"  # the loss over all items, without random negatives
SHARED = ("gbce", "softmax")  # losses whose negatives are shared by a whole batch


def binary_cross_entropy(scores: PairScores) -> jax.Array:
    """[] Eq. 6, averaged over targets; the G negatives of a target together have the weight of one. Plus the method's additional loss."""
    return _mean(
        jax.nn.softplus(-scores.positive) + jax.nn.softplus(scores.negative).mean(axis=-1), scores
    )


def sampled_softmax(scores: PairScores, smoothing: float = 0.0) -> jax.Array:
    """[] cross-entropy of the target against its negatives, averaged over targets, plus the method's additional loss. If the score is
    a sum of towers, their cross-entropies are added.

    Args:
      scores: scores of pairs.
      smoothing: share of the target's weight that is moved evenly to the negatives (Szegedy et al., 2016, arXiv 1512.00567).
    """
    if not scores.towers:
        return _softmax(scores, smoothing)
    return (
        jnp.stack([_softmax(tower, smoothing) for tower in scores.towers]).sum() + scores.auxiliary
    )


def _softmax(scores: PairScores, smoothing: float) -> jax.Array:
    negative = jnp.maximum(scores.negative, LOWEST)
    total = jnp.logaddexp(scores.positive, jax.nn.logsumexp(negative, axis=-1))
    loss = total - scores.positive
    if smoothing:
        mean_negative = mean_where(scores.negative, jnp.isfinite(scores.negative), axis=-1)
        loss = (1.0 - smoothing) * loss + smoothing * (total - mean_negative)
    return _mean(loss, scores)


def generalised_bce(scores: PairScores, num_items: int, calibration: float) -> jax.Array:
    """[] gBCE (Petrov and Macdonald, 2023, arXiv 2308.07192, Eq. 17-20): the positive's probability to the power beta.

    beta = a (t (1 - 1/a) + 1/a) with the sampling rate a = G / (V - 1); t is `calibration`: 0 is binary cross-entropy, 1 makes scores
    calibrated probabilities.
    """
    sampling_rate = scores.negative.shape[-1] / (num_items - 1)
    beta = sampling_rate * (calibration * (1.0 - 1.0 / sampling_rate) + 1.0 / sampling_rate)
    return _mean(
        beta * jax.nn.softplus(-scores.positive) + jax.nn.softplus(scores.negative).sum(axis=-1),
        scores,
    )


def _mean(losses: jax.Array, scores: PairScores) -> jax.Array:
    return mean_where(losses, scores.mask) + scores.auxiliary


def choose_loss(
    name: str,
    config: TrainConfig,
    num_items: int,
    dtype: str = "float32",
    mesh: Mesh | None = None,
) -> Loss:
    """The loss function with the name "ce", "bce", "softmax" or "gbce".

    Equal settings give the same function, so trainings that differ only in other settings share a compiled step.

    Args:
      name: name of the loss.
      config: the `train` section.
      num_items: V.
      dtype: dtype of the factors of matrix products, `config.model.dtype`.
      mesh: devices that share the work.
    """
    return _loss(name, config.label_smoothing, config.gbce_calibration, num_items, dtype, mesh)


@functools.cache
def _loss(
    name: str,
    smoothing: float,
    calibration: float,
    num_items: int,
    dtype: str,
    mesh: Mesh | None,
) -> Loss:
    cross_entropy = CrossEntropy(smoothing, jnp.dtype(dtype), mesh)
    losses: dict[str, Loss] = {
        CATALOGUE: functools.partial(catalogue_cross_entropy, cross_entropy=cross_entropy),
        "bce": binary_cross_entropy,
        "softmax": lambda scores: sampled_softmax(scores, smoothing),
        "gbce": lambda scores: generalised_bce(scores, num_items, calibration),
    }
    return losses[name]
