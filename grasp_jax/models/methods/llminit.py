"""LLMInit (Harte et al., 2023; Hu et al., 2024): the ID table starts as the first D principal components of the item text vectors.

Everything after the start is the plain backbone. LLM-ESR's public code takes the components as scikit-learn gives them, and so do we.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.models.batch import Params, Tables
from grasp_jax.models.frozen import Bank, FrozenTable
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.methods.plain import Plain


def principal_components(items: np.ndarray, features: int) -> np.ndarray:
    """[V, E] item vectors -> [V, D].

    Raises:
      UserError: there are fewer items or text dimensions than components.
    """
    from sklearn.decomposition import PCA

    items = np.asarray(items, np.float32)
    if features > min(items.shape):
        raise UserError(
            f"config.model.features: {features}; the ID table starts from principal components, at most {min(items.shape)} "
            f"for item vectors of shape {items.shape}"
        )
    components: np.ndarray = PCA(features, svd_solver="covariance_eigh").fit_transform(items)
    return components.astype(np.float32)


def start_from_components(params: Params, tables: Tables) -> Params:
    """Parameters whose ID table is the frozen "start"."""
    return {**params, "encoder": {**params["encoder"], "table": tables["start"]}}


class LLMInit(Plain):
    """The plain backbone, whose ID table starts from text."""

    needs_bank: ClassVar[bool] = True

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """The principal components."""
        return [FrozenTable("start", principal_components(bank["items"], facts.config.features))]

    def start(self, params: Params, tables: Tables) -> Params:
        """The ID table from text."""
        return start_from_components(params, tables)
