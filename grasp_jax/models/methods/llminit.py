"""LLMInit (Harte et al., 2023; Hu et al., 2024): the ID table starts as the first D principal components of the item text vectors.

Everything after the start is the plain backbone. LLM-ESR's public code (https://github.com/liuqidong07/LLM-ESR, data/pca.ipynb) takes the
components as scikit-learn gives them, and so do we: of the bank's rows, or as that code of the vectors as the encoder gave them
(`model.start_components`). Rows have length one before and after their mean is taken out, raw vectors are centred by scikit-learn alone.
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


def components_to_start_from(bank: Bank, facts: Facts) -> FrozenTable:
    """The table "start" [V, D], of the bank's rows or of raw vectors, as `model.start_components` says.

    Raises:
      UserError: as `principal_components`, or there are no raw vectors.
    """
    items = bank["items"]
    if facts.config.start_components == "raw":
        assert facts.raw_items is not None
        items = facts.raw_items()
    return FrozenTable("start", principal_components(items, facts.config.features))


def start_from_components(params: Params, tables: Tables) -> Params:
    """Parameters whose ID table is the frozen "start"."""
    return {**params, "encoder": {**params["encoder"], "table": tables["start"]}}


class LLMInit(Plain):
    """The plain backbone, whose ID table starts from text."""

    needs_bank: ClassVar[bool] = True

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """The principal components."""
        return [components_to_start_from(bank, facts)]

    def start(self, params: Params, tables: Tables) -> Params:
        """The ID table from text."""
        return start_from_components(params, tables)
