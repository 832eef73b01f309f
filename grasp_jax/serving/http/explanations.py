"""Why an item is recommended: similar items of the history, and how the model weights its sources."""

from typing import Any

import numpy as np

from grasp_jax.models.gates import NAMES
from grasp_jax.serving.answers import Answer
from grasp_jax.serving.http.snapshot import ServingSnapshot


def most_similar_in_history(
    item: int, history: np.ndarray, count: int, snapshot: ServingSnapshot
) -> list[dict[str, Any]]:
    """The items of a history, at most `count` and each once, whose vectors have the largest cosine with the vector of an item."""
    rows = np.unique(history[history != item])
    cosines = snapshot.unit(rows) @ snapshot.unit(np.array([item]))[0]
    best = np.argsort(-cosines, kind="stable")[:count]
    catalogue = snapshot.catalogue
    return [
        {"item": name, "title": title, "cosine": cosine}
        for name, title, cosine in zip(
            catalogue.ids[rows[best]].tolist(),
            catalogue.titles[rows[best]].tolist(),
            cosines[best].tolist(),
            strict=True,
        )
    ]


def gates_and_trust(
    position: int, answer: Answer, snapshot: ServingSnapshot
) -> dict[str, dict[str, float]]:
    """The gates of a recommended item, and the trust in its ID vector or text; empty if the method has neither.

    Args:
      position: of the item in the answer.
      answer: with gates if the method has them.
      snapshot: the model.
    """
    weights: dict[str, dict[str, float]] = {}
    if answer.gates is not None:
        weights["gates"] = dict(zip(NAMES, answer.gates[position].tolist(), strict=True))
    row = int(answer.items[position])
    if trust := {name: float(values[row]) for name, values in snapshot.trust.items()}:
        weights["trust"] = trust
    return weights
