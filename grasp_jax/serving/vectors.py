"""Vectors of items, as a click model or a vector database takes them, and the items nearest to an item."""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from grasp_jax.models.sequence_model import SequenceModel
from grasp_jax.serving.artifact import Artifact

BLOCK = 4096  # items or queries at a time
NO_ROWS = np.empty(0, np.int32)
COSINES = 1 << 26  # of queries with all items, at a time


def item_vectors(artifact: Artifact, params: Any, features: jax.Array) -> np.ndarray:
    """[V, D] float32 vectors of all items.

    Without gates a score is the inner product of a person's state and an item's vector. With gates an item's vector depends on the person;
    the result then has the vectors for neutral gates (pair logits of 0).
    """
    blocks = [features[begin : begin + BLOCK] for begin in range(0, len(features), BLOCK)]
    return np.concatenate(
        [np.asarray(_vectors(artifact.model, params, block, artifact.gated)) for block in blocks]
    )


@functools.partial(jax.jit, static_argnames=("model", "gated"))
def _vectors(model: SequenceModel, params: Any, features: jax.Array, gated: bool) -> jax.Array:
    def encoded(module: SequenceModel) -> jax.Array:
        if not gated:
            return module.item_vectors(features)
        logits, normaliser = jnp.zeros((len(features), 2)), None
        if module.encoder.normalises_gates:  # that of a history that has only this item
            normaliser = jnp.zeros((len(features), 3))
        return module.encoder(features, module.encoder.gates(logits, normaliser))

    vectors: Any = model.apply({"params": params}, method=encoded)
    return cast(jax.Array, vectors)


def nearest_items(
    vectors: np.ndarray, rows: np.ndarray, k: int, left_out: np.ndarray = NO_ROWS
) -> tuple[np.ndarray, np.ndarray]:
    """[n, k] items with the largest cosine to each of the items `rows` [n], without the item itself, and these cosines; -inf for the items
    `left_out` [u], which come last.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    items, cosines, size = [], [], max(1, min(BLOCK, COSINES // len(unit)))
    for begin in range(0, len(rows), size):
        block = rows[begin : begin + size]
        scores = unit[block] @ unit.T
        scores[np.arange(len(block)), block] = -np.inf
        scores[:, left_out] = -np.inf
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(
            best,
            np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable"),
            axis=1,
        )
        items.append(order)
        cosines.append(np.take_along_axis(scores, order, axis=1))
    return np.concatenate(items), np.concatenate(cosines)
