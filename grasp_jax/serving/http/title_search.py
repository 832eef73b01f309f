"""Searches items by the words of their titles."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from grasp_jax.serving.answers import as_text
from grasp_jax.serving.http.requests import Refused, shown
from grasp_jax.serving.http.snapshot import Snapshot

LONGEST_SEARCH = 200  # characters


def search_titles(text: str, k: int, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Items whose title contains every word of the text, or whose id is the text; at most k, the most bought items first.

    Raises:
      Refused: the text has no words, or is too long.
    """
    words = text.casefold().split()
    if not words or len(text) > LONGEST_SEARCH:
        raise Refused(
            422, f"search: {shown(text)}; expected 1 to {LONGEST_SEARCH} characters of a title"
        )
    catalogue = snapshot.catalogue
    rows = _matching_rows(words, catalogue.folded_titles)
    if (named := catalogue.rows.get(as_text(text))) is not None and named not in rows:
        rows = np.append(rows, named)
    rows = rows[snapshot.available[rows]]
    rows = rows[np.argsort(-catalogue.counts[rows], kind="stable")][:k]
    return [
        {"item": name, "title": title, "interactions": count}
        for name, title, count in zip(
            catalogue.ids[rows].tolist(),
            catalogue.titles[rows].tolist(),
            catalogue.counts[rows].tolist(),
            strict=True,
        )
    ]


def _matching_rows(words: list[str], titles: Any) -> np.ndarray:
    """Rows of the titles that contain every word. Arrow compares them while other threads of Python answer."""
    rows = np.arange(len(titles))
    for word in words:
        has_word = pc.match_substring(titles, word.encode(errors="replace"))
        rows, titles = rows[np.asarray(has_word)], titles.filter(has_word)
    return rows
