"""GRASP (arXiv 2511.20177): LLM world knowledge for sequential recommendation, in JAX/Flax.

    import grasp_jax as gj

    shop = gj.Dataset.read("folder")
    model = gj.Recommender(method="grasp_plus", dropout=0.3, eval__select="full_unseen").fit(shop)
    model.recommend(users=["ann", "lee"], k=10)

The names below are imported when they are first used, so that `import grasp_jax` takes no time.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grasp_jax.api import Recommender
    from grasp_jax.comparison import compare
    from grasp_jax.config import Config
    from grasp_jax.config_file import open_config
    from grasp_jax.core.errors import TrainingDiverged, UserError
    from grasp_jax.data.dataset import Dataset
    from grasp_jax.models.registration import register_backbone, register_method

__version__ = "0.7.0"

_PLACES = {
    "Config": "grasp_jax.config",
    "Dataset": "grasp_jax.data.dataset",
    "Recommender": "grasp_jax.api",
    "TrainingDiverged": "grasp_jax.core.errors",
    "UserError": "grasp_jax.core.errors",
    "compare": "grasp_jax.comparison",
    "open_config": "grasp_jax.config_file",
    "register_backbone": "grasp_jax.models.registration",
    "register_method": "grasp_jax.models.registration",
}

__all__ = [
    "Config",
    "Dataset",
    "Recommender",
    "TrainingDiverged",
    "UserError",
    "compare",
    "open_config",
    "register_backbone",
    "register_method",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'grasp_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
