"""Searches items by the words of their titles."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow.compute as pc

from grasp_jax.serving.answers import as_text
from grasp_jax.serving.http.metrics import Metrics
from grasp_jax.serving.http.requests import Refused, shown
from grasp_jax.serving.http.settings import Limits
from grasp_jax.serving.http.snapshot import ServingSnapshot

LONGEST_SEARCH = 200  # characters
THREADS = 2  # Arrow computes without Python's lock, so two searches use two cores


class TitleSearches:
    """Searches in threads of their own: a search that takes too long keeps its thread, which a change of the model must not wait for.

    Args:
      most: searches that may run or wait, `Limits.searches`.
      metrics: counts refused searches.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(THREADS, "titles")
        self._room = threading.Semaphore(most)

    async def find(
        self, text: str, k: int, snapshot: ServingSnapshot, limits: Limits
    ) -> list[dict[str, Any]]:
        """`search_titles` in a thread.

        Raises:
          Refused: as in `check_search`, or `limits.searches` searches run or wait (503).
          TimeoutError: it took longer than `limits.seconds`; a search that has not begun is dropped.
        """
        check_search(text)
        if not self._room.acquire(blocking=False):
            self._metrics.refused.labels("searches").inc()
            raise Refused(503, f"{limits.searches} searches wait already; try again in a moment")
        try:
            search = self._threads.submit(search_titles, text, k, snapshot)
        except BaseException:
            self._room.release()
            raise
        search.add_done_callback(lambda _: self._room.release())
        return await asyncio.wait_for(asyncio.wrap_future(search), limits.seconds)


def check_search(text: str) -> None:
    """Raises Refused if a text has no words, or is too long."""
    if not text.split() or len(text) > LONGEST_SEARCH:
        raise Refused(
            422, f"search: {shown(text)}; expected 1 to {LONGEST_SEARCH} characters of a title"
        )


def search_titles(text: str, k: int, snapshot: ServingSnapshot) -> list[dict[str, Any]]:
    """Items whose title contains every word of the text, or whose id is the text; at most k, the most bought items first."""
    words = text.casefold().split()
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
