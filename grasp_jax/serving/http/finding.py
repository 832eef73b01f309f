"""What people look for by eye: items by words of their titles, and the items of a history that a recommended one is most like."""

from typing import Any

import numpy as np

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
    titles = catalogue.folded_titles
    rows = [row for row, title in enumerate(titles) if all(word in title for word in wanted)]
    if (named := catalogue.rows.get(words.strip())) is not None and named not in rows:
        rows.append(named)
    found = np.array([row for row in rows if row not in snapshot.removed], np.int64)
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
