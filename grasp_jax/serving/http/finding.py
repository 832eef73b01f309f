"""What people look for by eye: items by words of their titles, and why an item is recommended."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from grasp_jax.models.gates import NAMES
from grasp_jax.serving.answers import Answer
from grasp_jax.serving.http.requests import Refused, shown
from grasp_jax.serving.http.snapshot import Snapshot

LONGEST_SEARCH = 200  # characters


def items_with(words: str, k: int, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Items whose title contains every word, or whose id is the text; at most k, the most bought items first.

    Raises:
      Refused: there are no words, or too many.
    """
    wanted = words.casefold().split()
    if not wanted or len(words) > LONGEST_SEARCH:
        raise Refused(
            422, f"search: {shown(words)}; expected 1 to {LONGEST_SEARCH} characters of a title"
        )
    catalogue = snapshot.catalogue
    found = _rows_with(wanted, catalogue.folded_titles)
    if (named := catalogue.rows.get(words.strip())) is not None and named not in found:
        found = np.append(found, named)
    found = found[snapshot.served[found]]
    found = found[np.argsort(-catalogue.counts[found], kind="stable")][:k]
    return [
        {"item": name, "title": title, "interactions": count}
        for name, title, count in zip(
            catalogue.ids[found].tolist(),
            catalogue.titles[found].tolist(),
            catalogue.counts[found].tolist(),
            strict=True,
        )
    ]


def _rows_with(words: list[str], titles: Any) -> np.ndarray:
    """Rows of the titles that contain every word. Arrow compares them while other threads of Python answer."""
    rows = np.arange(len(titles))
    for word in words:
        has_word = pc.match_substring(titles, word.encode(errors="replace"))
        rows, titles = rows[np.asarray(has_word)], titles.filter(has_word)
    return rows


def most_alike(
    item: int, history: np.ndarray, count: int, snapshot: Snapshot
) -> list[dict[str, Any]]:
    """The items of a history, at most `count` and each once, whose vectors have the largest cosine with the vector of an item."""
    own = np.unique(history[history != item])
    cosines = snapshot.unit(own) @ snapshot.unit(np.array([item]))[0]
    best = np.argsort(-cosines, kind="stable")[:count]
    catalogue = snapshot.catalogue
    return [
        {"item": name, "title": title, "cosine": cosine}
        for name, title, cosine in zip(
            catalogue.ids[own[best]].tolist(),
            catalogue.titles[own[best]].tolist(),
            cosines[best].tolist(),
            strict=True,
        )
    ]


def weights(place: int, answer: Answer, snapshot: Snapshot) -> dict[str, dict[str, float]]:
    """How the model weights what it knows of a recommended item: its gates, and the trust in its ID vector or text; empty if the method has
    neither.

    Args:
      place: of the item in the answer.
      answer: with gates if the method has them.
      snapshot: the model.
    """
    found: dict[str, dict[str, float]] = {}
    if answer.gates is not None:
        found["gates"] = dict(zip(NAMES, answer.gates[place].tolist(), strict=True))
    row = int(answer.items[place])
    if trust := {name: float(values[row]) for name, values in snapshot.trust.items()}:
        found["trust"] = trust
    return found
