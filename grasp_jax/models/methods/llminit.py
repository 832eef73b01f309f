"""LLMInit (Harte et al., 2023; Hu et al., 2024): the ID table starts as the first D principal components of the item text vectors.

Everything after the start is the plain backbone. LLM-ESR's public code takes the components as scikit-learn gives them, and so do we.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from grasp_jax.errors import UserError
from grasp_jax.models.methods.method import Bank, Facts, Method
from grasp_jax.models.methods.plain import encoder


def principal_components(bank: Bank, facts: Facts) -> Bank:
    """[V, E] item vectors -> {"start": [V, D]}.

    Raises:
      UserError: there are fewer items or text dimensions than components.
    """
    from sklearn.decomposition import PCA

    items, features = np.asarray(bank["items"], np.float32), facts.config.features
    if features > min(items.shape):
        raise UserError(
            f"config.model.features: {features}; the ID table starts from principal components, at most {min(items.shape)} "
            f"for item vectors of shape {items.shape}"
        )
    return {"start": PCA(features, svd_solver="covariance_eigh").fit_transform(items).astype(np.float32)}


def start_from_components(params: Any, tables: Mapping[str, Any]) -> Any:
    """Parameters whose ID table is the frozen "start"."""
    return params | {"encoder": params["encoder"] | {"table": tables["start"]}}


METHOD = Method(encoder, principal_components, start_from_components, needs_bank=True)
