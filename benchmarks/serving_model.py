"""The model of the serving benchmarks: an untrained SASRec, because speed does not depend on the parameters."""

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.config import Config
from grasp_jax.evaluation.ranker import item_features
from grasp_jax.models.build import build_model
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.serving.artifact import Artifact, on_host
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.serving.programs import one_history

LENGTH, FEATURES = 50, 64


def untrained(num_items: int) -> Artifact:
    """A plain SASRec that was not trained."""
    changes = {"model.features": FEATURES, "data.max_length": LENGTH, "model.method": "plain"}
    config = Config().with_fields(changes)
    sizes = ModelSizes(num_items, LENGTH)
    model = build_model(config.model, "plain", "sasrec", sizes)
    batch, _ = one_history(model.backbone.mask_at, jnp.zeros(LENGTH, jnp.int32), jnp.int32(1), None)
    params = jax.jit(lambda key: model.init(key, {}, batch)["params"])(jax.random.key(0))
    ids = np.arange(num_items)
    titles = np.array([f"Item number {n}" for n in range(num_items)])
    catalogue = Catalogue(ids, titles, np.ones(num_items, np.int64), {})
    features = np.asarray(item_features(model, params, {}))
    return Artifact(
        "plain", "sasrec", config, sizes, on_host(params), features, catalogue, {}, None, {}
    )
