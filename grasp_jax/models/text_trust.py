"""How far to believe an item's text, learned from what training has: whether the text agrees with those of items bought next to it.

Items that are bought one after the other have texts more alike than chance. So a right text agrees with the company that its item keeps,
and a wrong one agrees as a text drawn at random does. How items agree with their own text and with one drawn at random is known, and the
ratio of the two densities tells the probability that a text is right (noise-contrastive estimation, Gutmann and Hyvarinen, 2010).
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from grasp_jax.knowledge.encoders.geometry import unit_rows
from grasp_jax.models.company import company_without_own

DRAWS = 3  # random texts of each item
STEPS = 25  # iterations of Newton's method
RIDGE = 1e-3


class TextTrust(NamedTuple):
    """The estimated trust in the texts of items.

    Attributes:
      trust: [V] float32, probability that an item's text is right; for items without companions, the share of all texts that are right.
      share_right: share of all texts that are right.
    """

    trust: np.ndarray
    share_right: float


def text_trust(text: np.ndarray, near: sparse.csr_matrix, seed: int = 0) -> TextTrust:
    """Estimates trust in texts from the companions of items in training histories.

    Args:
      text: [V, E] vectors whose mean is near zero, as rows of a bank and turned rows (`whitening_turn`) are; zeros where there is no text.
      near: [V, V] from `company.companions`.
      seed: of the random texts.
    """
    rng = np.random.default_rng(seed)
    rows = unit_rows(text)
    known = (np.asarray(near.sum(axis=1)).ravel() > 0) & (np.abs(rows).max(axis=1) > 0)
    company = company_without_own(rows, near)
    drawn = [rows[rng.permutation(len(rows))] for _ in range(DRAWS)]
    agreement = [_agreement(x, company) for x in (rows, *drawn)]
    log_ratio = _log_ratio(agreement, near, known)
    share = _share_wrong(log_ratio, known)
    trust = np.where(known, np.clip(1.0 - share * np.exp(-log_ratio[0]), 0.0, 1.0), 1.0 - share)
    # This is not iterated: trust in an item's companions depends on their agreement with its text, so companions weighted by this trust
    # would agree with a wrong text too.
    return TextTrust(trust.astype(np.float32), 1.0 - share)


def _agreement(rows: np.ndarray, company: np.ndarray) -> np.ndarray:
    """[V] cosines."""
    agreement: np.ndarray = np.einsum("ve,ve->v", rows, company)
    return agreement


def _log_ratio(
    agreement: list[np.ndarray], near: sparse.csr_matrix, known: np.ndarray
) -> list[np.ndarray]:
    """log p(agreement | own text) / p(agreement | random text) of each [V], by logistic regression on it and on the company's size."""
    size = np.log1p(np.diff(near.indptr))

    def features(agreed: np.ndarray) -> np.ndarray:
        columns = [np.ones_like(agreed), size, agreed, agreed * size, agreed**2, agreed**2 * size]
        return np.stack(columns, axis=1)

    each = [features(agreed) for agreed in agreement]
    x = np.concatenate([part[known] for part in each])
    is_own = np.repeat([1.0, *[0.0] * DRAWS], known.sum())
    weight = np.where(is_own > 0, 1.0, 1.0 / DRAWS)
    scale = np.maximum(np.abs(x).max(axis=0), 1e-12)
    x = x / scale
    theta = np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ theta, -30, 30)))
        gradient = x.T @ (weight * (p - is_own)) + RIDGE * theta
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(theta))
        theta -= np.linalg.solve(curvature, gradient)
    return [np.clip((part / scale) @ theta, -30, 30) for part in each]


def _share_wrong(log_ratio: list[np.ndarray], known: np.ndarray) -> float:
    """Share of items' own texts that behave like random texts.

    Hardly any right text is below the first quartile of random texts. So the own texts below it are a quarter of the wrong ones, and the
    share of wrong texts is four times their share.
    """
    if not known.any():
        return 0.0
    drawn = np.concatenate([part[known] for part in log_ratio[1:]])
    quarter = np.quantile(drawn, 0.25)
    return float(np.clip((log_ratio[0][known] < quarter).mean() / 0.25, 0.0, 1.0))
