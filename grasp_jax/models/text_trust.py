"""Estimates from training histories the probability that an item's text is right: it should agree with the texts of its companions.

Texts of items that are bought one after the other are more similar than texts of random items. So a right text agrees with the texts of the
item's companions, and a wrong text agrees with them no more than a random text does. The agreement is computed for the items' own texts
and for random texts, and the ratio of the two densities gives the probability that a text is right (noise-contrastive estimation, Gutmann
and Hyvarinen, 2010).
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from grasp_jax.knowledge.encoders.geometry import unit_rows
from grasp_jax.models.company import company_without_own

DRAWS = 3  # random texts of each item
STEPS = 25  # iterations of Newton's method
RIDGE = 1e-3  # hardly moves the fit, but the Hessian is regular if columns are equal or the two kinds of texts are separable
LARGEST = 30  # of |log ratio|: exp(-30) is 1e-13, so probabilities are 0 or 1 for all purposes, and exp does not overflow


class TextTrust(NamedTuple):
    """The estimated trust in the texts of items.

    Attributes:
      trust: [V] float32, probability that an item's text is right; for items without companions, the share of all texts that are right.
      share_right: share of all texts that are right.
    """

    trust: np.ndarray
    share_right: float


def text_trust(text: np.ndarray, near: sparse.csr_matrix) -> TextTrust:
    """Estimates trust in texts from the companions of items in training histories.

    Args:
      text: [V, E] vectors whose mean is near zero, as of rows of a bank and of whitened rows (`whitening_matrix`); zeros for no text.
      near: [V, V] from `company.companions`.
    """
    rng = np.random.default_rng(0)  # the same texts for the same data
    rows = unit_rows(text)
    judged = (np.asarray(near.sum(axis=1)).ravel() > 0) & (np.abs(rows).max(axis=1) > 0)
    company = company_without_own(rows, near)
    random_texts = [rows[rng.permutation(len(rows))] for _ in range(DRAWS)]
    agreement = [np.einsum("ve,ve->v", x, company) for x in (rows, *random_texts)]
    log_ratio = _log_ratio(agreement, near, judged)
    share = _share_wrong(log_ratio, judged)
    trust = np.where(judged, np.clip(1.0 - share * np.exp(-log_ratio[0]), 0.0, 1.0), 1.0 - share)
    # This is not iterated: trust in an item's companions depends on their agreement with its text, so companions weighted by this trust
    # would agree with a wrong text too.
    return TextTrust(trust.astype(np.float32), 1.0 - share)


def _log_ratio(
    agreement: list[np.ndarray], near: sparse.csr_matrix, judged: np.ndarray
) -> list[np.ndarray]:
    """log p(agreement | own text) / p(agreement | random text) for each array [V] of cosines, the first of own texts and the others of
    random texts, by logistic regression on the cosine and the number of companions.
    """
    size = np.log1p(np.diff(near.indptr))

    def features_of(cosine: np.ndarray) -> np.ndarray:
        columns = [np.ones_like(cosine), size, cosine, cosine * size, cosine**2, cosine**2 * size]
        return np.stack(columns, axis=1)

    features = [features_of(cosine) for cosine in agreement]
    x = np.concatenate([part[judged] for part in features])
    is_own = np.repeat([1.0, *[0.0] * DRAWS], judged.sum())
    weight = np.where(is_own > 0, 1.0, 1.0 / DRAWS)
    scale = np.maximum(np.abs(x).max(axis=0), 1e-12)
    x = x / scale
    theta = np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ theta, -LARGEST, LARGEST)))
        gradient = x.T @ (weight * (p - is_own)) + RIDGE * theta
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(theta))
        theta -= np.linalg.solve(hessian, gradient)
    return [np.clip((part / scale) @ theta, -LARGEST, LARGEST) for part in features]


def _share_wrong(log_ratio: list[np.ndarray], judged: np.ndarray) -> float:
    """Share of items' own texts that behave like random texts.

    Hardly any right text is below the first quartile of random texts. So the own texts below it are a quarter of the wrong ones, and the
    share of wrong texts is four times their share.
    """
    if not judged.any():
        return 0.0
    of_random_texts = np.concatenate([ratio[judged] for ratio in log_ratio[1:]])
    first_quartile = np.quantile(of_random_texts, 0.25)
    return float(np.clip((log_ratio[0][judged] < first_quartile).mean() / 0.25, 0.0, 1.0))
